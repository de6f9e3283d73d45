// The view of the points: which depth, which colours, how wide; turned by hand, by keys or by itself.

const ASSUMED = 60; // degrees, where neither file tells the focal length
const USUAL = { min: 15, max: 130 }; // degrees, the ends of the slider
const ORIGINS = { given: "as it was given", exif: "from EXIF data", estimated: "estimated by the network" };
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

class CloudView {
  constructor(photo, depths, layers, redraw) {
    Object.assign(this, { photo, depths, layers, redraw, cloud: null, visible: false, turning: false, old: true, fingers: new Map() });
    this.canvas = document.querySelector("#cloud canvas");
    options($("cloud-depth"), depths.map((depth) => depth.name));
    $("cloud-depth").value = depths.length - 1;
    $("cloud-depth").onchange = () => this.choose();
    $("cloud-colours").onchange = () => this.renew();
    $("fov").oninput = () => this.renew();
    $("turn").onclick = () => this.toggle();
    this.listen();
    this.choose();
  }

  get depth() {
    return this.depths[Number($("cloud-depth").value)];
  }

  choose() {
    const { focal, focalFrom, relative } = this.depth;
    const degrees = focal ? (360 / Math.PI) * Math.atan(0.5 / focal) : ASSUMED;
    // A slider holds nothing beyond its ends: those of long and very wide lenses lie further out.
    const narrow = degrees < USUAL.min;
    Object.assign($("fov"), { min: narrow ? 0.1 : USUAL.min, max: Math.max(USUAL.max, Math.ceil(degrees)), step: narrow ? 0.1 : 0.5 });
    $("fov").value = degrees;
    const origin = focal ? `The focal length is ${ORIGINS[focalFrom] || `from ${focalFrom}`}.` : `No file tells the focal length; ${ASSUMED}° are assumed.`;
    $("fov-note").textContent = relative ? `${origin} The depth is relative: shapes are not true to scale.` : origin;
    this.renew();
  }

  get byDepth() {
    return $("cloud-colours").value === "depth";
  }

  // Something that the points are made from has changed.
  renew() {
    $("colours").hidden = this.visible && !this.byDepth;
    $("fov-text").textContent = `${plain(Number(Number($("fov").value).toFixed(1)))}°`;
    this.old = true;
    this.redraw();
  }

  show(visible) {
    this.visible = visible;
    $("colours").hidden = visible && !this.byDepth;
    if (!visible) return this.stop();
    this.redraw();
    if (!STILL.matches && !this.seen) this.toggle();
    this.seen = true;
  }

  draw() {
    try {
      this.cloud ??= new Cloud(this.canvas);
    } catch {
      this.stop();
      this.canvas.hidden = true;
      $("no-cloud").hidden = false;
      $("no-cloud").textContent = "Points need WebGL, which this browser does not have or has switched off.";
      return;
    }
    if (this.old) this.fill();
    this.cloud.draw();
  }

  fill() {
    const focal = 0.5 / Math.tan((Number($("fov").value) * Math.PI) / 360);
    const layer = this.byDepth ? this.layers.find((found) => found.depth === this.depth) : this.photo;
    const [width, height] = this.depth.shown;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(layer.picture, 0, 0, width, height);
    this.cloud.set(this.depth, context.getImageData(0, 0, width, height).data, focal);
    this.old = false;
  }

  toggle() {
    this.turning = !this.turning;
    $("turn").setAttribute("aria-pressed", this.turning);
    if (!this.turning) return;
    const begin = performance.now();
    const turn = (now) => {
      if (!this.turning || !this.visible) return;
      this.cloud?.swing((now - begin) / 1000);
      this.draw();
      requestAnimationFrame(turn);
    };
    requestAnimationFrame(turn);
  }

  stop() {
    if (this.turning) this.toggle();
  }

  zoom(factor) {
    if (factor) this.cloud?.zoom(factor);
    else this.cloud?.home();
    if (!factor) this.stop();
    this.redraw();
  }

  // One finger or the mouse turns, two fingers bring nearer.
  drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before || !this.cloud) return;
    const apart = spread(this.fingers);
    this.fingers.set(event.pointerId, event);
    this.stop();
    const height = this.canvas.clientHeight;
    const [x, y] = [(event.clientX - before.clientX) / height, (event.clientY - before.clientY) / height];
    if (this.fingers.size === 2) this.cloud.zoom(apart ? spread(this.fingers) / apart : 1);
    else if (event.shiftKey || event.buttons > 1) this.cloud.shift(x, -y);
    else this.cloud.move(3 * x, 3 * y);
    this.redraw();
  }

  listen() {
    const { canvas } = this;
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, event);
    };
    canvas.onpointermove = (event) => this.drag(event);
    canvas.onpointerup = canvas.onpointercancel = (event) => this.fingers.delete(event.pointerId);
    canvas.oncontextmenu = (event) => event.preventDefault();
    canvas.ondblclick = () => this.zoom(0);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * 0.002));
    }, { passive: false });
    canvas.onkeydown = (event) => {
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [];
      if (x === undefined || !this.cloud) return;
      event.preventDefault();
      this.stop();
      if (event.shiftKey) this.cloud.shift(0.03 * x, -0.03 * y);
      else this.cloud.move(0.06 * x, 0.06 * y);
      this.redraw();
    };
  }
}
