// Starts the page and holds together what its parts share: the scan, the mode, saving, undo.

import { Activity } from "./activity.js";
import { Asking } from "./asking.js";
import { Clicking, clickMarks } from "./clicking.js";
import { Cloud } from "./cloud.js";
import { showHelp } from "./help.js";
import { Keys } from "./keys.js";
import { Layers } from "./layers.js";
import { lookKey } from "./looking.js";
import { Panel } from "./panel.js";
import { Reviewing } from "./reviewing.js";
import { ScanList, answered, hasOpenBall, minutes } from "./scan_list.js";
import { EMBEDDED, Refusal, readBytes, readJson, send } from "./source.js";
import { SceneTagging, Tagging } from "./tagging.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const CHANGED = 409; // status of a refusal: the file says something else by now
const ALL_DONE = "All scans are done. You can close this page.";
const CLICK_MOVES = 5; // pixels: a press that moves farther turns the view

class App {
  constructor() {
    this.scan = null;
    this.mode = null;
    this.hideOutside = false;
    this.undoing = []; // how to take back each saved change
    this.failures = 0; // saves that did not work
    this.askedOut = new Set(); // scans without a question that is left
    this.reviewedOut = new Set(); // scans without a finding that is left
    this.classKeys = new Map();
    this.activity = new Activity();
    this.panel = new Panel();
    this.view = new View(byId("view"));
    this.layers = new Layers(this);
    this.tagging = new Tagging(this);
    this.modes = {
      tag: this.tagging, scene: new SceneTagging(this), click: new Clicking(this),
      ask: new Asking(this), review: new Reviewing(this),
    };
    this.generalKeys = {
      "?": () => showHelp(this.readonly), "/": () => byId("class-search").focus(),
      t: () => this.view.lookFromTop(), x: () => this.view.reset(), h: () => this.toggleOutside(),
    };
    this.savingKeys = {
      c: () => this.toggleClicks(), s: () => this.toggleScene(), u: () => this.undo(),
    };
    this.scanList = new ScanList(this);
    this.keys = new Keys(this);
    this.connectTools();
    this.connectPointer();
    byId("new-class").addEventListener("submit", (event) => this.addClass(event));
    document.addEventListener("click", ({ target }) => {
      if (target.closest("button")) this.forgetSaved();
    }, { capture: true });
  }

  get classes() {
    return this.state.classes;
  }

  get readonly() {
    return this.state.readonly;
  }

  // Whether no balls are offered.
  get wholeScenes() {
    return this.state.whole_scenes;
  }

  get layersShown() {
    return this.scan !== null && this.scan.layers.length > 0 &&
      (this.mode === this.modes.review || (this.mode === this.modes.click && this.reviewed));
  }

  async start() {
    this.state = await readJson("api/state");
    this.notes = this.state.notes.join(" ");
    byId("only-look").hidden = !this.readonly;
    this.tagging.readTicks();
    document.title = `${this.state.data} – mprm tag`;
    byId("new-class").hidden = this.readonly;
    byId("panel").hidden = byId("tools").hidden = false;
    this.scanList.show();
    await this.openFirst();
    setInterval(() => this.showStatus(), 5000);
  }

  // Goes on where there is work, in the scan that the address names if there is some.
  async openFirst() {
    const asked = Number(new URLSearchParams(location.hash.slice(1)).get("scan") ?? NaN);
    const { scans, mode } = this.state;
    const order = [...scans].sort((a, b) => (b.index === asked) - (a.index === asked));
    const next = this.readonly ? null : await this.firstWithWork(order, this.workOf(mode));
    const first = next ?? order.find(({ broken }) => !broken);
    if (!first) return showTrouble("There is no scan that can be shown.");
    await this.openScan(first.index, mode);
    if (!next && mode === "tag" && !this.readonly) this.say(ALL_DONE, "good");
  }

  // Whether a scan has something open in a mode.
  workOf(mode) {
    if (mode === "ask") return ({ questions }) => questions > 0;
    if (mode === "review") return ({ findings }) => findings > 0;
    return (scan) => this.isOpen(scan);
  }

  isOpen(scan) {
    return this.wholeScenes ? !scan.scene_tags : hasOpenBall(scan);
  }

