// What is shown now: one state, drawn again when it changes.

const WIDE = matchMedia("(min-width: 960px)");
const DARK = matchMedia("(prefers-color-scheme: dark)");
const GAP = 8;
const LAST = 0.999999; // still on the last pixel

class Viewer {
  constructor(photo, depths) {
    this.photo = photo;
    this.depths = depths;
    this.layers = [photo, ...depths.map((depth) => ({ name: depth.name, shown: depth.shown, depth }))];
    this.state = { mode: "compare", left: 0, right: 1, split: 0.5, pointer: null, line: null, along: null, palette: "ember", tool: false, firstEnd: null };
    this.panes = [];
    this.showValues = valueRows(depths);
    this.showBars = colourBars(depths);
    this.profile = new Profile($("chart"), depths);
    this.cloud = new CloudView(photo, depths, this.layers, () => this.redraw());
    this.profileInput();
    new ResizeObserver(() => this.layOut()).observe($("stage"));
  }

  // --- drawing ---

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const { state } = this;
    for (const pane of this.panes) pane.draw(state);
    if (state.mode === "points") this.cloud.draw();
    this.showValues(state.pointer);
    this.showBars(state.palette, state.pointer);
    $("where").textContent = state.pointer ? this.whereIs(state.pointer) : "Point at a picture.";
    if (state.line) this.profile.draw(state.along);
  }

  whereIs({ u, v }) {
    const [width, height] = this.photo.size;
    return `${Math.floor(u * width)}, ${Math.floor(v * height)} of the photograph`;
  }

  layOut() {
    const room = $("panes");
    const height = WIDE.matches ? room.clientHeight : null;
    const size = frameSize(this.panes.length, this.photo.size[0] / this.photo.size[1], room.clientWidth, height, GAP);
    for (const { node } of this.panes) Object.assign(node.style, { width: `${size.width}px`, height: `${size.height}px` });
    this.redraw();
  }

  setPalette(name) {
    this.state.palette = $("palette").value = name;
    for (const layer of this.layers) if (layer.depth) layer.picture = coloured(layer.depth, name);
    this.cloud.renew();
    this.redraw();
  }

  nextPalette() {
    const names = Object.keys(palettes);
    this.setPalette(names[(names.indexOf(this.state.palette) + 1) % names.length]);
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    this.redraw();
  }

  otherTheme() {
    this.setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  }

  // --- frames ---

  setMode(mode) {
    this.state.mode = mode;
    document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
    const flat = mode !== "points";
    for (const name of ["panes", "line", "profile", "at"]) $(name).hidden = !flat;
    for (const name of ["cloud", "turn", "cloud-options"]) $(name).hidden = flat;
    const alone = (layer) => this.addInput(new Pane([layer], layer.name), element("span", layer.name, { class: "tag first", title: layer.name }));
    this.panes = mode === "side" ? this.layers.map(alone) : flat ? [this.comparison()] : [];
    $("panes").replaceChildren(...this.panes.map((pane) => pane.node));
    if (mode === "compare") this.setSplit(this.state.split);
    this.cloud.show(!flat);
    this.layOut();
  }

  addInput(pane, ...parts) {
    pane.node.append(...parts);
    new FrameInput(pane, this);
    return pane;
  }

  comparison() {
    const { state, layers } = this;
    const pane = new Pane([layers[state.left], layers[state.right]], "Two pictures with a divider");
    const selects = [["left", "first"], ["right", "second"]].map(([side, corner]) => {
      const select = element("select", undefined, { class: `tag ${corner}`, id: side, "aria-label": `On the ${side}` });
      options(select, layers.map((layer) => layer.name));
      select.value = state[side];
      select.onchange = () => this.choose({ [side]: Number(select.value) });
      return select;
    });
    return this.addInput(pane, ...selects, dividerOf(pane, this));
  }

  choose(sides) {
    const { state } = this;
    Object.assign(state, sides);
    if (state.mode !== "compare") return;
    this.panes[0].layers = [this.layers[state.left], this.layers[state.right]];
    for (const side of ["left", "right"]) $(side).value = state[side];
    this.setSplit(state.split);
  }

  setSplit(split) {
    const { state, layers } = this;
    state.split = Math.min(1, Math.max(0, split));
    const divider = $("divider");
    if (!divider) return;
    const percent = Math.round(100 * state.split);
    divider.style.left = `${100 * state.split}%`;
    divider.setAttribute("aria-valuenow", percent);
    divider.setAttribute("aria-valuetext", `${percent} % ${layers[state.left].name}, then ${layers[state.right].name}`);
    this.redraw();
  }

  zoom(factor, at) {
    if (this.state.mode === "points") return this.cloud.zoom(factor);
    if (factor) zoomAt(factor, at || this.state.pointer);
    else setView(1, 0.5, 0.5);
    this.hold();
    this.redraw();
  }

  // Whether a finger moves what is in the frame, and not the page.
  hold() {
    $("panes").classList.toggle("held", view.zoom > 1 || this.state.tool);
  }

  // --- pointer and line ---

  point(place, spoken = false) {
    const on = (part) => Math.min(LAST, Math.max(0, part));
    this.state.along = null;
    this.state.pointer = place && { u: on(place.u), v: on(place.v) };
    if (spoken) this.speak(this.told(this.state.pointer));
    this.redraw();
  }

  told({ u, v }) {
    return this.depths.map((depth) => `${depth.name}: ${depth.say(depth.at(u, v).value)}`).join("; ");
  }

  speak(text) {
    $("spoken").textContent = text;
  }

  setTool(on) {
    this.state.tool = on;
    this.state.firstEnd = null;
    $("line").setAttribute("aria-pressed", on);
    this.hold();
  }

  setLine(line) {
    this.state.line = line;
    this.state.along = null;
    this.profile.set(line, this.photo);
    $("graph").hidden = !line;
    $("no-line").hidden = Boolean(line);
    if (line) $("length").textContent = `${Math.round(this.profile.length)} pixels of the photograph`;
    this.redraw();
  }

  walk(part) {
    const along = Math.min(1, Math.max(0, part));
    this.point(between(this.state.line, along));
    this.state.along = along;
    $("chart").setAttribute("aria-valuenow", Math.round(100 * along));
    $("chart").setAttribute("aria-valuetext", this.told(this.state.pointer));
  }

  profileInput() {
    const chart = $("chart");
    chart.onpointermove = (event) => this.walk(this.profile.along(event));
    chart.onpointerleave = () => this.point(null);
    chart.onkeydown = (event) => {
      const [x, y] = ARROWS[event.key] || [];
      if (x === undefined) return;
      event.preventDefault();
      this.walk((this.state.along ?? 0) + (x - y) * (event.shiftKey ? 0.05 : 0.005));
    };
  }
}

