// What stands beside the pictures: values, colour scales, the files.

function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

const sized = ([width, height]) => `${width} × ${height}`;
const megapixels = ([width, height]) => `${rounded((width * height) / 1e6)} megapixels`;
const reduced = ({ size, shown }) => size[0] !== shown[0] || size[1] !== shown[1];

function showHead(data) {
  const { photo } = data;
  $("name").textContent = photo.name;
  const small = reduced(photo) ? `, reduced to ${sized(photo.shown)} for this page` : "";
  $("size").textContent = `${sized(photo.size)} (${megapixels(photo.size)})${small}`;
  $("version").textContent = data.version;
}

// One row a depth; returns what fills them for a place, or for none.
function valueRows(depths) {
  const rows = depths.map((depth) => {
    const row = element("div");
    const mark = element("i");
    mark.style.background = `var(${depth.series})`;
    const value = element("dd", "–", { class: "none", "data-value": depth.index });
    const about = element("dd", "", { class: "about", "data-pixel": depth.index });
    row.append(mark, element("dt", depth.name, { title: depth.name }), value, about);
    $("values").append(row);
    return { depth, value, about };
  });
  return (place) => {
    for (const { depth, value, about } of rows) {
      const found = place && depth.at(place.u, place.v);
      value.textContent = found ? depth.say(found.value) : "–";
      value.className = found && !Number.isNaN(found.value) ? "" : "none";
      about.textContent = found ? `pixel ${found.x}, ${found.y}${inMetres(depth, found.value)}` : "";
    }
  };
}

function inMetres(depth, value) {
  return depth.unit === "1/metre" && !Number.isNaN(value) ? `, ${rounded(1 / value)} m away` : "";
}

// One scale for all depths that share it.
function colourBars(depths) {
  const groups = new Map();
  for (const depth of depths) {
    const key = [depth.unit, depth.far, depth.near, depth.relative && depth.index].join();
    groups.set(key, [...(groups.get(key) || []), depth]);
  }
  const bars = [...groups.values()].map((group) => {
    const node = element("div", undefined, { class: "bar" });
    const canvas = element("canvas", undefined, { role: "img" });
    const [first] = group;
    canvas.setAttribute("aria-label", `From ${rounded(first.valueAt(1e-6))} (far) to ${rounded(first.valueAt(1))} ${UNITS[first.unit]} (near)`);
    const names = group.map((depth) => depth.name).join(", ");
    const kind = first.relative ? `${UNITS[first.unit]}, no unit` : UNITS[first.unit];
    if (groups.size > 1) node.append(element("p", `${names}: ${kind}`, { title: names }));
    else if (first.relative) node.append(element("p", `${kind}; far to near`));
    node.append(canvas);
    $("bars").append(node);
    return { canvas, depth: first };
  });
  $("holes").hidden = !depths.some((depth) => depth.missing);
  return (palette, place) => {
    for (const { canvas, depth } of bars) drawBar(canvas, depth, palette, place ? depth.at(place.u, place.v).value : undefined);
  };
}

function fillFiles(data, depths) {
  const list = (pairs) => {
    const node = element("dl");
    for (const [key, value] of pairs) if (value) node.append(element("dt", key), element("dd", value));
    return node;
  };
  const size = (layer) => [["size", sized(layer.size)], ["here", reduced(layer) ? sized(layer.shown) : ""]];
  $("files").append(element("h3", data.photo.name), list([...size(data.photo), ["notes", data.photo.notes.join("; ")]]));
  for (const depth of depths) {
    const share = depth.missing / (depth.size[0] * depth.size[1]);
    $("files").append(
      element("h3", depth.name),
      list([
        ...size(depth),
        ["", reduced(depth) ? "each pixel here has the number of one pixel of the file" : ""],
        ["unit", depth.relative ? `${UNITS[depth.unit]}: near and far, no physical unit` : UNITS[depth.unit]],
        ["no depth", depth.missing ? `${depth.missing} pixels (${plain(Number((100 * share).toPrecision(3)))} %), hatched` : "none"],
        ["clipped", depth.clipped ? `${depth.clipped} pixels, marked ≥` : ""],
        ["model", depth.model],
        ["coarse", depth.coarse],
        ["notes", depth.notes.join("; ")],
      ]),
    );
  }
}

function options(select, names) {
  names.forEach((name, index) => select.append(element("option", name, { value: index })));
}
