// The picture of a scan: camera, flights, what is drawn when, and the point under the pointer.
//
// Nothing is drawn while nothing changes. A picture is drawn in slices of as many points as the
// machine draws smoothly: while the camera moves only the first (the coarse points, which cover
// everything), when it is still one slice per frame until all points are there.

import * as THREE from "three";
import { OrbitControls } from "./OrbitControls.js";
import { Shading } from "./shading.js";

const STILL_AFTER = 150; // ms without a change of the camera
const FLIGHT = 350; // ms
const SLICE = 25; // ms that drawing a slice may take
const FEWEST = 50_000; // points in a slice
const REACH = 10; // pixels around the pointer in which a point is picked
const ELEVATION = 0.8; // height over distance, of the camera above a ball
const [COLORED, BARE] = [20, 60]; // strength of the shading with and without colors
const UP = new THREE.Vector3(0, 0, 1);
const BACKGROUND = 0x14171a;

const MARK_VERTEX = `
  in vec3 tint;
  in float kind;
  uniform float ratio;
  flat out int shape;
  out vec3 shade;
  void main() {
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
    gl_Position.z = -gl_Position.w; // before everything
    shape = int(kind);
    shade = tint;
    gl_PointSize = (shape >= 4 ? 26.0 : 18.0) * ratio;
  }`;

// Shapes: 0 disc (is), 1 cross (is not), 2 empty ring (none, unsure); 4 more: selected.
const MARK_FRAGMENT = `
  flat in int shape;
  in vec3 shade;
  out vec4 result;
  void main() {
    vec2 at = 2.0 * gl_PointCoord - 1.0;
    float far = length(at);
    int kind = shape % 4;
    bool cross = min(abs(at.x - at.y), abs(at.x + at.y)) < 0.3;
    if (far > 1.0 || (kind == 2 && far < 0.45)) discard;
    bool edge = far > 0.72 || (kind == 1 && !cross);
    if (edge && kind == 1 && far <= 0.72) discard;
    result = vec4(edge ? (shape >= 4 ? vec3(1.0, 0.85, 0.2) : vec3(1.0)) : shade, 1.0);
  }`;

export class View {
  constructor(container) {
    this.container = container;
    this.renderer = new THREE.WebGLRenderer({
      antialias: false, preserveDrawingBuffer: true, depth: false,
    });
    this.renderer.autoClear = false;
    this.renderer.setClearColor(BACKGROUND);
    this.canvas = this.renderer.domElement;
    this.canvas.addEventListener("webglcontextrestored", () => this.changed());
    container.append(this.canvas);
    this.shading = new Shading();
    this.scene = new THREE.Scene();
    this.overlay = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(50, 1, 0.05, 1000);
    this.camera.up.copy(UP);
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.zoomToCursor = true;
    this.controls.addEventListener("change", () => this.moved());
    this.controls.addEventListener("start", () => (this.flight = null));
    this.cloud = null;
    this.sizeFactor = 1; // of the points, by the slider
    this.ceiling = null; // height set by the person; null: by itself
    this.budget = 1_000_000; // points in a slice
    this.drawn = 0;
    this.frames = 0;
    this.pickTarget = new THREE.WebGLRenderTarget(1, 1);
    this.makeOverlay();
    new ResizeObserver(() => this.resize()).observe(container);
    this.resize();
  }

  makeOverlay() {
    const corners = Array.from({ length: 97 }, (_, i) => (2 * Math.PI * i) / 96);
    const circle = corners.map((a) => new THREE.Vector3(Math.cos(a), Math.sin(a), 0));
    this.outline = new THREE.Line(
      new THREE.BufferGeometry().setFromPoints(circle),
      new THREE.LineBasicMaterial({ color: 0xffd84d, depthTest: false }),
    );
    this.outline.visible = false;
    const material = new THREE.ShaderMaterial({
      glslVersion: THREE.GLSL3, vertexShader: MARK_VERTEX, fragmentShader: MARK_FRAGMENT,
      uniforms: { ratio: { value: 1 } }, depthTest: false, depthWrite: false,
    });
    this.marks = new THREE.Points(new THREE.BufferGeometry(), material);
    this.marks.frustumCulled = false;
    this.marks.visible = false;
    this.overlay.add(this.outline, this.marks);
  }

