"""The report on one screen of a terminal: headline, findings, trials with intervals drawn, how to make it again."""

import math
import shlex
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.console import Group as Lines
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pitprop.records import Comparison
from pitprop.report import bisection_text, rescue
from pitprop.report.as_cell import ROUNDS
from pitprop.report.headline import mean, remedy_trial
from pitprop.report.svg import Scale, effect_scale
from pitprop.report.value import Diagnosis, Guard, Report, Trial
from pitprop.report.wording import effect_words, levels, restarted, sentence, show, span, verdict_words
from pitprop.rules import Group

MAX_RULES = 6
MAX_TRIALS = 12
MAX_NOTES = 2
MAX_FAILED, MAX_GUARDS = 3, 3
PLOT = 19
"""Characters that an interval is drawn in."""
WIDE, NARROW = 110, 96
"""Columns from which the arms' own means have room beside their difference; and under which only words have."""

_STYLE = {"failure": "bold red", "warning": "yellow", "note": "cyan", "clear": "green"}
_VERDICT = {"better": "blue", "worse": "red", "no difference within margin": "dim", "inconclusive": "dim"}


def to_text(report: Report, console: Console) -> None:
    """Print the report to `console`: about one screen of 100 columns, whatever the length of the run."""
    if report.bisection is not None:
        return bisection_text.to_text(report, report.bisection, console, draw)
    head = report.headline
    console.print(Text(head.statement, style=_STYLE[head.tone]), soft_wrap=False)
    answers = Table.grid(padding=(0, 2))
    answers.add_column(style="dim", no_wrap=True)
    answers.add_column()
    for question, answer in (("what", head.happened), ("why", head.why), ("fix", head.fixes), ("sure", head.sure)):
        if answer:
            answers.add_row(question, Text(answer))
    console.print(Padding(answers, (0, 0, 0, 2)))
    if report.findings:
        console.print()
        console.print(_findings(report))
    if report.diagnosis and report.diagnosis.trials:
        console.print()
        for table in trials_tables(report.diagnosis.trials, console.width, ascii_only=console.options.ascii_only):
            console.print(table)
        if report.diagnosis.conclusion.exonerated:
            word = "no difference" if report.rescue else "exonerated"
            console.print(Text(f"{word}: " + ", ".join(report.diagnosis.conclusion.exonerated), style="dim"))
    if report.diagnosis:
        for line in (*failed_lines(report.diagnosis.failed), *restarted(report.diagnosis.restarted_runs)):
            console.print(Text(line, style="yellow"))
        console.print(_beside(report.diagnosis), style="dim")
    for line in rescue.lines(report.rescue) if report.rescue else ():
        console.print(Text(line), soft_wrap=True)
    for note in report.unseen[:MAX_NOTES]:
        console.print(Text("note: " + note, style="yellow"))
    if report.command:
        console.print(Text("again: " + shlex.join(report.command), style="dim"))


def _findings(report: Report) -> Table:
    groups = report.groups()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("finding", "left"), ("site", "left"), ("onset", "right"), ("delay", "right")):
        table.add_column(name, justify=justify, overflow="fold", max_width=32)  # type: ignore[arg-type]
    table.add_column("what was seen", ratio=1)
    told = {finding.message for finding in report.findings[:1]}
    for group in groups[:MAX_RULES]:
        table.add_row(*_row(group, told))
    if len(groups) > MAX_RULES:
        table.add_row(Text(f"and {len(groups) - MAX_RULES} more", style="dim"))
    return table


def _row(group: Group, told: set[str]) -> list[Text]:
    lead = group.lead
    more = f" +{group.num_sites - 1}" if group.num_sites > 1 else ""
    said = [] if lead.message in told else [sentence(lead.message)]
    if more:
        said.append(f"{group.summary}.")
    return [
        Text(group.rule, style=_STYLE[group.severity]),
        Text(f"{lead.site}{more}"),
        Text(str(lead.onset)),
        Text(str(lead.delay)),
        Text(" ".join(said) or "as above"),
    ]


def trials_tables(trials: Sequence[Trial], width: int, *, ascii_only: bool) -> list[Table]:
    """One table of a diagnosis, or one for each round of a trial, with its name; none where nothing was compared."""
    rounds = [[t for t in trials if t.round == name] for name in ("factors", "single")]
    named = [group for group in rounds if group]
    tables = [trials_table(group, width=width, ascii_only=ascii_only) for group in named or [trials] if group]
    for table, group in zip(tables, named, strict=False):
        table.title = f"{ROUNDS[group[0].round]} · {table.title}"
    return tables


