"""The report as one HTML file that opens from disk: no network, no framework, nothing that a model's names can break.

Numbers travel as base64(zlib(float32)) and are unpacked by the browser's own DecompressionStream. Every string of a
model, site, rule or user is escaped by jinja2; the content-security policy names our scripts by hash and forbids all
others, and any connection.
"""

import base64
import functools
import hashlib
import json
import os
import re
import shlex
import zlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from pitprop._errors import PitpropError
from pitprop.records import RUN, Finding
from pitprop.report import bisection_svg, svg, wording
from pitprop.report.as_cell import ROUNDS
from pitprop.report.as_json import plain
from pitprop.report.headline import mean, remedy_trial
from pitprop.report.rescue_svg import timeline
from pitprop.report.value import Diagnosis, Report, Series, Trial

SCRIPTS = ("base.js", "heatmap.js", "series.js", "attention.js", "report.js")
LEGEND = (
    "A small dot is one seed, the large one their mean with its interval; the grey band is the difference that was "
    "declared too small to matter. p is of the exact sign-flip test: at n seeds it is never under 2/2ⁿ, so it does not "
    "decide."
)
SPARKS = 2
"""Curves beside a finding, of the indicators that its rule reads."""


def to_html(report: Report) -> str:
    """The report as one self-contained HTML document."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        show=wording.show,
        signed=functools.partial(wording.show, sign=True),
        percent=wording.percent,
        sentence=wording.sentence,
        ticks=_ticks,
        markdown=_markdown,
    )
    environment.globals.update(
        RUN=RUN,
        span=wording.span,
        words=wording.verdict_words,
        effect_words=wording.effect_words,
        short=wording.short_verdict,
        legend=LEGEND,
        duration=wording.duration,
        restarted=wording.restarted,
        mean=mean,
        flat=flat,
        join=shlex.join,
        svg=svg,
    )
    environment.globals.update(share=bisection_svg.share, dots=bisection_svg.dots, heads=bisection_svg.heads)
    scripts = [_asset("uPlot.iife.min.js"), "".join(_asset(name) for name in SCRIPTS)]
    return environment.get_template("report.html.j2").render(
        report=report,
        best=report.diagnosis and remedy_trial(report.diagnosis),
        tables=_tables(report.diagnosis) if report.diagnosis else [],
        groups=[(group, _sparks(report, group.lead)) for group in report.groups()],
        provenance=_provenance(report),
        way=report.rescue and timeline(report.rescue, report.findings),
        heat=any(series.site != RUN for series in report.series),
        style=Markup(_asset("uPlot.min.css") + _asset("report.css")),
        scripts=[Markup(script) for script in scripts],
        hashes=Markup(" ".join(_csp_hash(script) for script in scripts)),
        data=_script_json(_data(report)),
    )


def write(report: Report, path: str | Path) -> Path:
    """Write the report as HTML to `path`, whole or not at all.

    Raises:
        PitpropError: The place cannot be written to.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            part.write_text(to_html(report), encoding="utf-8")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise PitpropError(
            f"the report cannot be written to {path}: {error.strerror or error}.",
            means="Nothing was lost: the trace and the results of the trials are untouched.",
            do="Name a path in a folder that exists and that you may write to.",
        ) from error
    return path


def flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text) pairs, in order; what tables of plain facts are made of."""
    pairs = []
    for key, value in mapping.items():
        if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, Mapping) and value:
            pairs += flat(value, f"{prefix}{key}.")
        elif isinstance(value, Mapping | list | tuple):
            pairs.append((f"{prefix}{key}", ", ".join(map(_text, value)) or "none"))
        else:
            pairs.append((f"{prefix}{key}", _text(value)))
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return wording.show(value) if isinstance(value, float) else str(value)


def _provenance(report: Report) -> dict[str, Any]:
    """Where the numbers come from, as far as it is known; of trials without a watched run, their folder."""
    run = report.info
    known = {"started": run.started, "seed": run.seed, "device": run.device, "git commit": run.git_commit}
    return {name: value for name, value in known.items() if value not in ("", None)} | {"folder": report.folder}


def _tables(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """Trials grouped by round and metric, what answers the question first; each group shares one axis."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in sorted(diagnosis.trials, key=lambda trial: trial.round not in ("confirm", "factors")):
        groups.setdefault((trial.round, trial.comparison.metric), []).append(trial)
    return [
        {
            "round": ROUNDS.get(round_, round_),
            "metric": metric,
            "comparisons": [trial.comparison for trial in trials],
            "scale": svg.effect_scale(trial.comparison for trial in trials),
        }
        for (round_, metric), trials in groups.items()
    ]


def _sparks(report: Report, finding: Finding) -> list[tuple[Series, svg.Spark]]:
    page = report.pages.get(finding.rule)
    reads = page.reads if page else ()
    own = [s for s in report.series if s.site == finding.site and s.indicator in reads]
    return [(series, svg.spark(series, finding)) for series in own[:SPARKS]]


def _data(report: Report) -> dict[str, Any]:
    # Most sites share their steps, so equal step axes are stored once.
    axes: dict[bytes, int] = {}
    steps: list[np.ndarray] = []
    series, offset = [], 0
    for s in report.series:
        key = s.steps.tobytes()
        if key not in axes:
            axes[key] = sum(map(len, steps))
            steps.append(s.steps)
        series.append({"indicator": s.indicator, "site": s.site, "at": offset, "steps": axes[key], "n": len(s.values)})
        offset += len(s.values)
    maps, offset = [], 0
    for a in report.attention:
        maps.append({"site": a.site, "step": a.step, "shape": a.weights.shape, "pooled": a.pooled, "at": offset})
        offset += a.weights.size
    reads = {name: page.reads for name, page in report.pages.items()}
    return {
        "run": RUN,
        "units": report.units,
        "series": series,
        "maps": maps,
        "marks": [
            {"rule": f.rule, "site": f.site, "severity": f.severity, "onset": f.onset, "detected": f.detected}
            | {"reads": reads.get(f.rule, ())}
            for f in report.findings
        ],
        "steps_f64": _packed(steps, "<f8"),
        "values_f32": _packed([s.values for s in report.series], "<f4"),
        "maps_f32": _packed([a.weights.ravel() for a in report.attention], "<f4"),
    }


def _packed(parts: list[np.ndarray], dtype: str) -> str:
    joined = np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype)
    return base64.b64encode(zlib.compress(joined.tobytes(), 6)).decode("ascii")


def _script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: no `<`, so no name can close the element."""
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _markdown(text: str) -> Markup:
    # Doctests become code (Markdown would read `>>>` as a quotation); "js-default" escapes raw HTML; headings move down
    # so that the report keeps one outline.
    html = MarkdownIt("js-default").render(re.sub(r"(?m)^>>>.*(?:\n.+)*", r"```\n\g<0>\n```", text))
    for level in (4, 3, 2, 1):
        html = html.replace(f"<h{level}>", f"<h{level + 2}>").replace(f"</h{level}>", f"</h{level + 2}>")
    return Markup(html)


def _ticks(text: str) -> Markup:
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def _asset(name: str) -> str:
    return resources.files("pitprop.report").joinpath("assets", name).read_text(encoding="utf-8")
