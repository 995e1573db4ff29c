// Shows shapes by darkening what lies behind a near edge: scans without colors are unreadable
// otherwise. Points are drawn into a picture with depths, which is shaded on its way to the screen.
//
// Source: Boucheny 2009, "eye-dome lighting"; the form of Potree, with the mean of eight neighbors.

import * as THREE from "three";

const VERTEX = `
  out vec2 place;
  void main() {
    place = 0.5 + 0.5 * position.xy;
    gl_Position = vec4(position.xy, 0.0, 1.0);
  }`;

const FRAGMENT = `
  // Points are discs that face the camera: on a slanted surface their depths overlap by this much.
  const float ROUGHNESS = 0.02; // log2 of the distance, 1.4 % of it

  uniform sampler2D colors;
  uniform sampler2D depths;
  uniform vec2 pixel;      // size of one, as a part of the picture
  uniform float near;      // meters, as far
  uniform float far;
  uniform float strength;  // 0: not shaded, which is faster
  in vec2 place;
  out vec4 result;

  float logDistance(vec2 at) {
    float depth = texture(depths, at).r;
    return depth >= 1.0 ? 1e3 : log2(near * far / (far - depth * (far - near)));
  }

  void main() {
    result = texture(colors, place);
    if (strength == 0.0) return;
    float own = logDistance(place);
    float behind = 0.0;
    for (int i = 0; i < 8; i++) {
      float angle = 0.7853982 * float(i);
      float other = logDistance(place + pixel * vec2(cos(angle), sin(angle)));
      behind += max(0.0, own - other - ROUGHNESS) / 8.0;
    }
    float light = own >= 1e3 ? 1.0 : exp(-strength * min(behind, 0.1));
    result.rgb *= light;
  }`;

const REACH = 1.4; // pixels of the screen between a point and its neighbors

export class Shading {
  constructor() {
    const depths = new THREE.DepthTexture(1, 1, THREE.UnsignedIntType);
    this.target = new THREE.WebGLRenderTarget(1, 1, { depthTexture: depths });
    this.uniforms = {
      colors: { value: this.target.texture }, depths: { value: depths },
      pixel: { value: new THREE.Vector2() }, near: { value: 0.1 }, far: { value: 100 },
      strength: { value: 20 },
    };
    const material = new THREE.ShaderMaterial({
      glslVersion: THREE.GLSL3, vertexShader: VERTEX, fragmentShader: FRAGMENT,
      uniforms: this.uniforms, depthTest: false, depthWrite: false, blending: THREE.NoBlending,
    });
    const corners = new Float32Array([-1, -1, 0, 3, -1, 0, -1, 3, 0]); // covers the screen
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(corners, 3));
    const screen = new THREE.Mesh(geometry, material);
    screen.frustumCulled = false;
    this.scene = new THREE.Scene().add(screen);
  }

  resize(width, height, ratio) {
    this.target.setSize(width, height);
    this.uniforms.pixel.value.set((REACH * ratio) / width, (REACH * ratio) / height);
  }

  // Puts the picture onto the screen.
  present(renderer, camera) {
    this.uniforms.near.value = camera.near;
    this.uniforms.far.value = camera.far;
    renderer.render(this.scene, camera);
  }
}
