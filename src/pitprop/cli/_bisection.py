"""A bisection on one screen: the answer, the tests that led to it, and what fresh seeds say."""

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pitprop.report.as_text import PLOT, draw
from pitprop.report.svg import effect_scale
from pitprop.report.wording import show, span

if TYPE_CHECKING:
    from pitprop.trials import Bisection

MAX_STEPS = 16
MAX_CONFIRMED = 8
MAX_NAMES = 4
_OUTCOME = {"collapses": "red", "healthy": "green", "unresolved": "dim"}
_VERDICT = {"better": "blue", "worse": "red"}


def print_bisection(found: "Bisection", console: Console) -> None:
    """Print `found` to `console`, in about one screen of 100 columns."""
    console.print(Text(found.statement, style="bold" if found.collapsed else "green"))
    if found.next:
        console.print(Padding(Text(found.next), (0, 0, 0, 2)))
    console.print()
    if found.steps:
        console.print(Text(_rule_of(found), style="dim"))
        console.print(_steps(found))
        console.print()
    if found.confirm:
        c = found.confirm[0]
        better = "higher" if c.higher_is_better else "lower"
        told = f"{c.metric} on {len(c.seeds)} fresh seeds, {better} is better; margin {show(c.margin)}"
        console.print(Text(told, style="dim"))
        console.print(_confirmed(found, ascii_only=console.options.ascii_only))
    if found.failed:
        console.print(Text(f"{len(found.failed)} runs failed, the first: {found.failed[0]['error']}", style="yellow"))
    console.print(Text(f"{found.runs} of {found.budget} runs; all is in {found.folder}/bisection.json", style="dim"))
    if found.command:
        console.print(Text(f"again: {shlex.join(found.command)}", style="dim"))


def _rule_of(found: "Bisection") -> str:
    side = "below" if found.ends.higher_is_better else "above"
    limit = "not finite" if math.isnan(found.cut) else f"{side} {show(found.cut)} or not finite"
    return f"collapsed is {found.ends.metric} {limit}; all run at seeds that tell good from bad"


def _steps(found: "Bisection") -> Table:
    """The tests in their order."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("configuration", ratio=1)
    table.add_column("collapsed", justify="right", no_wrap=True)
    table.add_column("so it", no_wrap=True)
    names = tuple(found.changes)
    for step in found.steps[:MAX_STEPS]:
        table.add_row(
            Text(_configuration(step.changes, names)),
            f"{step.collapsed} of {step.runs}",
            Text("is healthy" if step.outcome == "healthy" else step.outcome, style=_OUTCOME[step.outcome]),
        )
    if len(found.steps) > MAX_STEPS:
        table.add_row(Text(f"and {len(found.steps) - MAX_STEPS} more", style="dim"))
    return table


def _configuration(made: Sequence[str], names: Sequence[str]) -> str:
    """A subset, from the end that is nearer."""
    left = [name for name in names if name not in made]
    if not left:
        return f"bad (all {len(names)} changes)"
    end, sign, few = ("good", "+", made) if len(made) <= len(left) else ("bad", "-", left)
    more = [f"{len(few) - MAX_NAMES} more"] if len(few) > MAX_NAMES else []
    return f" {sign} ".join([end, *few[:MAX_NAMES], *more])


def _confirmed(found: "Bisection", *, ascii_only: bool) -> Table:
    """What fresh seeds say of each set and of each of its members."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("change", ratio=1)
    table.add_column("effect, interval", justify="right", no_wrap=True)
    table.add_column("", width=PLOT, no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    scale = effect_scale(found.confirm)
    for c in found.confirm[:MAX_CONFIRMED]:
        style = _VERDICT.get(c.verdict, "dim")
        table.add_row(
            Text.assemble(c.arm, (f"\n  {c.changes}", "dim")),
            Text(f"{show(c.effect, sign=True)} {span(c.low, c.high)}"),
            Text(draw(c, scale, ascii_only=ascii_only), style=style),
            Text(c.verdict.removesuffix(" within margin"), style=style),
        )
    if len(found.confirm) > MAX_CONFIRMED:
        table.add_row(Text(f"and {len(found.confirm) - MAX_CONFIRMED} more", style="dim"))
    return table
