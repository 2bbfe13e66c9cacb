"""The two drawings that need no script: the interval of an effect, and a small curve with onset and detection marked.

Both are plain SVG in markup that prints; colours come from the page's style sheet by class name. They hold numbers
only, so nothing in them needs escaping.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pitprop.records import Comparison, Finding
from pitprop.report.value import Series
from pitprop.report.wording import show

WIDTH = 240
ROW = 34
SPARK_WIDTH, SPARK_HEIGHT = 420, 84
LOG_RATIO = 1_000
"""A curve of positive values that spans more than this is drawn on a logarithmic scale."""

_CLASS = {"better": "better", "worse": "worse", "no difference within margin": "same", "inconclusive": "open"}


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from `low` to `high` over a width in pixels."""

    low: float
    high: float
    width: float = WIDTH
    pad: float = 8

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.pad + min(max(share, 0.0), 1.0) * (self.width - 2 * self.pad), 1)


def effect_scale(comparisons: Iterable[Comparison], width: float = WIDTH) -> Scale:
    """The axis that all `comparisons` of one metric share; zero and the margins are always on it."""
    comparisons = list(comparisons)
    seen = [0.0]
    for c in comparisons:
        differences = [b - a for a, b in zip(c.control, c.treated, strict=True)]
        seen += [c.margin, -c.margin, c.low, c.high, c.effect, *differences]
    finite = [x for x in seen if math.isfinite(x)]
    low, high = min(finite), max(finite)
    room = 0.04 * (high - low) or 1.0
    return Scale(low - room, high + room, width)


def interval(c: Comparison, scale: Scale) -> Markup:
    """One effect: margin band, zero line, paired differences of the seeds as dots, interval, point."""
    y, parts = ROW / 2, []
    left, right = scale(-c.margin), scale(c.margin)
    parts.append(f'<rect class="band" x="{left}" y="2" width="{max(right - left, 1):.1f}" height="{ROW - 4}"/>')
    parts.append(f'<line class="zero" x1="{scale(0)}" x2="{scale(0)}" y1="0" y2="{ROW}"/>')
    for a, b in zip(c.control, c.treated, strict=True):
        if math.isfinite(b - a):
            parts.append(f'<circle class="seed" cx="{scale(b - a)}" cy="{y + 9}" r="1.8"/>')
    if not math.isnan(c.low) and not math.isnan(c.high):
        x1, x2 = scale(c.low), scale(c.high)
        parts.append(f'<line class="interval" x1="{x1}" x2="{x2}" y1="{y}" y2="{y}"/>')
        parts += [f'<line class="interval" x1="{x}" x2="{x}" y1="{y - 4}" y2="{y + 4}"/>' for x in (x1, x2)]
    if not math.isnan(c.effect):
        parts.append(f'<circle class="point" cx="{scale(c.effect)}" cy="{y}" r="4.5"/>')
    label = f"effect {show(c.effect, sign=True)}, interval {show(c.low, sign=True)} to {show(c.high, sign=True)}"
    return image("".join(parts), scale.width, ROW, f"forest {_CLASS[c.verdict]}", label)


def axis(scale: Scale) -> Markup:
    """The numbers under a column of intervals."""
    parts = []
    for tick in ticks(scale.low, scale.high):
        x = scale(tick)
        anchor = "start" if x < 24 else "end" if x > scale.width - 24 else "middle"
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="0" y2="4"/>')
        parts.append(f'<text x="{x}" y="15" text-anchor="{anchor}">{show(tick, sign=True)}</text>')
    return image("".join(parts), scale.width, 18, "axis", "scale of the effect")


@dataclass(frozen=True, slots=True)
class Spark:
    """A small curve and the words that stand over it."""

    image: Markup
    caption: str


def spark(series: Series, finding: Finding) -> Spark:
    """One series as a small curve; a full line stands at the onset, a dashed one at the detection."""
    steps, values = series.steps.astype(float), series.values.astype(float)
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 1.0)
    log = bool(low > 0 and high / low > LOG_RATIO)
    with np.errstate(divide="ignore", invalid="ignore"):
        heights = np.log10(values) if log else values
    bottom, top = (math.log10(low), math.log10(high)) if log else (low, high)
    x = Scale(float(steps[0]), float(steps[-1]) if steps[-1] > steps[0] else float(steps[0]) + 1, SPARK_WIDTH, 3)
    span = (top - bottom) or 1.0
    inner = SPARK_HEIGHT - 12
    parts, run = [], []
    for step, height, fine in zip(steps, heights, finite, strict=True):
        if fine:
            run.append(f"{x(step)},{6 + inner * (1 - (height - bottom) / span):.1f}")
            continue
        parts += lines(run)
        parts.append(f'<path class="undefined" d="M{x(step)} {SPARK_HEIGHT - 5}v5"/>')
        run = []
    parts += lines(run)
    for step, kind in ((finding.detected, "detected"), (finding.onset, "onset")):
        parts.append(f'<line class="{kind}" x1="{x(step)}" x2="{x(step)}" y1="0" y2="{SPARK_HEIGHT}"/>')
    seen = f"{show(low)} to {show(high)}" if finite.any() else "never defined"
    caption = f"{seen}{', log scale' if log else ''} · steps {series.steps[0]} to {series.steps[-1]}"
    label = f"{caption}; onset at step {finding.onset}, detected at step {finding.detected}"
    return Spark(image("".join(parts), SPARK_WIDTH, SPARK_HEIGHT, f"spark {finding.severity}", label), caption)


def lines(run: Sequence[str]) -> list[str]:
    if len(run) == 1:
        return ['<circle class="dot" cx="{}" cy="{}" r="1.5"/>'.format(*run[0].split(","))]
    return [f'<polyline points="{" ".join(run)}"/>'] if run else []


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw)
    return [float(f"{i * step:.12g}") for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def image(inner: str, width: float, height: float, kind: str, label: str) -> Markup:
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{label}">{inner}</svg>'
    )