  // The first of some scans that has work; null if none has. How many balls a scan has is known
  // once it was read, so one that was begun is read to see whether any is open.
  async firstWithWork(scans, hasWork) {
    for (const { index } of scans) {
      const scan = this.summary(index);
      if (scan.broken || !hasWork(scan)) continue;
      if (scan.balls === null && answered(scan) && !this.wholeScenes) await this.countBalls(scan);
      if (!scan.broken && hasWork(scan)) return scan;
    }
    return null;
  }

  async countBalls(scan) {
    this.say(`Looking for the next open ball: ${scan.name} …`, "hint");
    try {
      scan.balls = (await readJson(`api/scan/${scan.index}`)).balls.length;
    } catch (error) {
      this.refuse(error);
      if (!error.status) throw error; // the server is silent
      scan.broken = error.message;
    }
    this.scanList.show();
  }

  // Opens a scan; its first points are drawn at once, the others as they come.
  async openScan(index, mode = this.modeName ?? "tag") {
    if (this.scan?.index === index) return this.setMode(mode);
    const opening = (this.opening = Symbol("scan"));
    this.say(`Reading ${this.summary(index).name} …`, "hint");
    try {
      const scan = await readJson(`api/scan/${index}`);
      const first = await readBytes(`api/scan/${index}/points/0`);
      if (this.opening !== opening) return;
      this.takeScan(scan, first);
      this.say([this.notes ?? "", this.thinnedNote()].join(" ").trim(), "hint");
      this.notes = null; // said once
      this.setMode(mode);
      this.loadChunks(scan, opening);
    } catch (error) {
      await this.passBroken(index, error);
    }
  }

  // Names a scan that cannot be shown in the list. If none is shown yet, another one is.
  async passBroken(index, error) {
    this.refuse(error);
    if (!error.status) return; // the server is silent
    this.summary(index).broken = error.message;
    this.scanList.show();
    if (!this.scan) await this.openFirst();
  }

  // Of a file that has not all points of the scan, what it has.
  thinnedNote() {
    const { shown_points: shown, total_points: total } = this.scan;
    if (!EMBEDDED || shown >= total) return "";
    return `At most ${count(shown)} points of each scan are in this file, spread evenly.`;
  }

  summary(index) {
    return this.state.scans.find((scan) => scan.index === index);
  }

  takeScan(scan, first) {
    this.mode?.leave?.();
    this.mode = null;
    this.scan = scan;
    this.summary(scan.index).balls = scan.balls.length;
    this.layers.forget();
    this.view.cloud?.dispose();
    const cloud = new Cloud();
    cloud.addChunk(first);
    this.view.setCloud(cloud, scan.bounds, scan.has_colors);
    this.resetCeiling();
    history.replaceState(null, "", `#scan=${scan.index}`);
    this.scanList.show();
    this.showShown();
  }

  // Loads the other points; nothing waits for them.
  async loadChunks(scan, opening) {
    const { cloud } = this.view;
    const count = Math.ceil(scan.shown_points / scan.chunk_points);
    try {
      for (let k = 1; k < count; k++) {
        const chunk = await readBytes(`api/scan/${scan.index}/points/${k}`);
        if (this.opening !== opening) return;
        cloud.addChunk(chunk);
        if (this.layersShown) this.layers.paint(k);
        this.view.changed();
        this.showShown();
      }
    } catch (error) {
      this.refuse(error);
    }
  }

  // More points of the current ball, where the scan was thinned.
  async loadDense(ball) {
    const wanted = (this.denseWanted = ball);
    const { scan, view } = this;
    view.cloud.setDense(null);
    if (!ball || EMBEDDED || scan.shown_points >= scan.total_points) return;
    try {
      const points = await readBytes(`api/scan/${scan.index}/ball/${ball.id}`);
      if (this.denseWanted !== wanted || this.scan !== scan) return;
      view.cloud.setDense(points);
      view.changed();
    } catch (error) {
      this.refuse(error);
    }
  }