  setCloud(cloud, bounds, hasColors) {
    if (this.cloud) this.scene.remove(this.cloud.group);
    this.cloud = cloud;
    cloud.setHeights(bounds[0][2], bounds[1][2], hasColors);
    this.strength = hasColors ? COLORED : BARE;
    this.fresh = true;
    this.scene.add(cloud.group);
    this.box = new THREE.Box3(...bounds.map((corner) => new THREE.Vector3(...corner)));
    const extent = Math.max(this.box.getSize(new THREE.Vector3()).length(), 1);
    this.camera.near = Math.max(0.02, extent / 5000);
    this.camera.far = 20 * extent;
    this.camera.updateProjectionMatrix();
    this.controls.minDistance = 3 * this.camera.near;
    this.controls.maxDistance = 5 * extent;
    this.jumpTo(this.wholeView());
  }

  // Which part is bright: a ball or region, and how its surroundings are drawn.
  setFocus({ center = [0, 0, 0], radius = 0, clear = radius, outside = 0, glowing = 0 }) {
    const { uniforms } = this.cloud;
    uniforms.center.value.set(...center);
    uniforms.radius.value = radius;
    uniforms.clearRadius.value = clear;
    uniforms.outside.value = outside;
    uniforms.glowing.value = glowing;
    this.outline.position.set(...center);
    this.changed();
  }

  // marks: [{point, color: [r, g, b] in 0..255, shape, selected}]
  setMarks(marks) {
    const geometry = new THREE.BufferGeometry();
    const add = (name, values, size) =>
      geometry.setAttribute(name, new THREE.BufferAttribute(new Float32Array(values), size));
    add("position", marks.flatMap((mark) => mark.point), 3);
    add("tint", marks.flatMap((mark) => mark.color.map((value) => value / 255)), 3);
    add("kind", marks.map((mark) => mark.shape + (mark.selected ? 4 : 0)), 1);
    this.marks.geometry.dispose();
    this.marks.geometry = geometry;
    this.marks.visible = marks.length > 0;
    this.changed();
  }

  wholeView() {
    const size = this.box.getSize(new THREE.Vector3());
    const center = this.box.getCenter(new THREE.Vector3());
    const direction = new THREE.Vector3(-0.6, -0.8, 0.9).normalize();
    return this.placeAround(center, 0.5 * Math.hypot(size.x, size.y, size.z), direction);
  }

  // A camera that sees all of a sphere from a direction.
  placeAround(target, radius, direction) {
    const half = Math.tan(THREE.MathUtils.degToRad(this.camera.fov / 2));
    const distance = (radius * 1.2) / (half * Math.min(1, this.camera.aspect));
    return { target, position: target.clone().addScaledVector(direction, distance) };
  }

  // Flies to where a ball is seen whole: from the middle of the scan, so that the walls next to
  // the ball are behind it. Near the middle the direction of view stays.
  flyTo(center, radius) {
    const target = new THREE.Vector3(...center);
    const size = this.box.getSize(new THREE.Vector3());
    const inward = this.box.getCenter(new THREE.Vector3()).sub(target).setZ(0);
    const near = inward.length() < 0.1 * Math.hypot(size.x, size.y);
    const direction = near ?
      this.camera.position.clone().sub(this.controls.target).setZ(0) : inward;
    if (direction.length() < 1e-6) direction.set(-0.6, -0.8, 0);
    direction.normalize().setZ(ELEVATION).normalize();
    this.startFlight(this.placeAround(target, radius, direction));
  }

  lookFromTop() {
    const target = this.controls.target.clone();
    const distance = this.camera.position.distanceTo(target);
    // A hair off the axis, so that which way is up stays defined.
    const direction = new THREE.Vector3(0, -0.001, 1).normalize();
    this.startFlight({ target, position: target.clone().addScaledVector(direction, distance) });
  }

