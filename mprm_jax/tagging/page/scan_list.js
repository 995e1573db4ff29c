// The left side of the page: the scans with what is done in each.

import { element } from "./panel.js";

const MANY = 12; // scans from which on there is a search

export class ScanList {
  constructor(app) {
    this.app = app;
    this.search = document.getElementById("scan-search");
    this.search.addEventListener("input", () => this.show());
  }

  show() {
    const { scans } = this.app.state;
    this.search.hidden = scans.length < MANY;
    const wanted = this.search.value.trim().toLowerCase();
    const found = scans.filter(({ name }) => name.toLowerCase().includes(wanted));
    const list = document.getElementById("scan-list");
    list.replaceChildren(...found.map((scan) => this.item(scan)));
    list.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest" });
  }

  item(scan) {
    if (scan.broken) {
      return element("li", { className: "broken" }, element("strong", {}, scan.name),
        element("small", {}, scan.broken));
    }
    const button = element("button", {
      type: "button", className: "row", "data-scan": scan.index,
      "aria-current": scan.index === this.app.scan?.index,
      onclick: () => this.app.openScan(scan.index),
    }, element("strong", {}, scan.name));
    const [value, max] = this.app.wholeScenes ? [Number(scan.scene_tags), 1] :
      [answered(scan), Math.max(scan.balls ?? 1, 1)];
    const bar = element("progress", { value, max });
    bar.setAttribute("aria-label", this.facts(scan)[0]);
    button.append(bar, element("small", {}, this.facts(scan).join(" · ")));
    return element("li", {}, button);
  }

  facts(scan) {
    const facts = [this.done(scan), minutes(scan.seconds)];
    for (const name of ["click", "question", "finding"]) {
      const number = scan[`${name}s`];
      if (number) facts.push(counted(number, name));
    }
    if (scan.scene_tags && !this.app.wholeScenes) facts.push("scene tags");
    return facts;
  }

  // What is done, also where nobody counted the balls yet.
  done(scan) {
    if (this.app.wholeScenes) return scan.scene_tags ? "tagged" : "not tagged";
    if (scan.balls !== null) return `${answered(scan)} of ${counted(scan.balls, "ball")}`;
    return answered(scan) ? `${counted(answered(scan), "ball")} tagged` : "not begun";
  }
}

function counted(number, name) {
  return `${number} ${name}${number === 1 ? "" : "s"}`;
}

// Balls with an answer, "not sure" included.
export function answered(scan) {
  return scan.done + scan.unsure;
}

// Whether a scan has balls without an answer, or may have: their number is known once it was read.
export function hasOpenBall(scan) {
  if (scan.balls === 0) return !scan.scene_tags;
  return scan.balls === null || answered(scan) < scan.balls;
}

export function minutes(seconds) {
  return `${((seconds ?? 0) / 60).toFixed(1)} min`;
}
