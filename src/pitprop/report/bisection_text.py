"""A bisection on one screen: the answer, the tests that led to it, and what fresh seeds say."""

import math
import shlex
from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pitprop.records import Comparison
from pitprop.report.bisection import NAME, Bisection
from pitprop.report.svg import Scale, effect_scale
from pitprop.report.value import Report
from pitprop.report.wording import levels, short_verdict, show, span

MAX_TESTS, MAX_CONFIRMED, MAX_FILES = 16, 8, 6

_OUTCOME = {"collapses": "red", "healthy": "green"}
_VERDICT = {"better": "blue", "worse": "red"}


class Draw(Protocol):
    """Draws an interval in one line of text."""

    def __call__(self, c: Comparison, scale: Scale, *, ascii_only: bool) -> str: ...


def to_text(report: Report, found: Bisection, console: Console, draw: Draw) -> None:
    """Print `found` to `console`, in about one screen of 100 columns."""
    console.print(Text(found.statement, style="bold" if found.tests else "green"))
    if found.next:
        console.print(Padding(Text(found.next), (0, 0, 0, 2)))
    console.print()
    if found.tests:
        console.print(Text(_rule_of(found), style="dim"))
        console.print(_tests(found))
        console.print()
    if found.kind == "revisions":
        more = f" and {len(found.changes) - MAX_FILES} more" if len(found.changes) > MAX_FILES else ""
        console.print(Text(f"changed: {', '.join(list(found.changes)[:MAX_FILES])}{more}"))
    if found.confirm:
        c = found.confirm[0]
        better = "higher" if c.higher_is_better else "lower"
        told = f"{c.metric} on {len(c.seeds)} fresh seeds, {better} is better; margin {show(c.margin)}, "
        console.print(Text(told + levels(found.confirm), style="dim"))
        console.print(_confirmed(found.confirm, draw, ascii_only=console.options.ascii_only))
    for limit in found.limits:
        console.print(Text(limit, style="dim"))
    if found.failed:
        console.print(Text(f"{len(found.failed)} failed, the first: {found.failed[0].splitlines()[0]}", style="yellow"))
    console.print(Text(f"{found.runs} of {found.budget} runs; all is in {report.folder}/{NAME}", style="dim"))
    if found.command:
        console.print(Text(f"again: {shlex.join(found.command)}", style="dim"))


def _rule_of(found: Bisection) -> str:
    side = "below" if found.ends.higher_is_better else "above"
    limit = "not finite" if math.isnan(found.cut) else f"{side} {show(found.cut)} or not finite"
    return f"collapsed is {found.ends.metric} {limit}; all run at seeds that tell good from bad"


def _tests(found: Bisection) -> Table:
    """The tests in their order; of more than fit, the first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("configuration" if found.kind == "changes" else "commit", ratio=1)
    table.add_column("collapsed", justify="right", no_wrap=True)
    table.add_column("so it", no_wrap=True)
    for test in found.tests[:MAX_TESTS]:
        outcome = "is healthy" if test.outcome == "healthy" else test.outcome
        table.add_row(
            Text.assemble((test.name, "bold" if test.accused else ""), (f" {test.about}" if test.about else "", "dim")),
            f"{test.collapsed} of {test.runs}" if test.runs else "no run",
            Text(outcome, style=_OUTCOME.get(test.outcome, "dim")),
        )
    if len(found.tests) > MAX_TESTS:
        table.add_row(Text(f"and {len(found.tests) - MAX_TESTS} more", style="dim"))
    return table


def _confirmed(confirm: Sequence[Comparison], draw: Draw, *, ascii_only: bool) -> Table:
    """What fresh seeds say of each set and of each of its members, or of the commit."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("change", ratio=1)
    table.add_column("effect, interval", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    scale = effect_scale(confirm)
    for c in confirm[:MAX_CONFIRMED]:
        style = _VERDICT.get(c.verdict, "dim")
        table.add_row(
            Text.assemble(c.arm, (f"\n  {c.changes}", "dim")),
            Text(f"{show(c.effect, sign=True)} {span(c.low, c.high)}"),
            Text(draw(c, scale, ascii_only=ascii_only), style=style),
            Text(short_verdict(c.verdict), style=style),
        )
    if len(confirm) > MAX_CONFIRMED:
        table.add_row(Text(f"and {len(confirm) - MAX_CONFIRMED} more", style="dim"))
    return table