  reset() {
    this.startFlight(this.wholeView());
  }

  startFlight(to) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still || document.hidden) return this.jumpTo(to);
    const from = { target: this.controls.target.clone(), position: this.camera.position.clone() };
    this.flight = { from, to, start: performance.now() };
    this.moved();
  }

  jumpTo({ target, position }) {
    this.flight = null;
    this.controls.target.copy(target);
    this.camera.position.copy(position);
    this.controls.update();
    this.moved();
  }

  fly(now) {
    const { from, to, start } = this.flight;
    const share = Math.min((now - start) / FLIGHT, 1);
    const eased = share * share * (3 - 2 * share);
    this.controls.target.lerpVectors(from.target, to.target, eased);
    this.camera.position.lerpVectors(from.position, to.position, eased);
    this.controls.update();
    if (share >= 1) this.flight = null;
    this.moved();
  }

  moved() {
    this.lastMove = performance.now();
    this.changed();
  }

  // Asks for a new picture.
  changed() {
    this.stale = true;
    this.schedule();
  }

  schedule() {
    this.scheduled ??= requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    this.scheduled = null;
    if (this.flight) this.fly(now);
    if (!this.cloud) return;
    if (this.drawing) return this.schedule(); // pictures that wait in line make the view lag
    const moving = now - this.lastMove < STILL_AFTER;
    if (this.stale) this.startPicture(moving);
    if (!this.drawn || !moving) this.drawSlice(moving);
    if (this.stale || (this.drawn < this.cloud.total && !moving)) return this.schedule();
    if (moving && this.coarse) {
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => this.changed(), STILL_AFTER);
    }
  }

  startPicture(moving) {
    this.stale = false;
    this.drawn = 0;
    this.coarse = moving && this.budget < this.cloud.total;
    this.renderer.setRenderTarget(this.shading.target);
    this.renderer.clear();
    this.renderer.setRenderTarget(null);
    this.setSizes(this.coarse);
  }

  drawSlice(moving) {
    const end = Math.min(this.drawn + this.budget, this.cloud.total);
    this.cloud.showRange(this.drawn, end);
    this.renderer.setRenderTarget(this.shading.target);
    this.renderer.render(this.scene, this.camera);
    this.renderer.setRenderTarget(null);
    this.timeSlice(end - this.drawn);
    this.drawn = Math.max(end, 1);
    this.frames += 1;
    const complete = end >= this.cloud.total;
    if (!moving && !complete && !this.fresh) return; // the picture before is better so far
    if (complete) this.fresh = false;
    this.present();
  }

  present() {
    const slow = this.coarse && this.budget === FEWEST; // as where the processor draws
    this.shading.uniforms.strength.value = slow ? 0 : this.strength;
    this.shading.present(this.renderer, this.camera);
    this.fitOutline();
    this.renderer.render(this.overlay, this.camera);
  }

  // The circle in which the camera sees the ball: wider than the ball, the nearer the camera.
  fitOutline() {
    const radius = this.cloud.uniforms.radius.value;
    const sqDistance = this.outline.position.distanceToSquared(this.camera.position);
    const room = sqDistance - radius * radius;
    this.outline.visible = radius > 0 && room > 0;
    if (!this.outline.visible) return;
    this.outline.scale.setScalar(radius * Math.sqrt(sqDistance / room));
    this.outline.quaternion.copy(this.camera.quaternion);
  }

  // Fewer points are drawn larger, so that surfaces stay closed.
  setSizes(coarse) {
    const { cloud, camera } = this;
    const { uniforms } = cloud;
    const height = this.renderer.getDrawingBufferSize(new THREE.Vector2()).y;
    const perMeter = height / 2 / Math.tan(THREE.MathUtils.degToRad(camera.fov / 2));
    const wider = coarse ? Math.min(Math.sqrt(cloud.total / this.budget), 2.5) : 1;
    uniforms.pointSize.value = 2.2 * cloud.spacing * this.sizeFactor * wider * perMeter;
    uniforms.smallest.value = 1.5 * this.renderer.getPixelRatio();
    uniforms.ceiling.value = this.visibleBelow();
  }

  // From above, one looks into a room: its ceiling is not drawn then.
  visibleBelow() {
    if (this.ceiling !== null) return this.ceiling;
    const { flatCeiling } = this.cloud;
    const above = flatCeiling !== null && this.camera.position.z > flatCeiling;
    return above ? flatCeiling : 1e9;
  }

  // Measures how long the graphics card takes for a slice, and fits the next one to that.
  timeSlice(points) {
    const gl = this.renderer.getContext();
    const sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    const start = performance.now();
    this.drawing = true;
    const look = () => {
      if (gl.clientWaitSync(sync, 0, 0) === gl.TIMEOUT_EXPIRED) return setTimeout(look, 1);
      gl.deleteSync(sync);
      this.drawing = false;
      this.adapt(points, performance.now() - start);
    };
    setTimeout(look, 1);
  }

  adapt(points, took) {
    if (points < this.budget && took < SLICE) return; // a small slice says nothing of larger ones
    const change = Math.min(Math.max(SLICE / took, 0.3), 1.5);
    const most = Math.max(this.cloud.total, FEWEST);
    this.budget = Math.round(Math.min(Math.max(change * points, FEWEST), most));
  }

  resize() {
    const { clientWidth, clientHeight } = this.container;
    if (!clientWidth || !clientHeight) return;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.renderer.setSize(clientWidth, clientHeight);
    this.camera.aspect = clientWidth / clientHeight;
    this.camera.updateProjectionMatrix();
    const { x, y } = this.renderer.getDrawingBufferSize(new THREE.Vector2());
    this.shading.resize(x, y, this.renderer.getPixelRatio());
    this.marks.material.uniforms.ratio.value = this.renderer.getPixelRatio();
    this.changed();
  }

  // The point that is drawn nearest to a place on the screen; null if none is near.
  pick(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.renderer.getPixelRatio();
    const [x, y] = [(clientX - box.left) * ratio, (clientY - box.top) * ratio].map(Math.floor);
    const half = Math.round(REACH * ratio);
    const numbers = this.drawNumbers(x - half, y - half, 2 * half + 1);
    let [best, bestDistance] = [0, Infinity];
    numbers.forEach((number, i) => {
      const across = (i % (2 * half + 1)) - half;
      const up = Math.floor(i / (2 * half + 1)) - half;
      const distance = Math.hypot(across, up);
      if (number && distance < bestDistance) [best, bestDistance] = [number, distance];
    });
    return this.cloud.pointAt(best);
  }

  // Draws the numbers of the points in a small square of the picture; rows from the bottom.
  drawNumbers(left, top, size) {
    const { renderer, camera, cloud } = this;
    const full = renderer.getDrawingBufferSize(new THREE.Vector2());
    camera.setViewOffset(full.x, full.y, left, top, size, size);
    this.pickTarget.setSize(size, size);
    this.scene.overrideMaterial = cloud.picking;
    this.setSizes(false);
    cloud.showRange(0, cloud.total);
    renderer.setRenderTarget(this.pickTarget);
    renderer.setClearColor(0, 0);
    renderer.clear();
    renderer.render(this.scene, camera);
    const bytes = new Uint8Array(4 * size * size);
    renderer.readRenderTargetPixels(this.pickTarget, 0, 0, size, size, bytes);
    renderer.setRenderTarget(null);
    renderer.setClearColor(BACKGROUND, 1);
    this.scene.overrideMaterial = null;
    camera.clearViewOffset();
    this.changed();
    return new Uint32Array(bytes.buffer);
  }

  // Where a point is on the screen, in CSS pixels of the window.
  project(point) {
    const box = this.canvas.getBoundingClientRect();
    this.camera.updateMatrixWorld(); // it may have moved since the last picture
    const at = new THREE.Vector3(...point).project(this.camera);
    return [box.left + (0.5 + at.x / 2) * box.width, box.top + (0.5 - at.y / 2) * box.height];
  }
}
