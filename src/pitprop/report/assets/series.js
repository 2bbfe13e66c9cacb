/* One indicator over the steps at the chosen sites. */
pitprop.panels.push((data) => {
  const place = pitprop.byId("series-plot");
  if (!place) return null;
  const COLOURS = 8;
  const name = (i) => `s${i % COLOURS}`;
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const FIRST = 6;
  const select = pitprop.byId("series-indicator"), log = pitprop.byId("series-log");
  const filter = pitprop.byId("series-filter"), sites = pitprop.byId("series-sites");
  const marked = (s) => pitprop.marksOf(s.indicator, s.site).length > 0;
  /* Marks come gravest first: the panel opens on what the gravest finding read. */
  const gravity = (name) => {
    const first = data.marks.findIndex((m) => m.reads.includes(name) && data.series.some((s) => s.indicator === name && s.site === m.site));
    return first < 0 ? data.marks.length : first;
  };
  const names = [...new Set(data.series.map((s) => s.indicator))].sort((a, b) => gravity(a) - gravity(b));
  pitprop.options(select, names.map((name) => [name, name]));
  let plot = null, chosen = new Set(), own = [];

  const listSites = () => {
    own = data.series.filter((s) => s.indicator === select.value).sort(pitprop.bySite);
    log.checked = pitprop.wide(own);
    const order = [...own].sort((a, b) => marked(b) - marked(a));
    chosen = new Set(order.slice(0, FIRST).map((s) => s.site));
    const labels = own.map((s, i) => {
      const label = document.createElement("label"), box = document.createElement("input"), key = document.createElement("i");
      box.type = "checkbox";
      box.checked = chosen.has(s.site);
      box.addEventListener("change", () => { box.checked ? chosen.add(s.site) : chosen.delete(s.site); draw(); });
      key.style.background = `var(--${name(i)})`;
      label.append(box, key, s.site);
      label.dataset.site = s.site;
      return label;
    });
    sites.replaceChildren(sites.querySelector("legend"), ...labels);
    sites.hidden = own.length < 2;
    filter.parentElement.hidden = own.length <= 12;
    filter.value = "";
  };

  /* In uPlot null is a gap (undefined here), and undefined, made by join, is "not measured" and drawn through. */
  const table = (shown) => uPlot.join(shown.map((s) => [
    [...s.steps], [...s.values].map((v) => Number.isFinite(v) && !(log.checked && v <= 0) ? v : null)]));

  const overlay = (shown) => (u) => {
    const c = u.ctx, { left, top, width, height } = u.bbox, ratio = uPlot.pxRatio;
    const inside = (x) => x >= left && x <= left + width;
    c.save();
    c.font = `${11 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    const labels = new Map();
    for (const s of shown) for (const mark of pitprop.marksOf(s.indicator, s.site)) {
      c.strokeStyle = pitprop.colour(mark.severity);
      c.lineWidth = 1.5 * ratio;
      for (const [step, dash] of [[mark.onset, []], [mark.detected, [5 * ratio, 4 * ratio]]]) {
        const x = u.valToPos(step, "x", true);
        if (!inside(x)) continue;
        c.setLineDash(dash);
        c.beginPath(); c.moveTo(x, top); c.lineTo(x, top + height); c.stroke();
      }
      const x = u.valToPos(mark.onset, "x", true);
      if (inside(x)) labels.set(`${mark.rule} ${mark.onset}`, [x, mark.severity]);
    }
    c.setLineDash([]);
    [...labels].forEach(([text, [x, severity]], i) => {
      const wide = c.measureText(text).width + 8 * ratio, from = x + wide > left + width ? x - wide - ratio : x + ratio;
      const y = top + (4 + 16 * (i % 8)) * ratio;
      c.fillStyle = pitprop.colour("page");
      c.fillRect(from, y, wide, 15 * ratio);
      c.fillStyle = pitprop.colour(severity);
      c.textBaseline = "middle"; c.textAlign = "left";
      c.fillText(text, from + 4 * ratio, y + 8 * ratio);
    });
    shown.forEach((s) => {
      c.strokeStyle = pitprop.colour(name(own.indexOf(s)));
      c.lineWidth = 1.2 * ratio;
      const r = 2.5 * ratio, y = top + height - 5 * ratio;
      s.values.forEach((v, i) => {
        const x = Number.isFinite(v) ? NaN : u.valToPos(s.steps[i], "x", true);
        if (!inside(x)) return;
        c.beginPath(); c.moveTo(x - r, y - r); c.lineTo(x + r, y + r); c.moveTo(x - r, y + r); c.lineTo(x + r, y - r); c.stroke();
      });
    });
    c.restore();
  };

  const draw = () => {
    if (plot) plot.destroy();
    plot = null;
    const shown = own.filter((s) => chosen.has(s.site));
    if (!shown.length) { place.textContent = "Choose a site."; return; }
    place.textContent = "";
    const soft = pitprop.colour("soft"), grid = { stroke: pitprop.colour("line"), width: 1 };
    const lines = shown.map((s) => {
      const i = own.indexOf(s);
      return { label: s.site, stroke: pitprop.colour(name(i)), width: 1.6, dash: DASHES[Math.floor(i / COLOURS) % DASHES.length],
        points: { show: s.n < 40, size: 4 }, value: (_, v) => v == null ? "–" : pitprop.show(v) };
    });
    plot = new uPlot({
      width: place.clientWidth, height: 320,
      scales: { x: { time: false }, y: log.checked ? { distr: 3 } : {} },
      axes: [{ stroke: soft, grid, ticks: grid, label: "step", size: 34, labelSize: 16 },
        { stroke: soft, grid, ticks: grid, size: 68, label: select.value + pitprop.unit(select.value), labelSize: 20,
          values: (_, ticks) => ticks.map((t) => t == null ? "" : pitprop.show(t)) }],
      series: [{ label: "step", value: (_, v) => v == null ? "–" : v }, ...lines],
      hooks: { draw: [overlay(shown)] },
      legend: { live: true },
    }, table(shown), place);
  };

  pitprop.showSeries = (indicator, site) => {
    select.value = indicator;
    listSites();
    const boxes = [...sites.querySelectorAll("label")];
    chosen = new Set([site]);
    for (const label of boxes) label.querySelector("input").checked = label.dataset.site === site;
    draw();
    pitprop.byId("series").scrollIntoView({ behavior: "smooth" });
  };
  select.addEventListener("change", () => { listSites(); draw(); });
  log.addEventListener("change", draw);
  filter.addEventListener("input", () => {
    for (const label of sites.querySelectorAll("label")) label.hidden = !label.dataset.site.includes(filter.value);
  });
  listSites();
  return draw;
});
