"""How a number is written for people: a few digits, a real minus sign, and NaN as `undefined`, never as 0."""

import math
from collections.abc import Iterable

from pitprop.records import Comparison
from pitprop.report.value import Guard


def show(x: float | None, *, sign: bool = False) -> str:
    """`x` in three significant digits, two where it is tiny; with `sign`, a plus where it is positive."""
    if x is None:
        return "not measured"
    if math.isnan(x):
        return "undefined"
    if math.isinf(x):
        return ("+∞" if sign else "∞") if x > 0 else "−∞"
    if x == int(x) and abs(x) < 1e7:
        text = f"{int(x):+d}" if sign and x else f"{int(x)}"
    else:
        text = f"{x:{'+' if sign else ''}.{3 if abs(x) >= 1e-3 else 2}g}"
    return text.replace("-", "−")


def span(low: float, high: float) -> str:
    """An interval, `[low, high]`, both ends signed; `undefined` where neither end is defined."""
    if math.isnan(low) and math.isnan(high):
        return show(low)
    return f"[{show(low, sign=True)}, {show(high, sign=True)}]"


def percent(share: float) -> str:
    """A share as a percentage, `95 %` or `98.3 %`."""
    return f"{show(float(f'{100 * share:.3g}'))} %"


def effect_words(c: Comparison) -> str:
    """The effect with its interval; where no seed has a number on both sides, how many runs each lost."""
    if not math.isnan(c.effect):
        return f"{show(c.effect, sign=True)} {span(c.low, c.high)}"
    lost, others = (sum(not math.isfinite(x) for x in side) for side in (c.treated, c.control))
    return f"{lost} of {len(c.seeds)} runs lost, {others} of the control's" if lost or others else show(c.effect)


def short_verdict(verdict: str) -> str:
    """The verdict in words that fit a column."""
    return verdict.removesuffix(" within margin")


def levels(comparisons: Iterable[Comparison | Guard]) -> str:
    """The level of their intervals, `95 % intervals`, or from the lowest to the highest."""
    told = list(dict.fromkeys(map(percent, sorted(c.confidence for c in comparisons))))
    return f"{f'{told[0][:-2]} to ' if len(told) > 1 else ''}{told[-1]} intervals"


def verdict_words(c: Comparison, *, short: bool = False) -> str:
    """The verdict, with the seeds after which it stopped or the further ones that may settle it."""
    words = short_verdict(c.verdict) if short else c.verdict
    if c.stopped_of is not None and not short:
        return f"{words}, stopped after {len(c.seeds)} of {c.stopped_of} seeds"
    if c.further_seeds is not None:
        return f"{words}, +{c.further_seeds}" if short else f"{words}, about {c.further_seeds} more seeds may settle it"
    return words


def sentence(text: str) -> str:
    """`text` with a capital at its start, unless it starts with the name of a place or of a number."""
    first = text.split(maxsplit=1)[0] if text else ""
    return text[:1].upper() + text[1:] if first.isalpha() else text


def restarted(num_runs: int) -> list[str]:
    """A line on the runs whose worker died; none where none did."""
    if not num_runs:
        return []
    return [
        "1 run was started again after its worker died."
        if num_runs == 1
        else f"{num_runs} runs were started again after their worker died."
    ]


def duration(seconds: float) -> str:
    """Seconds as `41 s`, `3 min 20 s` or `2 h 5 min`."""
    if not math.isfinite(seconds):
        return "undefined"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