// --- buttons, keys, the address ---

function wire(viewer) {
  const { state } = viewer;
  const help = () => $("help").showModal();
  const tool = () => viewer.setTool(!state.tool);
  const larger = () => viewer.zoom(1.5);
  const smaller = () => viewer.zoom(1 / 1.5);
  const clicks = {
    theme: () => viewer.otherTheme(), keys: help, line: tool, clear: () => viewer.setLine(null), in: larger, out: smaller, fit: () => viewer.zoom(0),
  };
  for (const [id, action] of Object.entries(clicks)) $(id).onclick = action;
  $("palette").onchange = () => viewer.setPalette($("palette").value);
  for (const radio of document.querySelectorAll("input[name=mode]")) radio.onchange = () => viewer.setMode(radio.value);
  const keys = {
    1: () => viewer.setMode("compare"),
    2: () => viewer.setMode("side"),
    3: () => viewer.setMode("points"),
    "[": () => viewer.setSplit(state.split - 0.02),
    "]": () => viewer.setSplit(state.split + 0.02),
    x: () => viewer.choose({ left: state.right, right: state.left }),
    l: tool,
    c: () => viewer.nextPalette(),
    t: () => viewer.otherTheme(),
    "+": larger,
    "=": larger,
    "-": smaller,
    "−": smaller,
    0: () => viewer.zoom(0),
    " ": () => state.mode === "points" && viewer.cloud.toggle(),
    "?": help,
    Escape: () => [viewer.setTool(false), viewer.setLine(null)],
  };
  addEventListener("keydown", (event) => {
    const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || isBusy(event)) return;
    event.preventDefault();
    action();
  });
}

// Whether a key belongs to what has the focus.
function isBusy({ key, target }) {
  return $("help").open || target.closest("select, input[type=range]") || (key === " " && target.closest("button, summary, input"));
}

// page.html#view=side&line=.1,.5,.9,.5&at=.3,.4&split=.6&theme=dark
function obeyAddress(viewer) {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const numbers = (name) => wanted.get(name).split(",").map(Number);
  const theme = wanted.get("theme");
  viewer.setTheme(theme === "dark" || theme === "light" ? theme : DARK.matches ? "dark" : "light");
  DARK.onchange = () => viewer.setTheme(DARK.matches ? "dark" : "light");
  if (wanted.has("split")) viewer.state.split = numbers("split")[0];
  viewer.setMode(["side", "points"].find((mode) => mode === wanted.get("view")) || "compare");
  if (wanted.has("line")) {
    const [u0, v0, u1, v1] = numbers("line");
    viewer.setLine({ from: { u: u0, v: v0 }, to: { u: u1, v: v1 } });
  }
  if (wanted.has("at")) viewer.point({ u: numbers("at")[0], v: numbers("at")[1] });
}

async function start() {
  const data = JSON.parse($("data").textContent);
  readPalettes(data.colours);
  const depths = await Promise.all(data.depths.map(async (found, i) => new Depth(found, await unpack(found), i)));
  const photo = { ...data.photo, picture: await photograph(data.photo.jpeg) };
  showHead(data);
  fillFiles(data, depths);
  const viewer = new Viewer(photo, depths);
  wire(viewer);
  viewer.setPalette("ember");
  obeyAddress(viewer);
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  $("wait").hidden = true;
  $("failed").hidden = false;
  $("failed").textContent =
    typeof DecompressionStream === "undefined"
      ? "This browser is too old for this page: Chrome 105, Firefox 113, Safari 16.4 or later show it."
      : `This page is damaged: ${error.message}. Make it again with prv2 view.`;
});
