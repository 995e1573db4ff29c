// The help: every key in one table, and what the tags mean.

import { element } from "./panel.js";

const KEYS = [
  ["1 … 9, 0, letters", "tick or untick the class with that key"],
  ["/", "find a class by its first letters; Enter ticks the first one"],
  ["Space or Enter", "save, then the next open ball"],
  ["Backspace", "the ball before"],
  ["n", "nothing here: no class of the list is in the ball"],
  ["m", "not sure: this ball is left out"],
  ["u", "undo the last saved change"],
  ["s", "tags of the whole scan"],
  ["c", "clicks: say of one point what it is"],
  ["Shift + letter, or - then a key", "clicks: say what the point is not"],
  ["Delete", "clicks: remove the chosen click"],
  ["t", "look from the top"],
  ["x", "show the whole scan"],
  ["h", "hide all points outside of the ball"],
  ["?", "this help"],
];
const OTHER_MODES = [
  ["Ask: 1, 2, …", "the likely answers; other classes by the key beside them, or by /"],
  ["Ask: 0, m, Space", "none of the classes, not sure, skip"],
  ["Review: Space, Enter", "looked at and next; fly to the place"],
  ["Review: a class key", "changes the tags of the ball, or makes a click: the button says which"],
];
const LOOKING = [
  ["Space or Enter", "the next ball, question or finding, then the next scan"],
  ["Backspace", "the one before"],
  ["t", "look from the top"],
  ["x", "show the whole scan"],
  ["h", "hide all points outside of the ball"],
  ["a class key", "in a review: show the labels of this class only"],
  ["?", "this help"],
];
const MOUSE = [
  ["drag", "turn"],
  ["Shift + drag, or right button", "move"],
  ["wheel, or two fingers", "zoom to the pointer"],
  ["double click", "turn around this point"],
];

export function showHelp(readonly) {
  const dialog = document.getElementById("help");
  const close = element("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const title = readonly ? "How to look around" : "How to tag";
  dialog.replaceChildren(
    element("header", {}, element("h2", {}, title), close),
    ...(readonly ? [table(LOOKING)] : tagging()),
    element("h3", {}, "Mouse and touchpad"), table(MOUSE),
  );
  dialog.showModal();
}

function tagging() {
  return [
    element("p", {}, "One part of the scan is bright: the ball. Tick every class that is in it, " +
      "even if only a small part is inside. Then press Space. Everything is saved on this " +
      "computer before the page says so; you can stop at any time and go on later."),
    table(KEYS), element("h3", {}, "Questions and review"), table(OTHER_MODES),
  ];
}

function table(rows) {
  return element("table", {}, ...rows.map(([keys, what]) =>
    element("tr", {}, element("th", { scope: "row" }, keys), element("td", {}, what))));
}