  setMode(wanted) {
    const noBalls = this.wholeScenes || (!this.scan.balls.length && !this.readonly);
    const name = wanted === "tag" && noBalls ? "scene" : wanted;
    const mode = this.modes[name];
    if (this.mode !== mode) this.mode?.leave?.();
    this.reviewed = name === "review" || (name === "click" && this.modeName === "review") ||
      (name === "click" && this.reviewed);
    if (name !== "click" && name !== "scene") this.mainMode = name;
    this.modeName = name;
    this.mode = mode;
    document.body.dataset.mode = name;
    this.showModes();
    mode.enter();
    this.layers.show(this.layersShown);
    this.showStatus();
  }

  showModes() {
    const labels = { tag: ["Balls"], scene: ["Whole scan", "s"], click: ["Clicks", "c"],
      ask: ["Ask"], review: ["Review"] };
    const usable = {
      tag: !this.wholeScenes, scene: !this.readonly || this.wholeScenes, click: !this.readonly,
      ask: this.state.scans.some(({ questions }) => questions > 0),
      review: this.state.scans.some(({ findings }) => findings > 0) || this.scan.layers.length > 0,
    };
    this.panel.showModes(Object.keys(labels).filter((name) => usable[name]).map((name) => ({
      label: labels[name][0], key: labels[name][1], pressed: this.modeName === name,
      press: () => this.setMode(name),
    })));
  }

  toggleClicks() {
    if (this.modeName === "click") this.leaveClicks();
    else this.setMode("click");
  }

  toggleScene() {
    this.setMode(this.modeName === "scene" ? "tag" : "scene");
  }

  leaveClicks() {
    this.setMode(this.mainMode ?? "tag");
  }

  // A key where nothing can be saved. In a review a class key shows the labels of that class.
  lookKey(key, digit) {
    const handled = lookKey(this, key);
    if (handled !== false) return handled;
    const index = this.classKeys.get(key) ?? this.classKeys.get(digit);
    return index === undefined ? undefined : this.layers.isolate(index);
  }

  // What the classes do in a mode; see Panel.showClasses. They are only shown without `press`.
  showClasses({ pressed, press, note = () => "", only = false, order, keyOf }) {
    const indices = order ?? this.classes.map((_, i) => i);
    const isolates = only && this.layersShown && this.layers.layer?.kind === "labels";
    const rows = indices.map((index) => ({
      index, name: this.classes[index].name, color: this.classes[index].color,
      key: !press ? "" : keyOf ? keyOf(index) : this.classes[index].key,
      pressed: pressed(index), note: note(index),
      press: press && (() => {
        byId("class-search").value = "";
        return press(index);
      }),
      only: isolates ? () => this.layers.isolate(index) : null,
      isOnly: this.layers.only === index,
    }));
    this.classKeys = new Map(rows.filter(({ key }) => key).map(({ key, index }) => [key, index]));
    this.panel.showClasses(rows);
    if (isolates) this.layers.show(true);
  }

  showMarks(selected = null, picked = null) {
    this.view.setMarks(clickMarks(this.scan, this.classes, selected, picked));
  }

  // Sends a change with the seconds it took; the server adds them to those of the same row.
  // Resolves to the answer once it is on disk; to null if it was refused, with the line shown.
  // A row that is taken away has no time: what was spent on it counts for the next answer.
  async save(path, body, refused = () => {}, takenAway = null) {
    if (this.saving) return null;
    this.saving = true;
    const seconds = this.activity.read();
    try {
      const answer = await send(path, { ...body, seconds });
      if (takenAway) this.activity.giveBack(takenAway.seconds ?? 0);
      else this.activity.take(seconds);
      this.takeSummary(answer.scan);
      this.say("Saved.", "good");
      return answer;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.failures += 1;
      this.refusal = error.status;
      refused(error.answer);
      this.refuse(error);
      return null;
    } finally {
      this.saving = false;
    }
  }

  // A scan as it is shown now: it may have been opened again since.
  latest(scan) {
    return this.scan.index === scan.index ? this.scan : scan;
  }

  takeSummary(summary) {
    const place = this.state.scans.findIndex(({ index }) => index === summary.index);
    this.state.scans[place] = summary;
    this.scanList.show();
    this.showStatus();
  }

  remember(takeBack) {
    this.undoing.push(takeBack);
  }

