// From the text in the page to numbers, and from numbers to text.

const $ = (id) => document.getElementById(id);

const UNITS = { metre: "m", "1/metre": "1/m", relative: "relative", "1/relative": "relative inverse" };
const NO_DEPTH = "no depth";

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// What numbers.py packed: a Float32Array of all values, NaN = no depth.
async function unpack({ text, bytes, scale, shown: [width, height] }) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = width * height;
  const words = new Uint32Array(count);
  for (let plane = 0; plane < bytes; plane++) {
    for (let i = 0; i < count; i++) words[i] |= planes[plane * count + i] << (8 * plane);
  }
  for (let i = 1; i < count; i++) {
    if (i % width) words[i] += words[i - 1];
  }
  if (bytes === 4) return new Float32Array(words.buffer);
  return Float32Array.from(words, (word) => ((word & 0xffff) ? (word & 0xffff) / scale : NaN));
}

// The shortest text that means this 32-bit float and no other.
function exact(value) {
  for (let digits = 1; digits < 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return plain(Number(text));
  }
  return plain(Number(value.toPrecision(9)));
}

function plain(number) {
  const size = Math.abs(number);
  return size !== 0 && (size < 1e-6 || size >= 1e15) ? String(number) : number.toLocaleString("en", { useGrouping: false, maximumSignificantDigits: 9 });
}

// For scales and summaries: three digits.
const rounded = (value) => plain(Number(value.toPrecision(3)));

class Depth {
  constructor(data, values, index) {
    Object.assign(this, data);
    this.values = values;
    this.index = index;
    this.text = "";
    this.series = `--series-${index % 5}`;
    this.relative = data.unit.endsWith("relative");
  }

  // The pixel of the page at a place (0..1 across, 0..1 down), and that of the file whose number it has.
  at(u, v) {
    const [width, height] = this.shown;
    const x = Math.min(width - 1, Math.max(0, Math.floor(u * width)));
    const y = Math.min(height - 1, Math.max(0, Math.floor(v * height)));
    return {
      value: this.values[y * width + x],
      x: Math.floor(((2 * x + 1) * this.size[0]) / (2 * width)),
      y: Math.floor(((2 * y + 1) * this.size[1]) / (2 * height)),
    };
  }

  say(value) {
    if (Number.isNaN(value)) return NO_DEPTH;
    const clipped = this.top !== null && value === Math.fround(this.top);
    return `${clipped ? "≥ " : ""}${exact(value)} ${UNITS[this.unit]}`;
  }

  // Inverse depth; of relative depth without a zero of its own, which has none, depth itself below 0.
  closeness(value) {
    return this.inverse ? value : this.affine ? -value : 1 / value;
  }

  // 0 where the colours are those of far, 1 where they are those of near.
  nearness(value) {
    return (this.closeness(value) - this.far) / (this.near - this.far);
  }

  valueAt(nearness) {
    return this.closeness(this.far + nearness * (this.near - this.far)); // which undoes itself
  }
}
