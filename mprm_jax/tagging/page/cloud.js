// The points of a scan as the graphics card draws them, chunk by chunk, coarse points first.
//
// Positions are meters relative to the origin of the scan, so that float32 is exact enough at
// any coordinates. A point's paint is its color and the class or share that a layer gives it.

import * as THREE from "three";

export const OUTSIDE = { COLOR: 0, GREY: 1, HIDDEN: 2, DARK: 3 };
const NO_LABEL = 255;
const ALL = 1e9; // a height above every point

const VERTEX = `
  uniform vec3 center;       // of the ball or region
  uniform float radius;      // 0: there is none
  uniform float clearRadius; // what stands before this is not drawn
  uniform int outside;       // how points outside the ball are drawn
  uniform float ceiling;     // points above are not drawn
  uniform float pointSize;   // pixels at a distance of 1 m
  uniform float smallest;    // pixels
  uniform float mixing;      // 0: colors of the scan, 1: those of the layer
  uniform sampler2D palette; // color of each label; transparent: shown grey
  uniform vec3 glow;         // color mixed into the points inside
  uniform float glowing;     // how much of it
  uniform vec2 heights;      // meters, lowest and highest; equal: points have colors
  uniform uint base;         // number of the first point, for picking
  in vec4 paint;
  #ifdef PICKING
    flat out uint number;
  #else
    out vec3 shade;
  #endif

  bool standsBefore(vec3 point, vec3 middle) {
    float far = length(point);
    float along = dot(middle, point / far);
    float sqGap = dot(middle, middle) - along * along;
    return sqGap < clearRadius * clearRadius && far < along;
  }

  vec3 ownColor() {
    if (heights.x == heights.y) return paint.rgb;
    float up = clamp((position.z - heights.x) / (heights.y - heights.x), 0.0, 1.0);
    return mix(vec3(0.35, 0.50, 0.65), vec3(1.0, 0.92, 0.72), up);
  }

  vec3 grey(vec3 color) {
    return vec3(0.12 + 0.36 * dot(color, vec3(0.30, 0.59, 0.11)));
  }

  void main() {
    vec4 seen = modelViewMatrix * vec4(position, 1.0);
    vec3 middle = (modelViewMatrix * vec4(center, 1.0)).xyz;
    float far = distance(position, center);
    bool inside = radius <= 0.0 || far < radius;
    bool hidden = position.z > ceiling;
    if (!inside) {
      hidden = hidden || outside == ${OUTSIDE.HIDDEN};
      hidden = hidden || (far > clearRadius && standsBefore(seen.xyz, middle));
    }
    gl_Position = hidden ? vec4(2.0, 2.0, 2.0, 1.0) : projectionMatrix * seen;
    gl_PointSize = clamp(pointSize / max(-seen.z, 0.01), smallest, 48.0);
    #ifdef PICKING
      number = base + uint(gl_VertexID) + 1u;
    #else
      vec4 label = texture(palette, vec2((paint.a * 255.0 + 0.5) / 256.0, 0.5));
      vec3 own = ownColor();
      shade = mix(own, label.a > 0.5 ? label.rgb : grey(own), mixing);
      if (inside) shade = mix(shade, glow, glowing);
      else if (outside == ${OUTSIDE.GREY}) shade = grey(shade);
      else if (outside == ${OUTSIDE.DARK}) shade *= 0.6;
    #endif
  }`;

const FRAGMENT = `
  #ifdef PICKING
    flat in uint number;
  #else
    in vec3 shade;
  #endif
  out vec4 result;
  void main() {
    if (length(gl_PointCoord - 0.5) > 0.5) discard;
    #ifdef PICKING
      uvec4 bytes = (uvec4(number) >> uvec4(0u, 8u, 16u, 24u)) & 255u;
      result = vec4(bytes) / 255.0;
    #else
      result = vec4(shade, 1.0);
    #endif
  }`;

export class Cloud {
  constructor() {
    this.group = new THREE.Group();
    this.chunks = []; // {points, geometry, positions, base, count}
    this.dense = null; // more points of the current ball, in the same form
    this.total = 0;
    this.spacing = 0.03; // meters between neighboring points, about
    this.flatCeiling = null; // height of a ceiling, if the scan has one
    this.uniforms = {
      center: { value: new THREE.Vector3() },
      radius: { value: 0 },
      clearRadius: { value: 0 },
      outside: { value: OUTSIDE.COLOR },
      ceiling: { value: ALL },
      pointSize: { value: 1 },
      smallest: { value: 1.5 },
      mixing: { value: 0 },
      palette: { value: makePalette() },
      glow: { value: new THREE.Color(1, 0.85, 0.2) },
      glowing: { value: 0 },
      heights: { value: new THREE.Vector2() },
      base: { value: 0 },
    };
    this.drawing = this.makeMaterial({});
    this.picking = this.makeMaterial({ PICKING: 1 });
  }

  makeMaterial(defines) {
    return new THREE.ShaderMaterial({
      glslVersion: THREE.GLSL3, vertexShader: VERTEX, fragmentShader: FRAGMENT, defines,
      uniforms: this.uniforms, blending: THREE.NoBlending,
    });
  }

