// Questions: "what is this?" at the places where an answer helps most, one after another.

import { OUTSIDE } from "./cloud.js";
import { lookActions } from "./looking.js";

const AROUND = 1.2; // meters around a region that are shown
const GLOW = 0.25;
const DIGITS = "123456789";
const NONE = "0"; // the key of "none of the classes"

export class Asking {
  constructor(app) {
    this.app = app;
    this.current = null;
    this.passed = new Set(); // "scan id" of skipped questions
  }

  enter() {
    this.current = null;
    if (this.app.readonly) this.select(this.items[0] ?? null);
    else this.goOn();
  }

  get items() {
    return this.app.scan.questions;
  }

  get open() {
    const { questions, index } = this.app.scan;
    return questions.filter((q) => !q.answered && !this.passed.has(`${index} ${q.id}`));
  }

  goOn() {
    const { questions } = this.app.scan;
    const behind = this.open.filter((q) => questions.indexOf(q) > questions.indexOf(this.current));
    this.select(behind[0] ?? this.open[0] ?? null);
  }

  select(question) {
    this.current = question;
    this.show();
    if (!question) return;
    this.app.view.flyTo(question.point, Math.max(question.radius, AROUND));
  }

  show() {
    const { app, current } = this;
    app.panel.showExtra(null);
    app.showMarks(null, current?.point ?? null);
    if (!current) return this.showDone();
    const { center, radius } = { center: current.point, radius: Math.max(current.radius, 0.05) };
    app.view.setFocus({
      center, radius, clear: Math.max(radius, 0.8), outside: OUTSIDE.DARK, glowing: GLOW,
    });
    const { questions } = app.scan;
    app.panel.showTask({
      title: "What is this?",
      text: app.readonly ? "The question is about the small white ring. Around it is yellow." :
        "Say what is inside the small white ring. The place around it is yellow.",
      chip: { text: `${questions.indexOf(current) + 1} of ${questions.length}` },
      actions: app.readonly ? lookActions(app) : [
        { label: "None of the classes", key: NONE, press: () => this.answer(null, "none") },
        { label: "Not sure", key: "m", press: () => this.answer(null, "unsure") },
        { label: "Skip", key: "Space", press: () => this.skip() },
        { label: "Back", key: "⌫", press: () => this.back() },
        { label: "Undo", key: "u", press: () => app.undo() },
      ],
    });
    const keys = this.keys();
    app.showClasses({
      order: this.order(), keyOf: (i) => keys.get(i) ?? "",
      press: app.readonly ? null : (i) => this.answer(i, "yes"),
      pressed: () => undefined, note: (i) => (current.candidates.includes(i) ? "likely" : ""),
    });
  }

  showDone() {
    const { app } = this;
    app.view.setFocus({});
    app.panel.showClasses(null);
    if (app.readonly) {
      return app.panel.showTask({
        title: "No question", text: "This scan has no question.", actions: lookActions(app),
      });
    }
    app.panel.showTask({
      title: "No open question", text: "Every question of this scan has an answer.",
      actions: [{ label: "Next scan", key: "Space", press: () => app.nextAsked(), main: true }],
    });
  }

  order() {
    const rest = this.app.classes.map((_, i) => i);
    const { candidates } = this.current;
    return [...candidates, ...rest.filter((i) => !candidates.includes(i))];
  }

  // The key of each class: candidates have the first digits, the other classes their letters, and
  // those without the first keys that are left.
  keys() {
    const { classes, state } = this.app;
    const order = this.order();
    const keys = new Map();
    const free = new Set([...state.class_keys].filter((key) => key !== NONE));
    const give = (index, key) => free.delete(key) && keys.set(index, key);
    this.current.candidates.forEach((index, place) => give(index, DIGITS[place]));
    for (const index of order) {
      const { key } = classes[index];
      if (!keys.has(index) && !DIGITS.includes(key)) give(index, key);
    }
    for (const index of order) {
      if (!keys.has(index)) give(index, [...free][0]);
    }
    return keys;
  }

  onKey(key) {
    if (key === " " || key === "Enter") return this.current ? this.skip() : this.app.nextAsked();
    if (key === "Backspace") return this.back();
    if (!this.current) return false;
    if (key === NONE || key === "n") return this.answer(null, "none");
    if (key === "m") return this.answer(null, "unsure");
    return false;
  }

  onClassKey(index) {
    return this.answer(index, "yes");
  }

  async answer(index, answer) {
    const { app, current } = this;
    const { scan } = app;
    if (!current) return;
    const undone = async () => {
      current.answered = false;
      await app.openScan(scan.index, "ask");
      this.select(app.scan.questions.find(({ id }) => id === current.id) ?? null);
    };
    if (!(await app.addClick(scan, current.point, index, answer, undone))) return;
    current.answered = true;
    if (app.mode === this && app.scan === scan) await this.next();
  }

  skip() {
    this.passed.add(`${this.app.scan.index} ${this.current.id}`);
    return this.next();
  }

  next() {
    this.goOn();
    return this.current ? undefined : this.app.nextAsked();
  }

  back() {
    const { questions } = this.app.scan;
    const place = this.current ? questions.indexOf(this.current) : questions.length;
    if (place > 0) this.select(questions[place - 1]);
  }
}
