"""The page in a real browser: the scripts run, undefined and missing are told apart, and no name becomes code."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic_run import BLOCKS, HOSTILE

from pitprop.report import Report, to_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; .ci installs one where it can")

DRIVER = """
const told = [];
const at = (id) => document.getElementById(id);
const fire = (id, kind, more) => at(id).dispatchEvent(Object.assign(new Event(kind, {bubbles: true}), more));
const key = (id, name) => fire(id, "keydown", {key: name});
const wait = setInterval(() => {
  if (!document.documentElement.dataset.ready) return;
  clearInterval(wait);
  const heat = at("heat-indicator");
  const look = (indicator, row, column) => {
    heat.value = indicator;
    fire("heat-indicator", "change");
    for (let i = 0; i < 300; i++) { key("heat-canvas", "ArrowLeft"); key("heat-canvas", "ArrowUp"); }
    for (let i = 0; i < row; i++) key("heat-canvas", "ArrowDown");
    for (let i = 0; i < column; i++) key("heat-canvas", "ArrowRight");
    told.push(at("heat-readout").textContent);
  };
  look("token_cosine", 1, 30);
  look("attention_entropy", 2, 30);
  look("gradient_norm", 0, 100);
  look("token_cosine", 0, 0);
  const series = at("series-indicator");
  for (const option of series.options) {
    series.value = option.value;
    fire("series-indicator", "change");
    at("series-log").click();
  }
  const slider = at("attention-step");
  slider.value = 0;
  fire("attention-step", "input");
  at("attention-head").value = "2";
  fire("attention-head", "input");
  key("attention-canvas", "ArrowRight");
  told.push(at("attention-readout").textContent, at("attention-at").textContent);
  at("theme").click();
  document.documentElement.dataset.told = JSON.stringify(told);
}, 20);
"""


def opened(page: str, folder: Path, hash_: str = "") -> str:
    """The DOM after the scripts of `page` ran, opened from disk."""
    place = folder / "report.html"
    place.write_text(page, encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
               "--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'profile'}",
               "--window-size=1280,900",
               "--virtual-time-budget=5000", "--dump-dom", f"{place.as_uri()}{hash_}"]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


def root_of(dom: str) -> str:
    return html.unescape(dom[dom.index("<html") : dom.index("<head")])


def test_the_scripts_run_without_error(report: Report, tmp_path: Path):
    dom = opened(to_html(report), tmp_path, "#theme=dark")
    root = root_of(dom)
    assert 'data-ready="true"' in root and 'data-theme="dark"' in root and "data-error" not in root
    assert "<canvas" in dom and 'class="uplot' in dom


def test_hostile_names_stay_names(hostile: Report, tmp_path: Path):
    dom = opened(to_html(hostile), tmp_path)
    assert 'data-ready="true"' in root_of(dom) and "data-error" not in root_of(dom)
    assert HOSTILE in {html.unescape(site) for site in re.findall(r'data-site="([^"]*)"', dom)}
    assert "<script>alert" not in dom


def test_a_script_that_is_not_ours_is_refused(report: Report, tmp_path: Path):
    page = to_html(report).replace(
        "</body>", "<script>document.documentElement.dataset.foreign = 'ran'</script></body>"
    )
    root = root_of(opened(page, tmp_path))
    assert 'data-ready="true"' in root and "data-foreign" not in root


def test_the_panels_tell_undefined_missing_and_infinite_apart(report: Report, tmp_path: Path):
    # The driver is no script of ours, so the policy that would refuse it is taken away for this test.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", to_html(report))
    root = root_of(opened(page.replace("</body>", f"<script>{DRIVER}</script></body>"), tmp_path))
    assert "data-error" not in root
    assert f"{BLOCKS[1]} · step 60 · undefined" in root
    assert f"{BLOCKS[2]}.attention · step 60 · not measured" in root
    assert f"{BLOCKS[0]} · step 200 · ∞" in root
    first = next(s for s in report.series if (s.indicator, s.site) == ("token_cosine", BLOCKS[0])).values[0]
    assert f"{BLOCKS[0]} · step 0 · {first:.4g}" in root
    weight = re.search(r"query 0 · key 1 · (\S+) · uniform would be 0.02", root)
    assert weight and float(weight[1].replace("−", "-")) == pytest.approx(
        report.attention[0].weights[2, 0, 1], rel=1e-2
    )
