// The pictures: what part of them is seen (one view for all), the divider, the pointer and the line on them.

const view = { zoom: 1, u: 0.5, v: 0.5 }; // the middle of the frames, 0..1
const MOST_ZOOM = 40;
const NARROW = 340; // CSS pixels

function setView(zoom, u, v) {
  view.zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
  const half = 0.5 / view.zoom;
  view.u = Math.min(1 - half, Math.max(half, u));
  view.v = Math.min(1 - half, Math.max(half, v));
}

// Enlarge so that the place stays where it is on the screen.
function zoomAt(factor, at) {
  const zoom = Math.min(MOST_ZOOM, Math.max(1, view.zoom * factor));
  const kept = view.zoom / zoom;
  const { u, v } = at || view;
  setView(zoom, u + (view.u - u) * kept, v + (view.v - v) * kept);
}

class Pane {
  // layers: one, or the two on the left and on the right of the divider.
  constructor(layers, label) {
    this.layers = layers;
    this.drawn = new Map();
    this.node = document.createElement("div");
    this.node.className = "pane";
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", `${label}; the arrow keys move the pointer`);
    this.chip = document.createElement("span");
    this.chip.className = "chip";
    this.node.append(this.canvas, this.chip);
  }

  // Where a mouse event is: 0..1 across and down the whole picture.
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      u: view.u + ((event.clientX - box.left) / box.width - 0.5) / view.zoom,
      v: view.v + ((event.clientY - box.top) / box.height - 0.5) / view.zoom,
    };
  }

  onScreen({ u, v }) {
    return [
      ((u - view.u) * view.zoom + 0.5) * this.canvas.clientWidth,
      ((v - view.v) * view.zoom + 0.5) * this.canvas.clientHeight,
    ];
  }

  draw(state) {
    const context = fitted(this.canvas);
    const edge = Math.round((this.layers.length > 1 ? state.split : 1) * this.canvas.width);
    this.drawPart(context, this.layers[0], 0, edge);
    if (this.layers.length > 1) this.drawPart(context, this.layers[1], edge, this.canvas.width);
    if (state.line) this.drawLine(context, state.line);
    if (state.pointer) this.drawPointer(context, ...this.onScreen(state.pointer));
    this.chip.textContent = state.pointer ? this.told(state.pointer) : "";
  }

  // Columns of the canvas from a layer.
  drawPart(context, layer, from, to) {
    if (to <= from) return;
    const { height } = this.canvas;
    context.save();
    context.resetTransform();
    context.drawImage(this.rendered(layer), from, 0, to - from, height, from, 0, to - from, height);
    context.restore();
  }

  // A layer as this frame has it, drawn again only when something has changed: the pointer moves all the time.
  rendered(layer) {
    const { width, height } = this.canvas;
    const key = [width, height, view.zoom, view.u, view.v, colourOf("--hatch")].join();
    const known = this.drawn.get(layer);
    if (known?.key === key && known.picture === layer.picture) return known.canvas;
    const canvas = known?.canvas || document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    if (layer.depth) {
      context.fillStyle = hatch(context);
      context.fillRect(0, 0, width, height);
    }
    const enlarged = (width * view.zoom) / layer.shown[0];
    context.imageSmoothingEnabled = enlarged < 2; // then pixels are seen as they are
    context.imageSmoothingQuality = "high";
    const [left, top] = [(0.5 - view.u * view.zoom) * width, (0.5 - view.v * view.zoom) * height];
    context.drawImage(layer.picture, left, top, width * view.zoom, height * view.zoom);
    this.drawn.set(layer, { key, picture: layer.picture, canvas });
    return canvas;
  }

  drawLine(context, { from, to }) {
    const ends = [this.onScreen(from), this.onScreen(to)];
    for (const [width, colour] of [[4, "#000a"], [2, "#fff"]]) {
      context.lineWidth = width;
      context.strokeStyle = context.fillStyle = colour;
      context.beginPath();
      context.moveTo(...ends[0]);
      context.lineTo(...ends[1]);
      context.stroke();
      for (const [x, y] of ends) {
        context.beginPath();
        context.arc(x, y, 2 + width / 2, 0, 7);
        context.fill();
      }
    }
  }

  drawPointer(context, x, y) {
    for (const [width, colour] of [[3, "#0008"], [1.25, "#fff"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 12 * dx, y + 12 * dy);
      }
      context.stroke();
    }
  }

  // The values of the depths in this frame.
  told({ u, v }) {
    const said = this.layers.filter((layer) => layer.depth).map(({ depth }) => depth.say(depth.at(u, v).value));
    return said.join(" | ");
  }
}

// Width and height that give so many frames the largest pictures in a room; without a height, columns of NARROW at least.
function frameSize(count, aspect, width, height, gap) {
  let best = { width: 0, height: 0 };
  const inColumns = Math.min(count, Math.max(1, Math.floor(width / NARROW)));
  const [first, last] = height === null ? [inColumns, inColumns] : [1, count];
  for (let columns = first; columns <= last; columns++) {
    const rows = Math.ceil(count / columns);
    const room = (width - gap * (columns - 1)) / columns;
    const tall = height === null ? Infinity : (height - gap * (rows - 1)) / rows;
    const found = Math.floor(Math.min(room, tall * aspect));
    if (found > best.width) best = { width: found, height: Math.floor(found / aspect) };
  }
  return best;
}
