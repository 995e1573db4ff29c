// Tagging: which classes are in the bright ball, ball after ball, or in the whole scan.
//
// Nothing is ticked before a person ticks it. Ticks that are not saved stay with their ball
// while the window is open, also over a reload.

import { OUTSIDE } from "./cloud.js";
import { lookActions } from "./looking.js";
import { readJson } from "./source.js";

const TICKS = "ticks that are not saved";

export class Tagging {
  constructor(app) {
    this.app = app;
    this.drafts = new Map(); // of a ball -> set of ticked classes, if they are not saved
    this.ballIds = new Map(); // scan -> its current ball
  }

  get scan() {
    return this.app.scan;
  }

  get ball() {
    return this.scan.balls.find((ball) => ball.id === this.ballIds.get(this.scan.index)) ?? null;
  }

  get items() {
    return this.scan.balls;
  }

  get current() {
    return this.ball;
  }

  get draft() {
    return this.drafts.get(this.nameOf(this.scan, this.ball)) ?? new Set(this.ball.tags);
  }

  nameOf(scan, ball) {
    return [this.app.state.data, scan.name, ...ball.center].join(" ");
  }

  // Takes ticks over from before a reload. Classes are kept by name: their order may change.
  readTicks() {
    const indices = new Map(this.app.classes.map(({ name }, i) => [name, i]));
    for (const [ball, names] of JSON.parse(sessionStorage.getItem(TICKS) ?? "[]")) {
      const known = names.filter((name) => indices.has(name));
      this.drafts.set(ball, new Set(known.map((name) => indices.get(name))));
    }
  }

  writeTicks() {
    const named = ([ball, ticks]) => [ball, [...ticks].map((i) => this.app.classes[i].name)];
    sessionStorage.setItem(TICKS, JSON.stringify([...this.drafts].map(named)));
  }

  enter() {
    const [first = null] = this.scan.balls;
    const start = this.app.readonly ? first : this.nextOpen() ?? first;
    this.select(this.ball ?? start);
  }

  select(ball) {
    if (!ball) return this.show();
    this.ballIds.set(this.scan.index, ball.id);
    this.show();
    this.app.view.flyTo(ball.center, ball.radius);
    this.app.loadDense(ball);
  }

  // The next open ball behind the current one, from the start again at the end.
  nextOpen() {
    const { balls } = this.scan;
    const start = this.app.state.helpful ? 0 : balls.indexOf(this.ball) + 1;
    const order = [...balls.slice(start), ...balls.slice(0, start)];
    return order.find((ball) => ball.state === "open" && ball !== this.ball) ?? null;
  }

  show() {
    const { app, ball } = this;
    if (!ball) return this.showNoBall();
    app.view.setFocus({
      center: ball.center, radius: ball.radius,
      outside: app.hideOutside ? OUTSIDE.HIDDEN : OUTSIDE.GREY,
    });
    app.showMarks();
    const place = this.scan.balls.indexOf(ball) + 1;
    app.panel.showTask({
      title: `Ball ${place} of ${this.scan.balls.length}`, chip: this.chip(),
      text: app.readonly ? "The ball is the bright part of the scan. Classes in it are ticked." :
        "Tick every class that is in the bright ball, even a small part of it.",
      actions: this.actions(),
    });
    app.showClasses({
      pressed: (i) => this.draft.has(i), press: app.readonly ? null : (i) => this.toggle(i),
    });
    app.panel.showExtra(null);
  }

  showNoBall() {
    this.app.view.setFocus({});
    this.app.panel.showTask({
      title: "No ball", text: "This scan has no ball.",
      actions: this.app.readonly ? lookActions(this.app) : [],
    });
    this.app.panel.showClasses(null);
    this.app.panel.showExtra(null);
  }

  chip() {
    if (this.changed()) return { kind: "unsaved", text: "not saved yet" };
    const { state, tags } = this.ball;
    if (state === "open") return { text: "open" };
    if (state === "unsure") return { kind: "saved", text: "saved: not sure" };
    const what = tags.length ? `${tags.length} ticked` : "nothing here";
    return { kind: "saved", text: `saved: ${what}` };
  }

  changed() {
    const { tags } = this.ball;
    return this.draft.size !== tags.length || tags.some((tag) => !this.draft.has(tag));
  }

  actions() {
    if (this.app.readonly) return lookActions(this.app);
    return [
      { label: "Save, next ball", key: "Space", press: () => this.saveNext(), main: true },
      { label: "Nothing here", key: "n", press: () => this.saveAs("tagged", []) },
      { label: "Not sure", key: "m", press: () => this.saveAs("unsure", []) },
      { label: "Back", key: "⌫", press: () => this.back() },
      { label: "Undo", key: "u", press: () => this.app.undo() },
    ];
  }

  toggle(index) {
    if (!this.ball) return;
    const { draft } = this;
    if (!draft.delete(index)) draft.add(index);
    this.drafts.set(this.nameOf(this.scan, this.ball), draft);
    this.writeTicks();
    this.app.say("");
    this.show();
  }

  onKey(key) {
    if (key === " " || key === "Enter") return this.saveNext();
    if (key === "Backspace") return this.back();
    if (key === "n") return this.saveAs("tagged", []);
    if (key === "m") return this.saveAs("unsure", []);
    return false;
  }

  saveNext() {
    const { ball } = this;
    if (!ball) return this.app.nextScan();
    if (!this.changed() && ball.state !== "open") {
      return this.nextOpen() ? this.goOn() : this.app.nextScan();
    }
    if (!this.draft.size) {
      return this.app.say("Nothing is ticked. Press n if no class is in this ball, " +
        "m if you are not sure.", "hint");
    }
    return this.saveAs("tagged", [...this.draft].sort((a, b) => a - b));
  }

