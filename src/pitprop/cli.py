"""The command line: verbs only, the work is elsewhere.

Exit codes: 0 nothing to report, 1 findings or a diagnosed collapse, 2 unusable input, 130 interrupted.
"""

import contextlib
import dataclasses
import importlib
import json as json_
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.markdown import Markdown
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

import pitprop
from pitprop._errors import USAGE, PitpropError, nearest
from pitprop.records import Severity
from pitprop.trials.progress import Progress

FOUND, INTERRUPTED = 1, 130
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "failure")

app = App(
    name="pitprop",
    help="Find out why a network's training collapsed, by controlled experiment, and prove the fix.",
    version=lambda: pitprop.__version__,
)

Json = Annotated[bool, Parameter(negative=(), help="Print one JSON document instead of text.")]
Allow = Annotated[tuple[str, ...], Parameter(negative=(), help="Findings to leave out: RULE or RULE@SITE; repeatable.")]
Knobs = Annotated[tuple[str, ...], Parameter(negative=(), help="NAME=VALUE: a knob of the recipe; repeatable.")]


@app.command
def diagnose(
    recipe: str,
    /,
    *,
    knob: Knobs = (),
    seeds: int = 5,
    workers: int | None = None,
    out: Path | None = None,
    json: Json = False,
) -> int:
    """Find the cause of a collapse by controlled trials, and the remedy that works.

    Watches the recipe's run; where it collapses, forks it before the onset, runs candidate interventions on the same
    seeds and batches, confirms the winners on fresh seeds, and writes a report.

    Args:
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        seeds: Fresh seeds of the confirming round.
        workers: Processes; by default one per core.
        out: Folder for traces, runs and the report; by default runs/NAME. A second call resumes there.
    """
    from pitprop import report as reports
    from pitprop.trials import diagnose as diagnose_

    reference = _reference(recipe)
    folder = out or Path("runs") / _name(recipe)
    with _progress(quiet=json) as progress:
        diagnosis = diagnose_(
            reference, knobs=_pairs(knob), seeds=seeds, workers=workers, folder=folder, progress=progress
        )
    built = reports.build(folder)
    page = reports.write(built, folder / "report.html")
    if json:
        print(reports.to_json(built))
    else:
        reports.to_text(built, Console())
        _say(f"\nThe report: [bold]{page}[/bold]")
    return FOUND if diagnosis.collapsed else 0


@app.command
def detect(
    run: Path, /, *, allow: Allow = (), fail_on: Severity = "failure", rule: tuple[str, ...] = (), json: Json = False
) -> int:
    """Read a trace again and say what is wrong with the run.

    Args:
        run: Folder of the run.
        fail_on: Lowest severity that makes the exit code 1.
        rule: Only these rules; repeatable.
    """
    from pitprop.rules import RULES, by_name
    from pitprop.rules import detect as detect_
    from pitprop.trace import Reader

    with Reader(run) as trace:
        findings = detect_(trace.rows(), tuple(by_name(name) for name in rule) or RULES, allow=allow)
        steps = trace.last_step
    if json:
        _print_json({"run": str(run), "last_step": steps, "findings": [dataclasses.asdict(f) for f in findings]})
    elif not findings:
        _say(f"Nothing found in {run} (last step {steps}).")
    else:
        for finding in sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), f.onset)):
            _say(
                f"[bold]{finding.severity}[/bold] {finding.rule} at {_escape(finding.site)}, onset {finding.onset}, ",
                "",
            )
            _say(f"detected {finding.detected}\n  {_escape(finding.message)}")
            _say(f"  [dim]explain: pitprop explain {finding.rule}; allow: --allow {finding.rule}[/dim]")
    worst = max((SEVERITIES.index(f.severity) for f in findings), default=-1)
    return FOUND if worst >= SEVERITIES.index(fail_on) else 0


@app.command
def report(run: Path, /, *, out: Path | None = None, allow: Allow = (), json: Json = False) -> int:
    """Write the report of a run from its folder alone.

    Args:
        run: Folder of a watched run or of a diagnosis.
        out: HTML file; by default report.html in the folder.
    """
    from pitprop import report as reports

    built = reports.build(run, allow=allow)
    if json:
        print(reports.to_json(built))
        return 0
    reports.to_text(built, Console())
    _say(f"\nThe report: [bold]{reports.write(built, out or run / 'report.html')}[/bold]")
    return 0


@app.command
def check(recipe: str, /, *, knob: Knobs = (), seed: int = 0, json: Json = False) -> int:
    """Ask a model the questions worth asking before training, on one batch.

    Args:
        recipe: FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or the name of a case.
        seed: Seed to build the model with.
    """
    from pitprop.trials.preflight import check_recipe

    findings = check_recipe(_reference(recipe), _pairs(knob), seed)
    if json:
        _print_json({"recipe": recipe, "findings": [dataclasses.asdict(f) for f in findings]})
    else:
        for finding in findings:
            _say(f"[bold]{finding.severity}[/bold] {finding.rule} at {_escape(finding.site)}")
            _say(f"  {_escape(finding.message)}")
        if not findings:
            _say("Nothing found.")
    return FOUND if any(f.severity == "failure" for f in findings) else 0