  async undo() {
    const takeBack = this.undoing.pop();
    if (!takeBack) return this.say("Nothing to undo since the page was opened.", "hint");
    if (await takeBack()) this.say("Undone, and saved.", "good");
    // What another page changed since cannot be undone here, now or later.
    else if (this.refusal !== CHANGED) this.undoing.push(takeBack);
  }

  async addClick(scan, point, index, answer, undone = null) {
    const click = await this.postClick(scan, point, index, answer);
    if (!click) return null;
    this.remember(async () => {
      if (!(await this.removeClick(scan, click))) return false;
      if (undone) await undone();
      else this.mode.show();
      return true;
    });
    return click;
  }

  async postClick(scan, point, index, answer) {
    const body = { point, class: index, answer };
    const result = await this.save(`api/scan/${scan.index}/click`, body);
    if (result) this.latest(scan).clicks.push(result.click);
    return result && result.click;
  }

  async removeClick(scan, click) {
    const { id } = click;
    const path = `api/scan/${scan.index}/unclick`;
    if (!(await this.save(path, { id }, undefined, click))) return false;
    const latest = this.latest(scan);
    latest.clicks = latest.clicks.filter((other) => other.id !== id);
    return true;
  }

  async addClass(event) {
    event.preventDefault();
    const input = byId("new-class-name");
    const name = input.value.trim();
    if (!name) return input.blur();
    try {
      this.state.classes = (await send("api/classes", { name })).classes;
    } catch (error) {
      return this.refuse(error);
    }
    input.value = "";
    this.mode?.show();
    // Before the first tick one more class is likely; later, Space is to save.
    if (this.mode?.draft?.size === 0) input.focus();
    else input.blur();
    const earlier = this.state.scans.some(({ done }) => done > 0);
    const note = earlier ? " In balls that were tagged before, it counts as absent." : "";
    this.say(`Added "${name}".${note}`, "good");
  }

  nextScan() {
    return this.goToWork(this.workOf("tag"), ALL_DONE);
  }

  nextAsked() {
    this.askedOut.add(this.scan.index);
    return this.goToWork(({ index, questions }) => questions > 0 && !this.askedOut.has(index),
      "No question is left. You can close this page.");
  }

  nextReviewed() {
    this.reviewedOut.add(this.scan.index);
    return this.goToWork(({ index, findings }) => findings > 0 && !this.reviewedOut.has(index),
      "Every finding of every scan was looked at.");
  }

  // Opens the next scan of the list in which the mode has something to show.
  nextToLookAt() {
    const next = this.toLookAt().find(({ index }) => index > this.scan.index);
    return next ? this.openScan(next.index) : this.say("This was the last one.", "good");
  }

  scanBefore() {
    const before = this.toLookAt().findLast(({ index }) => index < this.scan.index);
    return before ? this.openScan(before.index) : this.say("This is the first one.", "good");
  }

  toLookAt() {
    const found = { tag: "balls", ask: "questions", review: "findings" }[this.modeName];
    return this.state.scans.filter((scan) => !scan.broken && scan[found] !== 0);
  }

  // Opens the next scan, from the current one on, that has work; says so if none has.
  async goToWork(hasWork, nothingLeft) {
    const { scans } = this.state;
    const start = scans.findIndex(({ index }) => index === this.scan.index) + 1;
    const order = [...scans.slice(start), ...scans.slice(0, start)];
    const next = await this.firstWithWork(
      order.filter(({ index }) => index !== this.scan.index), hasWork);
    return next ? this.openScan(next.index) : this.say(nothingLeft, "good");
  }

  scanDone() {
    const { scans } = this.state;
    const left = scans.some((scan) => !scan.broken && this.isOpen(scan));
    this.say(left ? "Saved. This scan is done. Space: the next scan." :
      "Saved. Every ball of every scan is done. You can close this page.", "good");
  }

  // Shows one line. Kinds: good, hint, bad.
  say(text, kind = "") {
    const message = byId("message");
    message.textContent = kind === "bad" ? `⚠ ${text}` : text;
    message.className = kind;
  }

  // "Saved." is of the last thing that was done.
  forgetSaved() {
    if (byId("message").className === "good") this.say("");
  }

  // Shows why something did not work; errors of the page itself are not hidden.
  refuse(error) {
    if (!(error instanceof Refusal)) throw error;
    this.say(error.message, "bad");
  }

