// The right side of the page: what is asked, the classes as buttons, the actions of the mode.
//
// A mode describes what to show as plain data; the panel draws it and keeps the keyboard focus.

const byId = (id) => document.getElementById(id);

// An element with properties; data-* and aria-* are given as attributes.
export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.includes("-")) node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export class Panel {
  constructor() {
    this.found = []; // classes that begin with what was typed
    // A click leaves the focus where it was, so that Space stays "save and next".
    document.addEventListener("mousedown", (event) => {
      if (!event.target.closest("button")) return;
      event.preventDefault();
      if (document.activeElement instanceof HTMLInputElement) document.activeElement.blur();
    });
  }

  // task: {title, text, chip, actions: [{label, key, press, main, pressed, disabled}]}
  showTask({ title, text, chip = null, actions }) {
    keepingFocus(() => {
      const mark = chip && element("span", { className: `chip ${chip.kind ?? ""}` }, chip.text);
      byId("task-title").replaceChildren(title, " ", mark ?? "");
      byId("task-text").textContent = text;
      byId("actions").replaceChildren(...actions.map(actionButton));
    });
  }

  // rows: [{index, name, color, key, pressed, note, press, only, isOnly}]; null: no classes here
  showClasses(rows) {
    byId("answers").hidden = rows === null;
    if (rows === null) return;
    // Classes that do nothing need no search.
    byId("class-search").hidden = rows.length > 0 && rows.every(({ press }) => !press);
    const wanted = byId("class-search").value.trim().toLowerCase();
    const starts = (row) => row.name.toLowerCase().startsWith(wanted);
    this.found = wanted ? rows.filter(starts) : [];
    const shown = wanted ? this.found : rows;
    keepingFocus(() => byId("classes").replaceChildren(...shown.map(classButton)));
    if (this.found.length) byId("classes").firstChild.classList.add("first-found");
    const nothing = !rows.length ? "There is no class yet. Add the first one below." :
      `No class starts with "${wanted}". Add it below.`;
    if (!shown.length) byId("classes").append(element("p", {}, nothing));
  }

  // rows: [{id, title, text, note, selected, done, press}] below the classes, or none
  showExtra(heading, rows, empty = "") {
    const section = byId("extra");
    section.hidden = heading === null;
    if (heading === null) return;
    keepingFocus(() => {
      const list = element("ul", {}, ...rows.map(extraRow));
      section.replaceChildren(element("h3", {}, heading), rows.length ? list : empty);
    });
    const current = section.querySelector('[aria-current="true"]');
    if (current) section.lastChild.scrollTop = current.offsetTop - section.lastChild.offsetTop - 40;
  }

  // modes: [{id, label, key, pressed, press}]
  showModes(modes) {
    keepingFocus(() => byId("modes").replaceChildren(...modes.map(actionButton)));
  }
}

function actionButton({ label, key, press, main = false, pressed, disabled = false }) {
  const button = element("button", {
    type: "button", onclick: press, disabled, className: main ? "main" : "",
    "aria-pressed": pressed, "data-id": `action ${label}`,
  }, label);
  if (key) button.append(" ", element("kbd", {}, key));
  return button;
}

function classButton({ index, name, color, key, pressed, note, press, only, isOnly }) {
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = color;
  const inside = only ? null : swatch;
  const button = element("button", {
    type: "button", className: "class", title: name, onclick: press, disabled: !press,
    "aria-pressed": pressed, "data-id": `class ${index}`, "data-class": name,
  }, element("span", { className: "tick", "aria-hidden": "true" }, pressed ? "✓" : ""), inside,
  element("span", { className: "name" }, name), note ? element("em", {}, note) : null,
  key ? element("kbd", {}, key) : null);
  if (!only) return button;
  const look = element("button", {
    type: "button", className: "only", onclick: only, "aria-pressed": isOnly,
    "aria-label": `Show only ${name}`, "data-id": `only ${index}`, title: `Show only ${name}`,
  }, swatch);
  return element("div", { className: "pair" }, look, button);
}

function extraRow({ id, title, text, note, selected = false, done = false, press }) {
  const button = element("button", {
    type: "button", className: `row${done ? " done" : ""}`, onclick: press,
    "aria-current": selected, "data-id": `row ${id}`,
  }, element("strong", {}, done ? `✓ ${title}` : title), text ? ` ${text}` : "");
  if (note) button.append(element("small", {}, note));
  return element("li", {}, button);
}

// Draws anew and gives the focus back to the button that had it.
function keepingFocus(draw) {
  const id = document.activeElement?.dataset?.id;
  draw();
  if (!id) return;
  const same = [...document.querySelectorAll("[data-id]")].find((node) => node.dataset.id === id);
  same?.focus({ preventScroll: true });
}