@app.command
def case(name: str, /, *, claims: bool = False, out: Path | None = None, json: Json = False) -> int:
    """Reproduce one of the published collapses as a whole system, with its remedies.

    Args:
        name: Name of the case (`pitprop list cases`).
        claims: Judge every claim of the original post-mortem, each by its trial.
        out: Folder for what the case writes; by default runs/NAME-case.
    """
    from pitprop.cases import by_name

    found = by_name(name)
    module, _, attribute = found.run.partition(":")
    folder = out or Path("runs") / f"{name}-case"
    with _progress(quiet=json) as progress:
        result = getattr(importlib.import_module(module), attribute)(folder, claims=claims, progress=progress)
    if json:
        _print_json({"case": name, "rows": [list(row) for row in result.rows], "files": [str(f) for f in result.files]})
        return 0
    table = Table(title=found.title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in result.rows:
        table.add_row(*(_escape(str(cell)) for cell in row))
    Console().print(table)
    for file in result.files:
        _say(f"  [dim]{file}[/dim]")
    _say(f"Its cause, by trial: pitprop diagnose {name}")
    return 0


@app.command(name="list")
def list_(
    what: Literal["rules", "checks", "indicators", "remedies", "interventions", "cases"] = "rules",
    /,
    *,
    json: Json = False,
) -> int:
    """List everything of one kind.

    Args:
        what: The kind.
    """
    from pitprop.catalogue import entries

    found = entries(what)
    if json:
        _print_json([{"name": e.name, "summary": e.summary, **e.facts} for e in found])
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("name", *found[0].facts, ""):
        table.add_column(column, no_wrap=column in ("name", "severity", "shelf"))
    for entry in found:
        table.add_row(f"[bold]{entry.name}[/bold]", *map(_escape, entry.facts.values()), _escape(entry.summary))
    Console().print(table)
    return 0


@app.command
def explain(name: str, /, *, json: Json = False) -> int:
    """Print the page of a rule, check, indicator, remedy, intervention or case.

    Args:
        name: Its name.
    """
    from pitprop.catalogue import find

    entry = find(name)
    if json:
        _print_json(
            {"kind": entry.kind, "name": entry.name, "summary": entry.summary, "page": entry.page, **entry.facts}
        )
    else:
        _say(f"[bold]{entry.name}[/bold] [dim]({entry.kind})[/dim]\n")
        Console().print(Markdown(entry.page))
    return 0


@app.command
def export(run: Path, to: Path, /, *, json: Json = False) -> int:
    """Write a trace as one Parquet table (step, indicator, site, value).

    Args:
        run: Folder of the run.
        to: Parquet file to write.
    """
    from pitprop.trace import export_parquet

    export_parquet(run, to)
    if json:
        _print_json({"run": str(run), "parquet": str(to)})
    else:
        _say(f"Written: [bold]{to}[/bold]")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return app(arguments, exit_on_error=False, print_error=True, result_action="return_value") or 0
    except CycloptsError:
        return USAGE
    except PitpropError as error:
        if "--json" in arguments:
            _print_json({"error": {k: getattr(error, k) for k in ("seen", "means", "do", "allow", "read")}})
        else:
            Console(stderr=True).print(
                Panel(_escape(str(error)), title="pitprop", border_style="red", title_align="left")
            )
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was done is kept, the same command goes on from there")
        return INTERRUPTED


def _reference(recipe: str) -> str:
    """A recipe reference from what the user typed: a case's name stands for its recipe."""
    from pitprop.cases import CASES

    if ":" in recipe:
        return recipe
    for known in CASES:
        if known.name == recipe:
            return known.recipe
    raise PitpropError(
        f"`{recipe}` is neither FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE nor a case",
        do=nearest(recipe, [known.name for known in CASES]),
        read="docs/diagnose.md",
    )


def _name(recipe: str) -> str:
    """Folder name of a diagnosis: the case's, or the recipe's file."""
    return Path(recipe.rpartition(":")[0] or recipe).stem if recipe.count(":") else recipe


def _pairs(options: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping."""
    for option in options:
        if "=" not in option:
            raise PitpropError(f"--knob {option} has no value", do="--knob NAME=VALUE")
    return dict(option.split("=", 1) for option in options)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar with an estimate, on stderr; what it yields takes a `Progress`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bar(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("starting", total=None, left="")

        def tell(now: Progress) -> None:
            left = "" if now.remaining_s is None else f"about {now.remaining_s:.0f} s left"
            bar.update(task, description=now.stage, completed=now.done, total=now.total, left=left)

        yield tell


def _print_json(value: Any) -> None:
    print(json_.dumps(_strict(value), indent=2, allow_nan=False))


def _strict(value: Any) -> Any:
    """`value` with NaN and infinities as strings: JSON has no such numbers, and undefined must not look like 0."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _strict(v) for key, v in value.items()}
    return [_strict(v) for v in value] if isinstance(value, (list, tuple)) else value


def _say(text: str, end: str = "\n") -> None:
    Console().print(text, end=end, highlight=False, soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
