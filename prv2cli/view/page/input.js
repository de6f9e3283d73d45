// Hands on a frame: mouse, pen, fingers and keys, told to the viewer.

const inside = ({ u, v }) => ({ u: Math.min(1, Math.max(0, u)), v: Math.min(1, Math.max(0, v)) });
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// How far apart two fingers are, in pixels.
function spread(fingers) {
  if (fingers.size !== 2) return 0;
  const [a, b] = fingers.values();
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}

class FrameInput {
  constructor(pane, viewer) {
    Object.assign(this, { pane, viewer, fingers: new Map(), drag: null });
    const { canvas } = pane;
    canvas.onpointerdown = (event) => this.down(event);
    canvas.onpointermove = (event) => this.move(event);
    canvas.onpointerup = canvas.onpointercancel = (event) => this.up(event);
    canvas.onpointerleave = (event) => event.pointerType === "mouse" && viewer.point(null); // a finger has to leave to let see
    canvas.ondblclick = (event) => viewer.zoom(view.zoom > 1 ? 0 : 4, pane.place(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.onkeydown = (event) => this.key(event);
  }

  down(event) {
    const { canvas } = this.pane;
    canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, event);
    const line = this.viewer.state.tool || event.shiftKey;
    this.drag = line ? { from: this.pane.place(event) } : { u: view.u, v: view.v, x: event.clientX, y: event.clientY };
  }

  move(event) {
    if (this.fingers.size === 2) return this.pinch(event);
    const at = this.pane.place(event);
    if (event.buttons && this.drag) this.pull(event, at);
    this.viewer.point(at);
  }

  // A drag draws the line, or moves an enlarged picture, or the divider.
  pull(event, at) {
    const { drag, pane, viewer } = this;
    if (drag.from) viewer.setLine({ from: inside(drag.from), to: inside(at) });
    else if (view.zoom > 1) {
      const box = pane.canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - drag.x) / box.width, (event.clientY - drag.y) / box.height];
      setView(view.zoom, drag.u - x / view.zoom, drag.v - y / view.zoom);
    } else if (pane.layers.length > 1) viewer.setSplit(at.u);
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    if (this.drag?.from && this.viewer.state.line) this.viewer.setTool(false);
    this.drag = null;
  }

  pinch(event) {
    const before = spread(this.fingers);
    this.fingers.set(event.pointerId, event);
    const [a, b] = this.fingers.values();
    const middle = { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
    if (before) this.viewer.zoom(spread(this.fingers) / before, this.pane.place(middle));
  }

  wheel(event) {
    if (!WIDE.matches && !event.ctrlKey) return; // there the wheel moves the page
    event.preventDefault();
    this.viewer.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), this.pane.place(event));
  }

  key(event) {
    const { state } = this.viewer;
    if (event.key in ARROWS) this.step(...ARROWS[event.key], event.shiftKey ? 20 : 1);
    else if (event.key === "Enter" && state.tool && state.pointer) this.endHere();
    else return;
    event.preventDefault();
  }

  // From the middle of a pixel of the first depth to that of another.
  step(dx, dy, pixels) {
    const { viewer } = this;
    const { u, v } = viewer.state.pointer || { u: view.u, v: view.v };
    const [width, height] = viewer.depths[0].shown;
    const to = (place, count, move) => (Math.floor(place * count) + 0.5 + move * pixels) / count;
    viewer.point({ u: to(u, width, dx), v: to(v, height, dy) }, true);
  }

  endHere() {
    const { state } = this.viewer;
    const here = { ...state.pointer };
    if (!state.firstEnd) {
      state.firstEnd = here;
      this.viewer.speak("One end of the line is here; Enter sets the other.");
      return;
    }
    this.viewer.setLine({ from: state.firstEnd, to: here });
    this.viewer.setTool(false);
  }
}

// The divider between two pictures, by mouse and keys.
function dividerOf(pane, viewer) {
  const divider = element("div", undefined, {
    class: "divider", id: "divider", role: "slider", tabindex: 0, "aria-label": "Divider", "aria-valuemin": 0, "aria-valuemax": 100,
  });
  divider.onpointerdown = (event) => divider.setPointerCapture(event.pointerId);
  divider.onpointermove = (event) => {
    if (!event.buttons) return;
    const box = pane.canvas.getBoundingClientRect();
    viewer.setSplit((event.clientX - box.left) / box.width);
  };
  divider.onkeydown = (event) => {
    const steps = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };
    if (!(event.key in steps)) return;
    viewer.setSplit(viewer.state.split + steps[event.key]);
    event.preventDefault();
  };
  return divider;
}