  showStatus() {
    if (!this.scan) return;
    const { scans } = this.state;
    const sum = (value) => scans.reduce((total, scan) => total + value(scan), 0);
    const unopened = scans.some((scan) => !scan.broken && scan.balls === null);
    byId("progress").textContent = this.wholeScenes ?
      `Scans tagged: ${sum((scan) => Number(scan.scene_tags))} of ${scans.length}` :
      `Balls done in all: ${sum(answered)}` +
      (unopened ? "" : ` of ${sum(({ balls }) => balls ?? 0)}`);
    this.activity.settle();
    const work = `, ${minutes(this.activity.total)} at work since this page was opened`;
    byId("time").textContent = `${minutes(sum(({ seconds }) => seconds))} saved` +
      (this.readonly ? "" : work);
  }

  showShown() {
    const { shown_points: shown, total_points: total } = this.scan;
    const { total: loaded } = this.view.cloud;
    const what = total > shown ? `showing ${count(shown)} of ${count(total)} points` :
      `all ${count(total)} points shown`;
    byId("shown").textContent = loaded < shown ?
      `loading ${count(loaded)} of ${count(shown)} points` : what;
    byId("shown").title = total > shown && !EMBEDDED ?
      "Inside the current ball more points are shown." : "";
  }

  toggleOutside() {
    this.hideOutside = !this.hideOutside;
    byId("hide-outside").setAttribute("aria-pressed", this.hideOutside);
    this.mode?.show();
  }

  connectTools() {
    byId("top-view").onclick = () => this.view.lookFromTop();
    byId("reset-view").onclick = () => this.view.reset();
    byId("hide-outside").onclick = () => this.toggleOutside();
    byId("show-help").onclick = () => showHelp(this.readonly);
    byId("point-size").oninput = ({ target }) => {
      this.view.sizeFactor = 2 ** Number(target.value);
      this.view.changed();
    };
    byId("ceiling").oninput = ({ target }) => this.cutCeiling(Number(target.value) / 1000);
  }

  // At its right end the slider leaves the cut to the page: see View.visibleBelow.
  cutCeiling(share) {
    const [low, high] = this.scan.bounds.map((corner) => corner[2]);
    this.view.ceiling = share < 1 ? low + share * (high - low) : null;
    byId("ceiling-height").textContent =
      share < 1 ? `${(share * (high - low)).toFixed(1)} m` : "";
    this.view.changed();
  }

  resetCeiling() {
    byId("ceiling").value = 1000;
    this.cutCeiling(1);
    const note = byId("picture-note");
    note.hidden = this.view.cloud.flatCeiling === null;
    note.textContent = "From above the ceiling is not drawn. Look from below to see it.";
  }

  connectPointer() {
    const { canvas } = this.view;
    let start = null;
    canvas.addEventListener("pointerdown", (event) => {
      start = event.button === 0 ? [event.clientX, event.clientY] : null;
    });
    canvas.addEventListener("pointerup", ({ clientX, clientY }) => {
      if (!start || !this.mode?.onPick) return;
      if (Math.hypot(clientX - start[0], clientY - start[1]) > CLICK_MOVES) return;
      this.mode.onPick(this.view.pick(clientX, clientY));
    });
    canvas.addEventListener("dblclick", ({ clientX, clientY }) => {
      if (!this.view.cloud || this.mode?.onPick) return;
      const point = this.view.pick(clientX, clientY);
      if (point) this.view.flyTo(point, 1);
    });
  }
}

// Says in the middle of the page why there is nothing to show.
function showTrouble(text) {
  byId("panel").hidden = byId("tools").hidden = true;
  byId("trouble").hidden = false;
  byId("trouble").textContent = `⚠ ${text}`;
}

// 3012345 -> "3.0 million"
function count(number) {
  return number < 1e6 ? number.toLocaleString("en") : `${(number / 1e6).toFixed(1)} million`;
}

try {
  const app = (window.app = new App()); // named for the console and for tests in a browser
  app.start().catch((error) => {
    if (!app.scan) showTrouble(error.message);
    app.refuse(error);
  });
} catch (error) {
  showTrouble(`This browser cannot draw in 3D (WebGL 2): ${error.message}`);
  throw error;
}
