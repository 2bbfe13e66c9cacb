"use strict";
/* Shared by the panels: the data, colours of the current theme, numbers in words, and a canvas that is sharp. */
const pitprop = { panels: [] };

window.addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });
window.addEventListener("unhandledrejection", (event) => { document.documentElement.dataset.error = String(event.reason); });

pitprop.byId = (id) => document.getElementById(id);

pitprop.load = async () => {
  const data = JSON.parse(pitprop.byId("data").textContent);
  const unpack = async (text, Kind) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Kind(await new Response(stream).arrayBuffer());
  };
  const [steps, values, maps] = await Promise.all([
    unpack(data.steps_f64, Float64Array), unpack(data.values_f32, Float32Array), unpack(data.maps_f32, Float32Array)]);
  for (const s of data.series) {
    s.values = values.subarray(s.at, s.at + s.n);
    s.steps = steps.subarray(s.steps, s.steps + s.n);
  }
  for (const m of data.maps) m.values = maps.subarray(m.at, m.at + m.shape[0] * m.shape[1] * m.shape[2]);
  return data;
};

/* Marks (findings) that belong beside an indicator at a site. */
pitprop.marksOf = (indicator, site) =>
  pitprop.data.marks.filter((m) => m.site === site && m.reads.includes(indicator));

pitprop.show = (x) => {
  if (Number.isNaN(x)) return "undefined";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  const text = x !== 0 && (size < 1e-3 || size >= 1e6) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
  return text.replace(/-/g, "−");
};
/* Never negative and over more than three orders of magnitude: a linear scale would hide most of it. */
pitprop.wide = (series) => {
  let least = 0, low = Infinity, high = 0;
  for (const s of series) for (const v of s.values) if (Number.isFinite(v)) {
    least = Math.min(least, v);
    if (v > 0) low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return least === 0 && high / low > 1e3;
};
/* Sites as people count: layers.2 before layers.10. */
pitprop.bySite = (a, b) => a.site.localeCompare(b.site, "en", { numeric: true });
pitprop.unit = (indicator) => {
  const unit = pitprop.data.units[indicator];
  return unit && unit !== "1" ? ` ${unit}` : "";
};

/* A colour of the style sheet as the canvas understands it; light-dark() is resolved by the browser. */
pitprop.colour = (name) => {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};

/* Viridis in nine stops (Smith and van der Walt, 2015): even in lightness, safe for colour-blind readers. */
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
pitprop.viridis = (share) => {
  const x = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(x), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[i].map((c, k) => Math.round(c + (VIRIDIS[i + 1][k] - c) * (x - i))).join(",")})`;
};
pitprop.hatch = (context) => {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const t = tile.getContext("2d");
  t.fillStyle = pitprop.colour("panel");
  t.fillRect(0, 0, 6, 6);
  t.strokeStyle = pitprop.colour("failure");
  t.lineWidth = 1.4;
  for (const d of [-6, 0, 6]) { t.beginPath(); t.moveTo(d, 6); t.lineTo(d + 6, 0); t.stroke(); }
  return context.createPattern(tile, "repeat");
};
pitprop.sharp = (canvas, width, height) => {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return context;
};
pitprop.options = (select, pairs) => {
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
};
/* Colour bar with its ends in numbers, then the swatches that are no colour of the bar. */
pitprop.legend = (place, low, high, swatches) => {
  const bar = document.createElement("canvas");
  const c = pitprop.sharp(bar, 120, 10);
  for (let x = 0; x < 120; x++) { c.fillStyle = pitprop.viridis(x / 119); c.fillRect(x, 0, 1, 10); }
  place.replaceChildren(low, bar, high);
  for (const [name, paint] of swatches) {
    const swatch = document.createElement("canvas");
    swatch.className = "gap";
    const s = pitprop.sharp(swatch, 16, 10);
    s.fillStyle = paint(s);
    s.fillRect(0, 0, 16, 10);
    s.strokeStyle = pitprop.colour("soft");
    s.strokeRect(.5, .5, 15, 9);
    place.append(swatch, name);
  }
};
/* Pointer and arrow keys move one cell over a grid; `at(x, y)` names the cell under a point, `to(row, column)` shows it. */
pitprop.explore = (canvas, size, at, to) => {
  let cell = [0, 0];
  const go = (row, column) => {
    const [rows, columns] = size();
    cell = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
    to(...cell);
  };
  canvas.addEventListener("pointermove", (event) => {
    const found = at(event.offsetX, event.offsetY);
    if (found) go(...found);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    go(cell[0] + move[0], cell[1] + move[1]);
  });
};
