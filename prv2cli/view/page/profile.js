// Depth along a line: sampled pixel by pixel, drawn with the first depth's unit on the left, another on the right.

const MOST_SAMPLES = 4096;
const between = ({ from, to }, t) => ({ u: from.u + (to.u - from.u) * t, v: from.v + (to.v - from.v) * t });

function sampled(depth, line) {
  const [width, height] = depth.shown;
  const steps = Math.max(Math.abs(line.to.u - line.from.u) * width, Math.abs(line.to.v - line.from.v) * height);
  const count = Math.min(MOST_SAMPLES, Math.max(2, Math.ceil(steps) + 1));
  return Array.from({ length: count }, (_, i) => {
    const { u, v } = between(line, i / (count - 1));
    return depth.at(u, v).value;
  });
}

// Round steps of which a span has about so many.
function niceStep(span, count) {
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * ([1, 2, 2.5, 5].find((digit) => digit * power >= raw) || 10);
}

class Profile {
  constructor(canvas, depths) {
    this.canvas = canvas;
    this.depths = depths;
    this.series = [];
    this.box = { left: 46, right: 8, top: 12, bottom: 22 };
  }

  set(line, photo) {
    this.series = line ? this.depths.map((depth) => ({ depth, values: sampled(depth, line) })) : [];
    if (!line) return;
    const [width, height] = photo.size;
    this.length = Math.hypot((line.to.u - line.from.u) * width, (line.to.v - line.from.v) * height);
    this.axes = [];
    for (const unit of new Set(this.depths.map((depth) => depth.unit))) this.axes.push(this.axis(unit));
    this.box.right = this.axes.length > 1 ? 46 : 8;
  }

  axis(unit) {
    const known = this.series.filter(({ depth }) => depth.unit === unit).flatMap(({ values }) => values.filter((v) => !Number.isNaN(v)));
    let low = known.reduce((a, b) => Math.min(a, b), Infinity);
    let high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!known.length) [low, high] = [0, 1];
    const margin = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
    return { unit, low: low - margin, high: high + margin };
  }

  x(t) {
    return this.box.left + t * (this.canvas.clientWidth - this.box.left - this.box.right);
  }

  y(value, { low, high }) {
    const { top, bottom } = this.box;
    return top + (1 - (value - low) / (high - low)) * (this.canvas.clientHeight - top - bottom);
  }

  // Where along the line (0..1) a mouse event is.
  along(event) {
    const box = this.canvas.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left - this.box.left) / (box.width - this.box.left - this.box.right)));
  }

  draw(cursor) {
    const context = fitted(this.canvas);
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    this.axes.slice(0, 2).forEach((axis, side) => this.drawAxis(context, axis, side));
    this.drawLength(context);
    for (const { depth, values } of this.series) {
      this.drawSeries(context, values, this.axes.find((axis) => axis.unit === depth.unit), colourOf(depth.series));
    }
    if (cursor === null) return;
    context.strokeStyle = colourOf("--ink");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(Math.round(this.x(cursor)) + 0.5, this.box.top);
    context.lineTo(Math.round(this.x(cursor)) + 0.5, this.canvas.clientHeight - this.box.bottom);
    context.stroke();
  }

  drawAxis(context, axis, side) {
    const step = niceStep(axis.high - axis.low, 5);
    const right = this.canvas.clientWidth - this.box.right;
    context.textBaseline = "middle";
    context.textAlign = side ? "left" : "right";
    for (let value = Math.ceil(axis.low / step) * step; value <= axis.high; value += step) {
      const y = Math.round(this.y(value, axis));
      context.fillStyle = colourOf("--edge");
      if (!side) context.fillRect(this.box.left, y, right - this.box.left, 1);
      context.fillStyle = colourOf("--dim");
      context.fillText(plain(Number(value.toPrecision(6))), side ? right + 6 : this.box.left - 6, y);
    }
    context.textBaseline = "top";
    context.textAlign = side ? "right" : "left";
    context.fillText(UNITS[axis.unit], side ? this.canvas.clientWidth : 0, 0);
  }

  drawLength(context) {
    context.textBaseline = "alphabetic";
    context.fillStyle = colourOf("--dim");
    const base = this.canvas.clientHeight - 6;
    const right = this.canvas.clientWidth - this.box.right;
    context.textAlign = "left";
    context.fillText("0", this.box.left, base);
    context.textAlign = "right";
    context.fillText(`${Math.round(this.length)} px`, right, base);
  }

  drawSeries(context, values, axis, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.lineJoin = context.lineCap = "round";
    context.beginPath();
    let drawing = false;
    values.forEach((value, i) => {
      const known = !Number.isNaN(value);
      const place = [this.x(i / (values.length - 1)), known ? this.y(value, axis) : 0];
      if (known && drawing) context.lineTo(...place);
      else if (known) {
        context.moveTo(...place);
        context.lineTo(...place); // a dot, should it stay alone
      }
      drawing = known; // no depth: a gap
    });
    context.stroke();
  }
}
