"""The drawing of a search, a row per test: the share of runs that collapsed with its interval, and the changes made."""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from pitprop.report.bisection import Test
from pitprop.report.svg import Scale

WIDTH, ROW, DOT = 190, 22, 20


def share(test: Test) -> Markup:
    """The share of the runs that collapsed, from 0 to 1, with its interval."""
    scale, y = Scale(0, 1, WIDTH), ROW / 2
    parts = [f'<line class="rail" x1="{scale(0)}" x2="{scale(1)}" y1="{y}" y2="{y}"/>']
    parts += [f'<line class="rail" x1="{scale(at)}" x2="{scale(at)}" y1="4" y2="{ROW - 4}"/>' for at in (0, 0.5, 1)]
    label = "nothing was run"
    if test.runs and not math.isnan(test.low):
        x1, x2 = scale(test.low), scale(test.high)
        parts.append(f'<line class="interval" x1="{x1}" x2="{x2}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="point" cx="{scale(test.collapsed / test.runs)}" cy="{y}" r="4.5"/>')
        label = f"{test.collapsed} of {test.runs} runs collapsed, interval {test.low:.2f} to {test.high:.2f}"
    return _svg("".join(parts), WIDTH, ROW, f"share {test.outcome.split()[0]}", label)


def dots(test: Test, names: Sequence[str], accused: Sequence[str]) -> Markup:
    """The changes: full where made, hollow where not; those of a guilty set in its colour."""
    parts = []
    for i, (name, made) in enumerate(zip(names, test.made, strict=True)):
        kind = f"{'made' if made else 'left'}{' guilty' if name in accused else ''}"
        parts.append(
            f'<circle class="{kind}" cx="{DOT * (i + 0.5)}" cy="{ROW / 2}" r="5">'
            f"<title>{escape(name)}: {'made' if made else 'left out'}</title></circle>"
        )
    label = f"made: {', '.join(n for n, made in zip(names, test.made, strict=True) if made) or 'none'}"
    return _svg("".join(parts), DOT * len(names), ROW, "dots", label)


def heads(names: Sequence[str], accused: Sequence[str]) -> Markup:
    """The names of the changes over their columns, upright."""
    height = 12 + 7 * max(map(len, names), default=0)
    parts = [
        f'<text class="{"guilty" if name in accused else "name"}" transform="translate({DOT * (i + 0.5) + 4} '
        f'{height - 4}) rotate(-90)">{escape(name)}</text>'
        for i, name in enumerate(names)
    ]
    return _svg("".join(parts), DOT * len(names), height, "dots", "names of the changes")


def _svg(inner: str, width: float, height: float, kind: str, label: str) -> Markup:
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{inner}</svg>'
    )