  // Adds a chunk as the server sends it: a count, positions, colors.
  addChunk(buffer) {
    const chunk = this.makeChunk(buffer, this.total);
    this.chunks.push(chunk);
    this.total += chunk.count;
    if (this.chunks.length === 1) this.flatCeiling = findCeiling(chunk.positions);
    this.spacing = pointSpacing(this.chunks[0].positions, this.total);
    return chunk;
  }

  // Shows more points of the current ball, or none. They have no place in a layer.
  setDense(buffer) {
    if (this.dense) this.remove(this.dense);
    this.dense = buffer ? this.makeChunk(buffer, 2 ** 31) : null;
  }

  makeChunk(buffer, base) {
    const count = new DataView(buffer).getUint32(0, true);
    const positions = new Float32Array(buffer, 4, 3 * count);
    const colors = new Uint8Array(buffer, 4 + 12 * count, 3 * count);
    const paint = new Uint8Array(4 * count).fill(NO_LABEL);
    for (let i = 0, j = 0; i < 3 * count; i += 3, j += 4) {
      paint[j] = colors[i];
      paint[j + 1] = colors[i + 1];
      paint[j + 2] = colors[i + 2];
    }
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(positions, 3));
    geometry.setAttribute("paint", new THREE.BufferAttribute(paint, 4, true));
    const points = new THREE.Points(geometry, this.drawing);
    points.frustumCulled = false; // every chunk covers the whole scan
    points.onBeforeRender = (_renderer, _scene, _camera, _geometry, material) => {
      material.uniforms.base.value = base;
      material.uniformsNeedUpdate = true;
    };
    this.group.add(points);
    return { points, geometry, positions, base, count };
  }

  // Points without colors are colored by their height.
  setHeights(low, high, hasColors) {
    this.uniforms.heights.value.set(low, hasColors ? low : high);
  }

  // Draws only the points from `start` to `end` in the order of all chunks, then the dense ones.
  showRange(start, end) {
    for (const { points, geometry, base, count } of this.chunks) {
      const [first, last] = [Math.max(start - base, 0), Math.min(end - base, count)];
      points.visible = first < last;
      geometry.setDrawRange(first, Math.max(0, last - first));
    }
    if (this.dense) this.dense.points.visible = end >= this.total;
  }

  // The position of a point by its number in the picking picture; null: no point.
  pointAt(number) {
    const index = number - 1;
    const all = this.dense ? [...this.chunks, this.dense] : this.chunks;
    const chunk = all.find(({ base, count }) => index >= base && index < base + count);
    if (!chunk) return null;
    const start = 3 * (index - chunk.base);
    return Array.from(chunk.positions.subarray(start, start + 3));
  }

  // Gives the points of a chunk the values of a layer, one byte each.
  paintChunk(chunk, values) {
    const paint = chunk.geometry.getAttribute("paint");
    for (let i = 0; i < values.length; i++) paint.array[4 * i + 3] = values[i];
    paint.needsUpdate = true;
  }

  // colors: for each label [r, g, b] in 0..255, or null for grey.
  setPalette(colors) {
    const data = this.uniforms.palette.value.image.data.fill(0);
    colors.forEach((color, i) => color && data.set([...color, 255], 4 * i));
    this.uniforms.palette.value.needsUpdate = true;
  }

  remove(chunk) {
    this.group.remove(chunk.points);
    chunk.geometry.dispose();
  }

  dispose() {
    this.setDense(null);
    this.chunks.forEach((chunk) => this.remove(chunk));
    this.drawing.dispose();
    this.picking.dispose();
    this.uniforms.palette.value.dispose();
  }
}

function makePalette() {
  const texture = new THREE.DataTexture(new Uint8Array(4 * 256), 256, 1);
  texture.needsUpdate = true;
  return texture;
}

// Meters between neighbors if `total` points covered what this sample of them covers.
function pointSpacing(positions, total) {
  const size = 0.2; // meters; cells of a surface are counted, each about size x size
  const cells = new Set();
  for (let i = 0; i < positions.length; i += 3) {
    const [x, y, z] = [0, 1, 2].map((axis) => Math.floor(positions[i + axis] / size));
    cells.add(x + 65536 * (y + 65536 * z));
  }
  return Math.sqrt((cells.size * size * size) / Math.max(total, 1));
}

// The height below a ceiling: a thin layer in the upper part that holds many of the points.
function findCeiling(positions) {
  const [thickness, share, upper] = [0.1, 0.06, 0.7];
  let [low, high] = [Infinity, -Infinity];
  for (let i = 2; i < positions.length; i += 3) {
    low = Math.min(low, positions[i]);
    high = Math.max(high, positions[i]);
  }
  if (!(high - low > 1)) return null;
  const counts = new Uint32Array(Math.floor((high - low) / thickness) + 1);
  for (let i = 2; i < positions.length; i += 3) {
    counts[Math.floor((positions[i] - low) / thickness)] += 1;
  }
  const enough = (share * positions.length) / 3;
  const first = Math.floor(upper * counts.length);
  const bin = counts.findIndex((count, i) => i >= first && count > enough);
  return bin < 0 ? null : low + (bin - 1) * thickness;
}
