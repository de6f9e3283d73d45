// The point cloud in plain WebGL. Lengths are in units of the middle depth, so that a cloud of any size fits.

const MOST_POINTS = 700000;
const FAR = 400;
const SHARE = 0.82; // of the frame, so that there is room to turn
const HOME = { yaw: 0, pitch: 0, distance: 1, x: 0, y: 0 };

const VERTEX = `
attribute vec3 place;
attribute vec3 colour;
uniform mat4 turn;
uniform vec2 scale;
uniform float spacing;
varying vec3 shade;
void main() {
  vec4 seen = turn * vec4(place, 1.0);
  float far = -seen.z;
  gl_Position = vec4(seen.xy * scale, far * ${((FAR + 0.01) / (FAR - 0.01)).toFixed(6)} - ${((2 * FAR * 0.01) / (FAR - 0.01)).toFixed(6)}, far);
  gl_PointSize = clamp(spacing * -place.z / max(far, 0.01) + 0.6, 1.0, 14.0);
  shade = colour;
}`;

const FRAGMENT = `
precision mediump float;
varying vec3 shade;
void main() { gl_FragColor = vec4(shade, 1.0); }`;

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made) || "no WebGL");
  return made;
}

// Camera from HOME: turned about a point one middle depth away.
function turned({ yaw, pitch, distance, x, y }) {
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  return new Float32Array([
    cy, sp * sy, -cp * sy, 0,
    0, cp, sp, 0,
    sy, -sp * cy, cp * cy, 0,
    sy + x, -sp * cy + y, cp * cy - distance, 1,
  ]);
}

class Cloud {
  constructor(canvas) {
    this.canvas = canvas;
    this.camera = { ...HOME };
    const gl = canvas.getContext("webgl", { antialias: true, alpha: false });
    if (!gl) throw new Error("no WebGL");
    this.gl = gl;
    this.program = program(gl);
    this.buffers = { place: gl.createBuffer(), colour: gl.createBuffer() };
    gl.useProgram(this.program);
    gl.enable(gl.DEPTH_TEST);
  }

  // pixels: RGBA of a picture at the depth's size; focal: in widths of the picture.
  set(depth, pixels, focal) {
    const [width, height] = depth.shown;
    const step = Math.max(1, Math.ceil(Math.sqrt(depth.values.length / MOST_POINTS)));
    const zs = [];
    const at = [];
    for (let y = step >> 1; y < height; y += step) {
      for (let x = step >> 1; x < width; x += step) {
        const value = depth.values[y * width + x];
        if (!(value > 0)) continue; // no depth, or as far or near as can be in a map without a unit
        zs.push(depth.inverse ? 1 / value : value);
        at.push(y * width + x);
      }
    }
    const middle = Float64Array.from(zs).sort()[zs.length >> 1];
    const places = new Float32Array(3 * zs.length);
    const colours = new Uint8Array(3 * zs.length);
    zs.forEach((depthThere, i) => {
      const z = depthThere / middle;
      places[3 * i] = (((at[i] % width) + 0.5) / width - 0.5) * (z / focal);
      places[3 * i + 1] = (0.5 * height - Math.floor(at[i] / width) - 0.5) * (z / focal / width);
      places[3 * i + 2] = -z;
      for (let c = 0; c < 3; c++) colours[3 * i + c] = pixels[4 * at[i] + c];
    });
    this.load("place", places, 3, this.gl.FLOAT, false);
    this.load("colour", colours, 3, this.gl.UNSIGNED_BYTE, true);
    Object.assign(this, { count: zs.length, focal, aspect: width / height, across: width / step });
  }

  load(name, data, size, type, normalised) {
    const { gl } = this;
    const index = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribPointer(index, size, type, normalised, 0, 0);
  }

  draw() {
    const { gl, canvas } = this;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const photo = SHARE * Math.min(width, height * this.aspect); // as wide the photograph is at first
    gl.viewport(0, 0, width, height);
    gl.clearColor(...colourOf("--ground").match(/[\da-f]{2}/gi).map((part) => parseInt(part, 16) / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const uniform = (name) => gl.getUniformLocation(this.program, name);
    gl.uniformMatrix4fv(uniform("turn"), false, turned(this.camera));
    gl.uniform2f(uniform("scale"), (2 * this.focal * photo) / width, (2 * this.focal * photo) / height);
    gl.uniform1f(uniform("spacing"), photo / this.across);
    gl.drawArrays(gl.POINTS, 0, this.count);
  }

  // A slow swing, as long as it is let.
  swing(seconds) {
    this.camera.yaw = 0.24 * Math.sin(seconds * 0.8);
    this.camera.pitch = 0.06 * Math.sin(seconds * 0.55);
  }

  move(yaw, pitch) {
    this.camera.yaw += yaw;
    this.camera.pitch = Math.min(1.5, Math.max(-1.5, this.camera.pitch + pitch));
  }

  shift(x, y) {
    this.camera.x += x * this.camera.distance;
    this.camera.y += y * this.camera.distance;
  }

  zoom(factor) {
    this.camera.distance = Math.min(8, Math.max(0.05, this.camera.distance / factor));
  }

  home() {
    this.camera = { ...HOME };
  }
}
