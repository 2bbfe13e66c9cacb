"""Verbs that read a run folder and need no model: `detect`, `report`, `export`."""

from pathlib import Path

from rich.console import Console

from pitprop.cli._app import Allow, Json, Rules, app
from pitprop.cli._findings import Format, exit_code, show
from pitprop.cli._say import print_json, say
from pitprop.records import Severity


@app.command
def detect(
    run: Path,
    /,
    *,
    allow: Allow = (),
    fail_on: Severity = "failure",
    rule: Rules = (),
    format: Format = "text",
    json: Json = False,
) -> int:
    """Read a trace again and say what is wrong with the run.

    Args:
        run: Folder of the run.
        fail_on: Lowest severity that makes the exit code 1.
    """
    from pitprop.rules import RULES, by_name, replay
    from pitprop.trace import Reader

    form = "json" if json else format
    with Reader(run) as trace:
        seen = replay(trace, tuple(by_name(name) for name in rule) or RULES, allow)
        steps = trace.last_step
        coverage: dict = trace.meta("coverage", {})  # type: ignore[assignment]
    notes = [note for note in coverage.get("notes", ()) if note != seen.too_few]
    notes += [seen.too_few] if seen.too_few else []
    document = {"run": str(run), "last_step": steps, "rows": seen.num_measured}
    show(seen.findings, form, document, {}, (run / "trace.sqlite", None), grouped=True, notes=notes)
    # Of a thin run the last note is the last word: that the rules are silent says nothing.
    if form == "text" and not seen.too_few and all(finding.severity == "note" for finding in seen.findings):
        say(f"Nothing wrong was found in {run} (last step {steps}).")
    return exit_code(seen.findings, fail_on)


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
    say(f"\nThe report: [bold]{reports.write(built, out or run / 'report.html')}[/bold]")
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
        print_json({"run": str(run), "parquet": str(to)})
    else:
        say(f"Written: [bold]{to}[/bold]")
    return 0
