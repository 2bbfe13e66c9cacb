"""The drawing of a rescue: what the run measured, its snapshots, since when it failed, and the way that won."""

import math

import numpy as np
from markupsafe import Markup, escape

from pitprop.records import RUN, Finding
from pitprop.report.rescue import Curve, Rescue
from pitprop.report.svg import LOG_RATIO, Scale, image, lines, ticks
from pitprop.report.wording import show

WIDTH, PAD = 1060, 14
PANEL, LANE = 118, 26
MAX_RULES = 4


def timeline(rescue: Rescue, findings: tuple[Finding, ...]) -> Markup:
    """Curves over each other on one axis of steps, then lanes with the findings and the snapshots."""
    seen = [step for curve in rescue.curves for step in (*curve.steps[-1:], *curve.after_steps[-1:])]
    last = max([*seen, *rescue.snapshots, 1])
    x = Scale(0, float(last), WIDTH, PAD)
    failing = [f for f in findings if f.severity == "failure"]
    rules: dict[str, Finding] = {}
    for f in sorted(failing, key=lambda f: f.onset):
        rules.setdefault(f.rule, f)
    rules = dict(list(rules.items())[:MAX_RULES])
    lanes = len(rules) + bool(rescue.snapshots)
    height = PANEL * len(rescue.curves) + LANE * lanes + 34
    end = max([int(c.steps[-1]) for c in rescue.curves if len(c.steps)], default=rescue.collapsed_step or last)

    parts = []
    if rules:
        onset = min(f.onset for f in rules.values())
        width = max(x(end) - x(onset), 1)
        parts.append(f'<rect class="failing" x="{x(onset)}" y="0" width="{width:.1f}" height="{height - 30}"/>')
    for i, curve in enumerate(rescue.curves):
        parts.append(_panel(curve, x, PANEL * i))
    y = PANEL * len(rescue.curves) + LANE / 2
    for rule, f in rules.items():
        where = "" if f.site == RUN else f" at {f.site}"
        parts.append(f'<line class="lasts" x1="{x(f.onset)}" x2="{x(end)}" y1="{y + 6}" y2="{y + 6}"/>')
        parts.append(f'<path class="detected" d="M{x(f.detected)} {y + 2}v8"/>')
        before = x(f.onset) > WIDTH / 2
        words = f"{rule}{where}, from step {f.onset}"
        parts.append(_text(words, x(end) if before else x(f.onset), y - 4, before=before))
        y += LANE
    for step in rescue.snapshots:
        kind = "good" if step == rescue.good_step else "bad" if rules and step >= onset and step else "kept"
        parts.append(f'<circle class="{kind}" cx="{x(step)}" cy="{y}" r="{5 if kind == "good" else 3}"/>')
    marks = {"good": (rescue.good_step, "last good"), "collapsed": (rescue.collapsed_step, "collapsed")}
    for kind, (step, word) in marks.items():
        if step is not None:
            at = x(step)
            parts.append(f'<line class="mark {kind}" x1="{at}" x2="{at}" y1="0" y2="{height - 26}"/>')
            parts.append(_text(f"{word}, step {step}", at, height - 20, before=at > WIDTH / 2, kind=kind))
    for tick in ticks(0, float(last), 8):
        parts.append(f'<text class="tick" x="{x(tick)}" y="{height - 4}" text-anchor="middle">{show(tick)}</text>')
    label = f"{len(rescue.snapshots)} snapshots over {last} steps"
    return image("".join(parts), WIDTH, height, "way", label)


def _panel(curve: Curve, x: Scale, top: float) -> str:
    """One indicator, before and after, on a scale of its own."""
    values = np.concatenate([curve.values, curve.after_values]).astype(float)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    log = low > 0 and high / low > LOG_RATIO
    bottom, ceiling = (math.log10(low), math.log10(high)) if log else (low, high)
    inner = PANEL - 40

    def points(steps: np.ndarray, values: np.ndarray) -> list[str]:
        drawn, run = [], []
        for step, value in zip(steps.tolist(), values.astype(float).tolist(), strict=True):
            if not math.isfinite(value):
                drawn += [*lines(run), f'<path class="undefined" d="M{x(step)} {top + PANEL - 14}v6"/>']
                run = []
                continue
            share = ((math.log10(value) if log else value) - bottom) / ((ceiling - bottom) or 1.0)
            run.append(f"{x(step)},{top + 24 + inner * (1 - share):.1f}")
        return drawn + lines(run)

    before, after = points(curve.steps, curve.values), points(curve.after_steps, curve.after_values)
    site = "" if curve.site == RUN else f" at {curve.site}"
    name = f"{curve.indicator}{site}, {show(low)} to {show(high)}{', log scale' if log else ''}"
    return (
        f'<line class="floor" x1="{PAD}" x2="{WIDTH - PAD}" y1="{top + PANEL - 10}" y2="{top + PANEL - 10}"/>'
        f'<g class="before">{"".join(before)}</g><g class="after">{"".join(after)}</g>'
        f'<text class="name" x="{PAD}" y="{top + 14}">{escape(name)}</text>'
    )


def _text(words: str, at: float, y: float, *, before: bool, kind: str = "") -> str:
    """Words beside a place, on the side that has room."""
    anchor, shift = ("end", -7) if before else ("start", 7)
    return f'<text class="{kind}" x="{at + shift}" y="{y + 4}" text-anchor="{anchor}">{escape(words)}</text>'