def trials_table(trials: Sequence[Trial], *, width: int, ascii_only: bool) -> Table:
    """Comparisons with their intervals drawn, those that answer the question first; an arm's screening only alone."""
    trials = sorted(trials, key=lambda trial: trial.round not in ("confirm", "factors"))
    confirmed = {(t.comparison.arm, t.comparison.metric) for t in trials if t.round == "confirm"}
    shown = [t for t in trials if t.round == "confirm" or (t.comparison.arm, t.comparison.metric) not in confirmed]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    metric = shown[0].comparison.metric
    better = "higher" if shown[0].comparison.higher_is_better else "lower"
    margin, told = show(shown[0].comparison.margin), levels(t.comparison for t in shown)
    table.title = f"{metric}, {better} is better; margin {margin}, {told}"
    table.title_justify, table.title_style = "left", "dim"
    table.add_column("arm", min_width=16, ratio=1)
    table.add_column("seeds", justify="right", no_wrap=True)
    if width >= WIDE:
        table.add_column("control → treated", justify="right", no_wrap=True)
    table.add_column("effect, interval", justify="right", no_wrap=True)
    if width >= NARROW:
        table.add_column("treated - control", width=PLOT, no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for trial in shown[:MAX_TRIALS]:
        c = trial.comparison
        scale = effect_scale(t.comparison for t in shown if t.comparison.metric == c.metric)
        means = [Text(f"{show(mean(c.control))} → {show(mean(c.treated))}")] if width >= WIDE else []
        drawn = [Text(draw(c, scale, ascii_only=ascii_only), style=_VERDICT[c.verdict])] if width >= NARROW else []
        table.add_row(
            Text(c.arm if c.metric == metric else f"{c.arm} ({c.metric})"),
            Text(f"{len(c.seeds)}" if c.stopped_of is None else f"{len(c.seeds)} of {c.stopped_of}"),
            *means,
            Text(effect_words(c)),
            *drawn,
            Text(verdict_words(c, short=True), style=_VERDICT[c.verdict]),
        )
    if len(shown) > MAX_TRIALS:
        table.add_row(Text(f"and {len(shown) - MAX_TRIALS} more, in trial.json and the report's page", style="dim"))
    table.caption, table.caption_justify, table.caption_style = _key(shown[:MAX_TRIALS]), "left", "dim"
    return table


def _key(shown: Sequence[Trial]) -> str | None:
    """What the table's abbreviations mean, each at its first example."""
    listed = [t.comparison for t in shown]
    stopped = [f"{len(c.seeds)} of {c.stopped_of}: stopped early" for c in listed if c.stopped_of is not None]
    more = [f"+{c.further_seeds}: so many further seeds may settle it" for c in listed if c.further_seeds is not None]
    return "; ".join(stopped[:1] + more[:1]) or None


def guards_table(guards: Sequence[Guard]) -> Table:
    """What the arms do to the metrics that don't decide, what got worse first."""
    order = ("worse", "changed", "better", "inconclusive")
    shown = sorted(guards, key=lambda g: order.index(g.verdict))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.title, table.title_justify, table.title_style = f"beside it; {levels(shown)}", "left", "dim"
    table.add_column("arm", min_width=16, ratio=1)
    table.add_column("metric")
    for name in ("control → treated", "effect, interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("it is", no_wrap=True)
    for g in shown[:MAX_TRIALS]:
        table.add_row(
            Text(g.arm),
            Text(g.metric),
            Text(f"{show(mean(g.control))} → {show(mean(g.treated))}"),
            Text(f"{show(g.effect, sign=True)} {span(g.low, g.high)}"),
            Text(g.verdict, style=_VERDICT.get(g.verdict, "yellow")),
        )
    if len(shown) > MAX_TRIALS:
        table.add_row(Text(f"and {len(shown) - MAX_TRIALS} more, in trial.json", style="dim"))
    return table


def failed_lines(failed: Sequence[Mapping[str, object]]) -> list[str]:
    """The runs that gave no number, arm by arm."""
    arms: dict[tuple[object, object], list[str]] = {}
    for run in failed:
        arms.setdefault((run.get("arm"), run.get("error")), []).append(str(run.get("seed")))
    lines = [f"failed: {arm}, seed {', '.join(seeds)}: {error}" for (arm, error), seeds in arms.items()]
    more = len(lines) - MAX_FAILED
    return lines[:MAX_FAILED] + ([f"and {more} more failures, in the report"] if more > 0 else [])


def _beside(diagnosis: Diagnosis) -> Lines:
    """What the tables leave out: side effects of the remedy, references, arms that never acted, what to do next."""
    remedy = remedy_trial(diagnosis)
    lines = [
        f"beside it: {g.metric} {show(mean(g.control))} → {show(mean(g.treated))}: effect {show(g.effect, sign=True)} "
        + span(g.low, g.high)
        for g in diagnosis.guards
        if remedy is not None and g.arm == remedy.arm and not g.low <= 0 <= g.high
    ][:MAX_GUARDS]
    harmed = [g for g in diagnosis.guards if g.verdict == "worse" and (remedy is None or g.arm != remedy.arm)]
    lines += [f"gets worse with {g.arm}: {g.metric} {span(g.low, g.high)}" for g in harmed[:MAX_GUARDS]]
    for name, metrics in diagnosis.references.items():
        lines.append(f"reference: {name}: " + ", ".join(f"{metric} {show(value)}" for metric, value in metrics.items()))
    if diagnosis.conclusion.symptoms:
        lines.append("symptoms, not causes: " + ", ".join(diagnosis.conclusion.symptoms))
    if diagnosis.conclusion.inert:
        lines.append("never acted, so not tested: " + ", ".join(diagnosis.conclusion.inert))
    if diagnosis.conclusion.next:
        lines.append(f"next: {diagnosis.conclusion.next}")
    return Lines(*(Text(line) for line in lines))


def draw(c: Comparison, scale: Scale, *, ascii_only: bool = False) -> str:
    """An effect in one line of text: margin band, zero line, interval and point, on `scale`."""
    band, zero, line, point = ".|-o" if ascii_only else "·│─●"
    scale = Scale(scale.low, scale.high, PLOT - 1, pad=0)
    cells = [" "] * PLOT

    def paint(low: float, high: float, mark: str) -> None:
        if not (math.isnan(low) or math.isnan(high)):
            for i in range(round(scale(low)), round(scale(high)) + 1):
                cells[i] = mark

    paint(-c.margin, c.margin, band)
    paint(0, 0, zero)
    paint(c.low, c.high, line)
    paint(c.effect, c.effect, point)
    return "".join(cells)
