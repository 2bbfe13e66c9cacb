/* Start: theme, data, panels; the root element says `data-ready` at the end, or `data-error`. */
(async () => {
  const root = document.documentElement;
  const wanted = /theme=(light|dark)/.exec(location.hash);
  if (wanted) root.dataset.theme = wanted[1];
  let draws = [];
  const redraw = () => draws.forEach((draw) => draw());
  pitprop.byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    redraw();
  });
  const copy = pitprop.byId("copy");
  if (copy) copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(pitprop.byId("command").textContent);
    copy.textContent = "Copied";
  });
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  pitprop.data = await pitprop.load();
  draws = pitprop.panels.map((panel) => panel(pitprop.data)).filter((draw) => draw);
  redraw();
  let waiting = 0;
  window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redraw, 120); });
  root.dataset.ready = "true";
})();
