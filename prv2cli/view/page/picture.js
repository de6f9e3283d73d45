// Depth as colours, and what both pictures and bars are drawn with.

const palettes = { ember: null, grey: null };

function readPalettes(text) {
  palettes.ember = bytesOf(text);
  palettes.grey = Uint8Array.from({ length: palettes.ember.length }, (_, i) => {
    const steps = palettes.ember.length / 3 - 1;
    return Math.round(20 + (235 * Math.floor(i / 3)) / steps);
  });
}

// A canvas of the depth's size; where there is no depth it is transparent.
function coloured(depth, palette) {
  const table = palettes[palette];
  const steps = table.length / 3;
  const [width, height] = depth.shown;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = image.data;
  const { values, far } = depth;
  const factor = steps / (depth.near - far);
  for (let i = 0, at = 0; i < values.length; i++, at += 4) {
    const value = values[i];
    if (Number.isNaN(value)) continue;
    const step = 3 * Math.min(steps - 1, Math.max(0, Math.floor((depth.closeness(value) - far) * factor)));
    pixels[at] = table[step];
    pixels[at + 1] = table[step + 1];
    pixels[at + 2] = table[step + 2];
    pixels[at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

async function photograph(jpeg) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${jpeg}`;
  await image.decode();
  return image;
}

const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// What stands where there is no depth: thin slanted lines.
function hatch(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.fillStyle = colourOf("--hatch-ground");
  pen.fillRect(0, 0, 8, 8);
  pen.strokeStyle = colourOf("--hatch");
  pen.lineWidth = 2;
  for (const shift of [-8, 0, 8]) {
    pen.moveTo(shift - 1, 9);
    pen.lineTo(shift + 9, -1);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

// A context in CSS pixels on a canvas that has all pixels of the screen.
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  return context;
}

// The scale of the colours with its numbers, and where the pointer's value lies on it.
function drawBar(canvas, depth, palette, value) {
  const context = fitted(canvas);
  const width = canvas.clientWidth;
  const table = palettes[palette];
  const steps = table.length / 3;
  for (let x = 0; x < width; x++) {
    const step = 3 * Math.min(steps - 1, Math.floor((x / width) * steps));
    context.fillStyle = `rgb(${table[step]} ${table[step + 1]} ${table[step + 2]})`;
    context.fillRect(x, 6, 1, 14);
  }
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  context.textBaseline = "bottom";
  let free = -1;
  for (const { place, text } of marks(depth)) {
    const x = Math.round(place * width);
    const half = context.measureText(text).width / 2;
    const left = Math.min(width - 2 * half, Math.max(0, x - half));
    if (left < free) continue;
    context.fillStyle = colourOf("--dim");
    context.fillRect(Math.min(width - 1, x), 20, 1, 4);
    context.fillText(text, left, 38);
    free = left + 2 * half + 10;
  }
  if (value === undefined || Number.isNaN(value)) return;
  const x = Math.min(1, Math.max(0, depth.nearness(value))) * width;
  context.fillStyle = colourOf("--ink");
  context.beginPath();
  context.moveTo(x - 5, 0);
  context.lineTo(x + 5, 0);
  context.lineTo(x, 7);
  context.fill();
}

// Round numbers of the depth's unit, from far to near.
function marks(depth) {
  const ends = [depth.valueAt(1e-6), depth.valueAt(1)].sort((a, b) => a - b);
  const found = ends[0] > 0 ? roundByDecades(...ends) : roundBySteps(...ends);
  const unit = depth.relative ? "" : ` ${UNITS[depth.unit]}`;
  return found
    .map((value) => ({ place: depth.nearness(value), text: rounded(value) + unit }))
    .sort((a, b) => a.place - b.place);
}

function roundByDecades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of [1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]) {
      const value = digit * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}

// Relative depth may begin at 0, or below it.
function roundBySteps(low, high) {
  const step = niceStep(high - low, 5);
  const found = [];
  for (let count = Math.ceil(low / step); count * step <= high; count++) found.push(count * step);
  return found;
}
