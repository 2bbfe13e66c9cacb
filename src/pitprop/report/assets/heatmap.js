/* Site x step. A column is one measured step, or several neighbours where there are more steps than pixels. */
pitprop.panels.push((data) => {
  const canvas = pitprop.byId("heat-canvas");
  if (!canvas) return null;
  const select = pitprop.byId("heat-indicator"), log = pitprop.byId("heat-log"), readout = pitprop.byId("heat-readout");
  const own = data.series.filter((s) => s.site !== data.run).sort(pitprop.bySite);
  const marked = (name) => own.some((s) => s.indicator === name && pitprop.marksOf(name, s.site).length);
  const spread = (name) => own.filter((s) => s.indicator === name).length;
  const worth = (name) => (spread(name) > 1 ? 1e6 : 0) + (marked(name) ? 1e5 : 0) + spread(name);
  const names = [...new Set(own.map((s) => s.indicator))].sort((a, b) => worth(b) - worth(a));
  pitprop.options(select, names.map((name) => [name, name]));
  const TOP = 4;
  let view = null;

  const grid = (series, most) => {
    const steps = [...new Set(series.flatMap((s) => [...s.steps]))].sort((a, b) => a - b);
    const each = Math.ceil(steps.length / most), count = Math.ceil(steps.length / each);
    const column = new Map(steps.map((step, i) => [step, Math.floor(i / each)]));
    const cells = series.map((s) => {
      const row = Array.from({ length: count }, () => ({ n: 0, sum: 0, odd: null }));
      s.values.forEach((value, i) => {
        const cell = row[column.get(s.steps[i])];
        if (Number.isFinite(value)) { cell.n += 1; cell.sum += value; } else if (cell.odd === null || Number.isNaN(value)) cell.odd = value;
      });
      return row;
    });
    return { steps, each, count, cells };
  };
  /* An undefined value wins over its neighbours in a cell; null is "not measured". */
  const valueOf = (cell) => cell.odd !== null ? cell.odd : cell.n ? cell.sum / cell.n : null;

  const choose = () => { log.checked = pitprop.wide(own.filter((s) => s.indicator === select.value)); };
  const draw = () => {
    const series = own.filter((s) => s.indicator === select.value);
    const width = canvas.parentElement.clientWidth;
    const measure = canvas.getContext("2d");
    measure.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const left = Math.min(width * .35, 16 + Math.max(...series.map((s) => measure.measureText(s.site).width)));
    const g = grid(series, Math.max(8, Math.floor((width - left) / 4)));
    const high = series.length > 60 ? 9 : series.length > 24 ? 15 : 22, wide = (width - left) / g.count;
    const c = pitprop.sharp(canvas, width, TOP + series.length * high + 24);
    const values = g.cells.flat().map(valueOf).filter((v) => v !== null && Number.isFinite(v));
    const usable = log.checked ? values.filter((v) => v > 0) : values;
    const low = usable.reduce((a, b) => Math.min(a, b), Infinity), top = usable.reduce((a, b) => Math.max(a, b), -Infinity);
    const f = log.checked ? Math.log : (x) => x;
    const share = (v) => top > low ? (f(Math.max(v, low)) - f(low)) / (f(top) - f(low)) : .5;
    const hatch = pitprop.hatch(c), soft = pitprop.colour("soft"), faint = pitprop.colour("faint"), infinite = pitprop.colour("failure");
    series.forEach((s, row) => {
      const y = TOP + row * high;
      c.fillStyle = faint;
      c.fillRect(left, y, width - left, high - 1);
      g.cells[row].forEach((cell, column) => {
        const v = valueOf(cell);
        if (v === null) return;
        c.fillStyle = Number.isNaN(v) ? hatch : Number.isFinite(v) ? pitprop.viridis(share(v)) : infinite;
        c.fillRect(left + column * wide, y, Math.max(wide + .5, 1), high - 1);
      });
      if (high > 10 || row % 2 === 0) {
        c.fillStyle = soft; c.textBaseline = "middle"; c.textAlign = "left";
        c.fillText(fit(c, s.site, left - 12), 0, y + high / 2);
      }
      for (const mark of pitprop.marksOf(select.value, s.site)) {
        const x = left + (g.steps.findIndex((step) => step >= mark.onset) + g.steps.length) % g.steps.length / g.each * wide;
        c.strokeStyle = "#fff"; c.lineWidth = 4; line(c, x, y, y + high - 1);
        c.strokeStyle = "#c2330f"; c.lineWidth = 2; line(c, x, y, y + high - 1);
      }
    });
    c.fillStyle = soft; c.textBaseline = "top";
    const ticks = Math.min(7, g.count);
    for (let i = 0; i < ticks; i++) {
      const column = Math.round(i * (g.count - 1) / Math.max(ticks - 1, 1));
      c.textAlign = i === 0 ? "left" : i === ticks - 1 ? "right" : "center";
      const x = left + (i === 0 ? 0 : i === ticks - 1 ? g.count * wide : (column + .5) * wide);
      c.fillText(`${i === 0 ? "step " : ""}${g.steps[Math.min(column * g.each, g.steps.length - 1)]}`, x, TOP + series.length * high + 7);
    }
    const below = usable.length < values.length ? "≤ " : "";
    pitprop.legend(pitprop.byId("heat-legend"), below + pitprop.show(low), pitprop.show(top) + pitprop.unit(select.value), [
      ["undefined", (s) => pitprop.hatch(s)], ["infinite", () => infinite], ["not measured", () => faint]]);
    view = { series, g, left, high, wide };
  };
  const fit = (c, text, room) => {
    if (c.measureText(text).width <= room) return text;
    while (text.length > 2 && c.measureText("…" + text).width > room) text = text.slice(1);
    return "…" + text;
  };
  const line = (c, x, from, to) => { c.beginPath(); c.moveTo(x, from); c.lineTo(x, to); c.stroke(); };

  pitprop.explore(canvas, () => [view.series.length, view.g.count],
    (x, y) => x < view.left || y < TOP || y >= TOP + view.series.length * view.high ? null : [Math.floor((y - TOP) / view.high), Math.floor((x - view.left) / view.wide)],
    (row, column) => {
      const { g, series } = view, cell = g.cells[row][column], v = valueOf(cell);
      const from = g.steps[column * g.each], to = g.steps[Math.min((column + 1) * g.each, g.steps.length) - 1];
      const marks = pitprop.marksOf(select.value, series[row].site).map((m) => `${m.rule} from step ${m.onset}`);
      readout.textContent = [series[row].site, from === to ? `step ${from}` : `steps ${from} to ${to}`,
        v === null ? "not measured" : pitprop.show(v) + pitprop.unit(select.value) + (cell.n > 1 ? ` (mean of ${cell.n})` : ""), ...marks].join(" · ");
    });
  canvas.addEventListener("click", (event) => {
    const row = Math.floor((event.offsetY - TOP) / view.high);
    if (view.series[row]) pitprop.showSeries(select.value, view.series[row].site);
  });
  select.addEventListener("change", () => { choose(); draw(); });
  log.addEventListener("change", draw);
  choose();
  return draw;
});
