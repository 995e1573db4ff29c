// Review: what deserves a look in the labels of a run, worst first, and how to correct it.
//
// A class key corrects the tags of the ball that a finding names, or makes a click at its point.

import { lookActions } from "./looking.js";

const SHOWN = 300; // findings in the list
const AROUND = 1; // meters shown around a finding without a radius

export class Reviewing {
  constructor(app) {
    this.app = app;
    this.current = null;
    this.scanOf = null;
    // What was looked at, kept while the window is open: names and ids.
    this.seen = new Set(JSON.parse(sessionStorage.getItem("looked at") ?? "[]"));
  }

  enter() {
    this.app.loadDense(null);
    if (this.scanOf !== this.app.scan) this.current = null;
    this.scanOf = this.app.scan;
    this.show();
    const [first] = this.app.readonly ? this.findings : this.open;
    if (!this.current && first) this.select(first);
  }

  get findings() {
    return this.app.scan.findings;
  }

  get items() {
    return this.findings;
  }

  get open() {
    return this.findings.filter((finding) => !this.seen.has(this.nameOf(finding)));
  }

  get ball() {
    const id = this.current?.ball ?? null;
    return id === null ? null : this.app.scan.balls.find((ball) => ball.id === id) ?? null;
  }

  // Whether the finding is about a ball that the files of this page say nothing of.
  get untagged() {
    return this.ball?.state === "open";
  }

  nameOf(finding) {
    return `${this.app.scan.name} ${finding.id} ${finding.text}`;
  }

  select(finding) {
    this.current = finding;
    this.show();
    if (finding) this.app.view.flyTo(finding.point, Math.max(finding.radius || 0, AROUND));
  }

  show() {
    const { app, current } = this;
    const { point: center, radius } = current ?? { point: [0, 0, 0], radius: 0 };
    const shown = radius || (current ? 0.3 : 0);
    app.view.setFocus({ center, radius: shown, clear: Math.max(shown, 0.5) });
    app.showMarks();
    const place = this.findings.indexOf(current) + 1;
    app.panel.showTask({
      title: current ? `Finding ${place} of ${this.findings.length}` : "Review",
      text: this.text(),
      actions: this.actions(),
    });
    this.showClasses();
    const rows = this.findings.slice(0, SHOWN).map((finding) => this.row(finding));
    app.panel.showExtra("What deserves a look, worst first", rows, "Nothing.");
  }

  text() {
    const { current } = this;
    if (!this.findings.length) return "No findings in this scan.";
    if (!current) return "Choose a finding in the list, or look around.";
    if (this.app.readonly) return current.text;
    return `${current.text} ${this.whatKeysDo()}`;
  }

  whatKeysDo() {
    if (this.untagged) return "Here on the page it is not tagged yet.";
    return this.ball ? "Class keys change the tags of this ball." :
      "A class key makes a click here.";
  }

  actions() {
    const { app, current } = this;
    if (app.readonly) return lookActions(app);
    const looked = {
      label: "Looked at, next", key: "Space", press: () => this.accept(), main: true,
    };
    const quick = this.untagged ? [{ label: "Tag this ball", press: () => this.tagBall() }] :
      (current?.classes ?? []).map((index) => ({
        label: this.describe(index), key: app.classes[index].key, press: () => this.correct(index),
      }));
    return [...quick, ...(current ? [looked] : []),
      { label: "Undo", key: "u", press: () => app.undo() }];
  }

  // What pressing a class does to the current finding.
  describe(index) {
    const { name } = this.app.classes[index];
    const { ball } = this;
    if (!ball) return `Click: this is ${name}`;
    return ball.tags.includes(index) ? `Take ${name} from this ball` : `Add ${name} to this ball`;
  }

  showClasses() {
    const { app, ball, current } = this;
    app.showClasses({
      pressed: (i) => (ball ? ball.tags.includes(i) : undefined), only: true,
      press: (i) => (current && !app.readonly ? this.correct(i) : app.layers.isolate(i)),
    });
  }

  row(finding) {
    const done = this.seen.has(this.nameOf(finding));
    return {
      id: finding.id, title: finding.kind, text: finding.text, done,
      selected: finding === this.current, press: () => this.select(finding),
    };
  }

  onKey(key) {
    if (key === " ") return this.accept();
    if (key === "Enter") return this.select(this.current ?? this.open[0] ?? null);
    if (key === "Backspace") return this.step(-1);
    return false;
  }

  step(by) {
    const place = this.findings.indexOf(this.current) + by;
    if (this.findings[place]) this.select(this.findings[place]);
  }

  accept() {
    if (this.current) this.markSeen(this.current);
    const behind = this.open.filter(
      (f) => this.findings.indexOf(f) > this.findings.indexOf(this.current));
    const next = behind[0] ?? this.open[0] ?? null;
    if (next) return this.select(next);
    this.show();
    return this.app.nextReviewed();
  }

  markSeen(finding) {
    this.seen.add(this.nameOf(finding));
    sessionStorage.setItem("looked at", JSON.stringify([...this.seen]));
  }

  onClassKey(index) {
    return this.current ? this.correct(index) : this.app.layers.isolate(index);
  }

  tagBall() {
    this.app.tagging.ballIds.set(this.app.scan.index, this.ball.id);
    this.app.setMode("tag");
  }

  async correct(index) {
    const { app, current, ball } = this;
    if (!current) return;
    if (this.untagged) return this.tagBall();
    const { scan } = app;
    const done = ball ? await this.correctTag(scan, ball, index) :
      await app.addClick(scan, current.point, index, "yes");
    if (!done) return;
    this.markSeen(current);
    if (app.mode === this && app.scan === scan) this.show();
  }

  async correctTag(scan, ball, index) {
    const { tagging } = this.app;
    const had = ball.tags.includes(index);
    const tags = had ? ball.tags.filter((tag) => tag !== index) : [...ball.tags, index];
    const before = { state: ball.state, tags: ball.tags };
    const after = { state: "tagged", tags: tags.toSorted((a, b) => a - b) };
    if (!(await tagging.post(scan, ball, after, before))) return false;
    this.app.remember(async () => {
      const undone = await tagging.post(scan, ball, before, after);
      this.app.mode.show();
      return undone;
    });
    return true;
  }
}
