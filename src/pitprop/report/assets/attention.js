/* Attention weights of one site and head, query by key, over the steps. */
pitprop.panels.push((data) => {
  const canvas = pitprop.byId("attention-canvas");
  if (!canvas) return null;
  const site = pitprop.byId("attention-site"), head = pitprop.byId("attention-head"), slider = pitprop.byId("attention-step");
  const at = pitprop.byId("attention-at"), fixed = pitprop.byId("attention-fixed"), readout = pitprop.byId("attention-readout");
  pitprop.options(site, [...new Set([...data.maps].sort(pitprop.bySite).map((m) => m.site))].map((name) => [name, name]));
  let own = [], view = null;

  const choose = () => {
    own = data.maps.filter((m) => m.site === site.value).sort((a, b) => a.step - b.step);
    const heads = own[0].shape[0];
    pitprop.options(head, [["mean", `mean of ${heads}`], ...Array.from({ length: heads }, (_, i) => [i, String(i)])]);
    slider.max = own.length - 1;
    slider.value = own.length - 1;
  };
  const weights = (map) => {
    const [heads, queries, keys] = map.shape, size = queries * keys;
    if (head.value !== "mean") return map.values.subarray(head.value * size, (+head.value + 1) * size);
    return Float32Array.from({ length: size }, (_, i) => {
      let sum = 0;
      for (let h = 0; h < heads; h++) sum += map.values[h * size + i];
      return sum / heads;
    });
  };
  const highest = (values) => values.reduce((most, v) => Number.isFinite(v) ? Math.max(most, v) : most, 0);

  const draw = () => {
    const map = own[+slider.value], [, queries, keys] = map.shape, values = weights(map);
    const top = highest(fixed.checked ? own.map((m) => highest(weights(m))) : values) || 1;
    const side = Math.min(canvas.parentElement.clientWidth, 480);
    const wide = Math.max(1, Math.floor(side / Math.max(keys, queries))), high = wide;
    const c = pitprop.sharp(canvas, wide * keys, high * queries);
    const hatch = pitprop.hatch(c);
    for (let q = 0; q < queries; q++) for (let k = 0; k < keys; k++) {
      const v = values[q * keys + k];
      c.fillStyle = Number.isFinite(v) ? pitprop.viridis(v / top) : hatch;
      c.fillRect(k * wide, q * high, wide, high);
    }
    at.textContent = map.step;
    pitprop.legend(pitprop.byId("attention-legend"), "0", pitprop.show(top), [["undefined", (s) => pitprop.hatch(s)]]);
    view = { map, values, queries, keys, wide, high };
  };
  pitprop.explore(canvas, () => [view.queries, view.keys], (x, y) => [Math.floor(y / view.high), Math.floor(x / view.wide)], (q, k) => {
    const span = (i) => view.map.pooled > 1 ? `${i * view.map.pooled} to ${(i + 1) * view.map.pooled - 1}` : i;
    readout.textContent = `query ${span(q)} · key ${span(k)} · ${pitprop.show(view.values[q * view.keys + k])}` +
      (view.map.pooled > 1 ? "" : ` · uniform would be ${pitprop.show(1 / view.keys)}`);
  });
  site.addEventListener("change", () => { choose(); draw(); });
  for (const control of [head, slider, fixed]) control.addEventListener("input", draw);
  choose();
  return draw;
});
