// Clicks: one point is picked, then a class says what it is, or what it is not.

const SHAPES = { yes: 0, no: 1, none: 2, unsure: 2 };
const GREY = [150, 150, 150];
const PICKED = [255, 255, 255];

export class Clicking {
  constructor(app) {
    this.app = app;
    this.picked = null; // the point that waits for its class
    this.selected = null; // id of a click
    this.negative = false; // the next class is what the point is not
  }

  enter() {
    this.picked = this.selected = null;
    this.show();
  }

  leave() {
    this.picked = this.selected = null;
  }

  show() {
    const { app } = this;
    const { clicks } = app.scan;
    app.view.setFocus({});
    app.showMarks(this.selected, this.picked);
    app.panel.showTask({
      title: "Clicks", chip: { text: `${clicks.length} in this scan` },
      text: this.picked ? `Now press what this point is${this.negative ? " NOT" : ""}.` :
        "Click on a point of the scan, then say what it is.",
      actions: this.actions(),
    });
    app.showClasses({
      pressed: () => undefined, press: (i) => this.answer(i, this.negative),
      note: () => (this.negative ? "not" : ""), only: true,
    });
    app.panel.showExtra("Clicks of this scan", clicks.map((click) => this.row(click)), "None yet.");
  }

  actions() {
    return [
      { label: "This is no …", key: "-", pressed: this.negative, press: () => this.flip() },
      { label: "Remove click", key: "Del", press: () => this.remove(),
        disabled: this.selected === null },
      { label: "Undo", key: "u", press: () => this.app.undo() },
      { label: "Back", key: "c", press: () => this.app.leaveClicks(), main: true },
    ];
  }

  row(click) {
    return {
      id: click.id, title: clickTitle(click, this.app.classes),
      selected: click.id === this.selected, press: () => this.select(click),
    };
  }

  select(click) {
    this.selected = click.id;
    this.picked = null;
    this.app.view.flyTo(click.point, 1);
    this.show();
  }

  flip() {
    this.negative = !this.negative;
    this.show();
  }

  onPick(point) {
    if (!point) return this.app.say("No point is there. Zoom in and click on a point.", "hint");
    this.picked = point;
    this.selected = null;
    this.app.say("");
    this.show();
  }

  // Shift makes "this is no ..." of a class key.
  onClassKey(index, shift) {
    return this.answer(index, this.negative || shift);
  }

  onKey(key) {
    if (key === "Delete") return this.remove();
    if (key === "Backspace" && this.selected !== null) return this.remove();
    if (key === "-") return this.flip();
    if (key === "Escape") return this.enter();
    return false;
  }

  async answer(index, negative) {
    const { app } = this;
    if (!this.picked) return app.say("First click on a point of the scan.", "hint");
    const { scan } = app;
    const click = await app.addClick(scan, this.picked, index, negative ? "no" : "yes");
    if (!click) return;
    this.picked = null;
    this.selected = click.id;
    this.negative = false;
    if (app.mode === this) this.show();
  }

  async remove() {
    const { app } = this;
    const { scan } = app;
    const click = scan.clicks.find(({ id }) => id === this.selected);
    if (!click) return app.say("Choose a click in the list first.", "hint");
    if (!(await app.removeClick(scan, click))) return;
    app.remember(async () => {
      const back = await app.postClick(scan, click.point, click.class, click.answer);
      app.mode.show();
      return back;
    });
    this.selected = null;
    if (app.mode === this) this.show();
  }
}

export function clickTitle(click, classes) {
  if (click.answer === "unsure") return "not sure";
  if (click.answer === "none" || click.class === null) return "none of the classes";
  const { name } = classes[click.class];
  return click.answer === "no" ? `no ${name}` : name;
}

// What the view draws for clicks and for the point that waits.
export function clickMarks(scan, classes, selected, picked) {
  const marks = scan.clicks.map((click) => ({
    point: click.point, shape: SHAPES[click.answer], selected: click.id === selected,
    color: click.class === null ? GREY : hexColor(classes[click.class].color),
  }));
  if (picked) marks.push({ point: picked, shape: SHAPES.none, selected: true, color: PICKED });
  return marks;
}

export function hexColor(text) {
  return [1, 3, 5].map((start) => Number.parseInt(text.slice(start, start + 2), 16));
}