  // Saves the current ball and goes on; stays on it if that fails.
  async saveAs(state, tags) {
    const { ball, scan, app } = this;
    if (!ball) return;
    const before = { state: ball.state, tags: ball.tags };
    if (!(await this.post(scan, ball, { state, tags }, before))) return;
    app.remember(() => this.restore(scan, ball, before, { state, tags }));
    if (app.scan === scan) await this.goOn();
  }

  // Saves a state of a ball; says whether it is on disk now.
  async post(scan, ball, after, before) {
    const path = `api/scan/${scan.index}/ball/${ball.id}`;
    const answer = await this.app.save(path, { ...after, before }, (refused) => {
      if (refused.ball) this.replace(scan, ball, refused.ball);
    }, after.state === "open" ? ball : null);
    if (!answer) return false;
    this.replace(scan, ball, answer.ball);
    return true;
  }

  // Takes over what is on disk, also instead of unsaved ticks.
  replace(scan, ball, known) {
    const latest = this.app.latest(scan);
    Object.assign(ball, known);
    Object.assign(latest.balls.find(({ id }) => id === ball.id), known);
    this.drafts.delete(this.nameOf(scan, ball));
    this.writeTicks();
    if (this.app.scan === latest && this.app.mode === this) this.show();
  }

  async restore(scan, ball, before, after) {
    if (!(await this.post(scan, ball, before, after))) return false;
    await this.app.openScan(scan.index, "tag");
    this.select(this.scan.balls.find(({ id }) => id === ball.id));
    return true;
  }

  back() {
    const { balls } = this.scan;
    const place = balls.indexOf(this.ball);
    this.select(balls[(place - 1 + balls.length) % balls.length]);
  }

  async goOn() {
    if (this.app.state.helpful) await this.orderAnew();
    const next = this.nextOpen();
    if (next) return this.select(next);
    this.show();
    this.app.scanDone();
  }

  // What is most telling depends on what was said: the open balls, in their order now.
  async orderAnew() {
    const { scan, ball } = this;
    const { balls } = await readJson(`api/scan/${scan.index}`);
    scan.balls = [...balls.filter(({ state }) => state !== "open"),
      ...balls.filter(({ state }) => state === "open")];
    this.ballIds.set(scan.index, ball.id);
  }
}

// The classes of the whole scan, instead of those of its balls.
export class SceneTagging {
  constructor(app) {
    this.app = app;
    this.drafts = new Map(); // scan -> set of ticked classes
  }

  get saved() {
    return this.app.scan.scene_tags;
  }

  get items() {
    return [this.app.scan];
  }

  get current() {
    return this.app.scan;
  }

  get draft() {
    const { index } = this.app.scan;
    if (!this.drafts.has(index)) this.drafts.set(index, new Set(this.saved?.tags ?? []));
    return this.drafts.get(index);
  }

  enter() {
    this.app.loadDense(null);
    this.app.view.reset();
    this.show();
  }

  show() {
    const { app, saved } = this;
    app.view.setFocus({});
    app.showMarks();
    app.panel.showTask({
      title: "Tags of the whole scan",
      chip: saved ? { kind: "saved", text: `saved: ${saved.tags.length} ticked` } :
        { text: "none saved" },
      text: this.text(),
      actions: app.readonly ? lookActions(app) : [
        { label: "Save", key: "Space", press: () => this.save([...this.draft]), main: true },
        { label: "Take away", press: () => this.save(null), disabled: !saved },
        { label: "Undo", key: "u", press: () => app.undo() },
        ...(app.wholeScenes ? [] :
          [{ label: "Back to the balls", key: "s", press: () => app.setMode("tag") }]),
      ],
    });
    app.showClasses({
      pressed: (i) => this.draft.has(i), press: app.readonly ? null : (i) => this.toggle(i),
    });
    app.panel.showExtra(null);
  }

  text() {
    if (this.app.readonly) return "Classes that occur anywhere in this scan are ticked.";
    const more = this.app.wholeScenes ? "" : " Balls tell much more.";
    return `Tick every class that occurs anywhere in this scan.${more}`;
  }

  toggle(index) {
    if (!this.draft.delete(index)) this.draft.add(index);
    this.show();
  }

  onKey(key) {
    if (key !== " " && key !== "Enter") return false;
    return this.save([...this.draft]);
  }

  async save(tags) {
    const { app } = this;
    const { scan } = app;
    if (tags && !tags.length) return app.say("Nothing is ticked.", "hint");
    const before = scan.scene_tags;
    const after = tags && tags.toSorted((a, b) => a - b);
    if (!(await this.post(scan, after, before))) return;
    app.remember(async () => {
      await app.openScan(scan.index, "scene");
      return this.post(app.scan, before?.tags ?? null, app.scan.scene_tags);
    });
    if (tags && (app.wholeScenes || !scan.balls.length)) await app.nextScan();
  }

  async post(scan, tags, before) {
    const take = (answer) => {
      if (!("scene_tags" in answer)) return;
      const latest = this.app.latest(scan);
      latest.scene_tags = answer.scene_tags;
      this.drafts.delete(scan.index);
      if (this.app.scan === latest && this.app.mode === this) this.show();
    };
    const path = `api/scan/${scan.index}/scene`;
    const answer = await this.app.save(path, { tags, before }, take, tags ? null : before);
    if (answer) take(answer);
    return Boolean(answer);
  }
}
