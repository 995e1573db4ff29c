// What a network made of the scan: its labels or shares as colors, mixed with those of the scan.

import { readBytes } from "./source.js";
import { hexColor } from "./clicking.js";
import { element } from "./panel.js";

// Light to dark is little to much, readable for color-blind people. Source: matplotlib, cividis.
const RAMP = [[0, 34, 78], [66, 78, 108], [123, 123, 120], [184, 171, 110], [253, 234, 69]];

export class Layers {
  constructor(app) {
    this.app = app;
    this.name = null;
    this.mixing = 0.8;
    this.only = null; // the one class that keeps its color
    this.cache = new Map(); // "layer chunk" -> values
    this.section = document.getElementById("layers");
  }

  get layer() {
    const { layers } = this.app.scan;
    return layers.find(({ name }) => name === this.name) ?? layers[0] ?? null;
  }

  // A new scan: nothing of the old one is kept.
  forget() {
    this.cache.clear();
  }

  show(visible) {
    const { scan, view } = this.app;
    const shown = visible && this.layer !== null;
    this.section.hidden = !shown;
    view.cloud.uniforms.mixing.value = shown ? this.mixing : 0;
    if (shown) {
      this.draw(scan.layers);
      view.cloud.setPalette(this.palette());
      view.cloud.chunks.forEach((_, k) => this.paint(k));
    }
    view.changed();
  }

  draw(layers) {
    const choice = element("select", { "aria-label": "What the colors show", id: "layer" });
    for (const { name, title } of layers) {
      choice.append(element("option", { value: name, selected: name === this.layer.name }, title));
    }
    choice.onchange = () => this.choose(choice.value);
    const slider = element("input", {
      type: "range", min: 0, max: 1, step: 0.01, id: "mixing",
      "aria-label": "From the colors of the scan to those of the labels",
    });
    slider.value = this.mixing;
    slider.oninput = () => this.mix(Number(slider.value));
    const line = element("label", { className: "mixing" }, "scan", slider, "labels");
    const ramp = element("div", { className: "ramp" },
      element("span", {}, "0"), element("span", {}, "1"));
    this.section.replaceChildren(choice, line, this.layer.kind === "share" ? ramp : "");
  }

  choose(name) {
    this.name = name;
    this.show(true);
  }

  mix(value) {
    this.mixing = value;
    this.app.view.cloud.uniforms.mixing.value = value;
    this.app.view.changed();
  }

  isolate(index) {
    this.only = this.only === index ? null : index;
    this.app.mode.show();
  }

  palette() {
    if (this.layer.kind === "share") return Array.from({ length: 255 }, (_, i) => ramp(i / 254));
    const kept = (i) => this.only === null || this.only === i;
    return this.app.classes.map(({ color }, i) => (kept(i) ? hexColor(color) : null));
  }

  // Gives chunk `k` the values of the layer, fetched once.
  async paint(k) {
    const { scan, view, layersShown } = this.app;
    if (!layersShown) return;
    const { name } = this.layer;
    const { cloud } = view;
    const key = `${name} ${k}`;
    if (cloud.chunks[k].painted === name) return;
    if (!this.cache.has(key)) {
      const path = `api/scan/${scan.index}/layer/${encodeURIComponent(name)}/${k}`;
      this.cache.set(key, readBytes(path));
    }
    try {
      const values = new Uint8Array(await this.cache.get(key));
      if (this.app.scan !== scan || this.layer.name !== name) return;
      cloud.paintChunk(cloud.chunks[k], values);
      cloud.chunks[k].painted = name;
      view.changed();
    } catch (error) {
      this.cache.delete(key);
      this.app.refuse(error);
    }
  }
}

function ramp(share) {
  const place = Math.min(share * (RAMP.length - 1), RAMP.length - 1.001);
  const [low, part] = [Math.floor(place), place % 1];
  return RAMP[low].map((value, i) => Math.round(value + part * (RAMP[low + 1][i] - value)));
}
