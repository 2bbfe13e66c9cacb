"""From a run folder to a `Report`: replay the rules over the trace, and take the trials where there are any."""

from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pitprop import __version__
from pitprop.indicators import INDICATORS
from pitprop.records import Finding, RunInfo
from pitprop.report import bisection, rescue, trial_file
from pitprop.report.headline import headline
from pitprop.report.thin import heads, keep, pool, spread
from pitprop.report.value import Attention, Diagnosis, Page, Report, Series
from pitprop.rules import RULES, Detector, measured_steps, num_steps, page, too_few
from pitprop.rules._rule import Rule
from pitprop.trace import Reader

MAX_POINTS = 2_000
"""Points of one series that a screen can show."""
MAX_VALUES = 600_000
"""Values of all series together: 2.4 MB before compression."""
MAX_MAP_SIDE = 64
MAX_MAP_VALUES = 400_000
"""Values of all attention maps together."""
ATTENTION = "attention"
"""Name of the arrays that hold attention weights."""

_GRAVITY = {"failure": 0, "warning": 1, "note": 2}


def build(folder: str | Path, *, rules: tuple[Rule, ...] = RULES, allow: Iterable[str] = ()) -> Report:
    """Read a run folder into a report.

    Args:
        folder: Folder with `trace.sqlite` and, where a diagnosis was made, `trial.json`; of a trial, with
            `trial.json` alone; or of a bisection, with `bisection.json`.
        rules: Rules to replay over the trace.
        allow: Findings to leave out, as `rule` or `rule@site`.

    Raises:
        PitpropError: Neither lies in the folder, or the trace, `trial.json` or `allow` cannot be worked with.
    """
    folder = Path(folder)
    if (bisected := bisection.read(folder)) is not None:
        return bisected
    diagnosis = trial_file.read(folder)
    rescued = rescue.read(folder)
    traced = folder if rescued is None else rescued.trace
    if diagnosis is not None and not (traced / "trace.sqlite").exists():
        return _trial_alone(folder, diagnosis, rescued)
    with Reader(traced) as reader:
        findings, columns = _replay(reader, Detector(rules, allow=tuple(allow)))
        series, notes = _thin(columns)
        attention, map_notes = _attention(reader)
        info, last_step = reader.info, reader.last_step
        rows = Counter({one.site: 0 for one in series})
        for one in series:
            rows[one.site] = max(rows[one.site], one.num_measured)
        thin = too_few(measured_steps(rows), num_steps(reader))
        coverage: dict = reader.meta("coverage", {})  # type: ignore[assignment]
        schedule: dict = reader.meta("schedule", {})  # type: ignore[assignment]
    findings.sort(key=lambda finding: (_GRAVITY[finding.severity], finding.onset))
    spoke = {finding.rule for finding in findings}
    pages = {rule.name: Page(reads=tuple(rule.reads), text=page(rule)) for rule in rules if rule.name in spoke}
    if diagnosis is not None and rescued is not None:
        rescued = rescue.with_curves(rescued, series, findings, pages, str(diagnosis.plan.get("metric", "")))
        said = rescue.headline(rescued, findings, diagnosis)
    else:
        said = headline(findings, diagnosis, last_step, thin)
    return Report(
        version=__version__,
        folder=str(folder.resolve()),
        info=info,
        last_step=last_step,
        headline=said,
        findings=tuple(findings),
        pages=pages,
        series=series,
        units={indicator.name: indicator.unit for indicator in INDICATORS},
        attention=attention,
        coverage={key: value for key, value in coverage.items() if key != "notes"},
        unseen=tuple(coverage.get("notes", ())),
        schedule=schedule,
        diagnosis=diagnosis,
        command=diagnosis.command if diagnosis else info.command,
        notes=(*notes, *map_notes),
        rescue=rescued,
    )


def _trial_alone(folder: Path, diagnosis: Diagnosis, rescued: rescue.Rescue | None) -> Report:
    """The report of a trial, whose runs nobody watched, or of a rescue whose run is gone."""
    gone = [f"The trace of the run that collapsed is no longer in {rescued.trace}."] if rescued else []
    return Report(
        version=__version__,
        folder=str(folder.resolve()),
        info=RunInfo(name=folder.resolve().name, started=""),
        last_step=None,
        headline=rescue.headline(rescued, (), diagnosis) if rescued else headline((), diagnosis, None),
        findings=(),
        pages={},
        series=(),
        units={},
        attention=(),
        coverage={},
        unseen=(),
        schedule={},
        diagnosis=diagnosis,
        command=diagnosis.command,
        notes=tuple(gone),
        rescue=rescued,
    )


def _replay(reader: Reader, detector: Detector) -> tuple[list[Finding], dict[tuple[str, str], tuple[array, array]]]:
    """One pass over the trace: the findings, and each series as (steps, values)."""
    findings: list[Finding] = []
    columns: dict[tuple[str, str], tuple[array, array]] = {}
    for row in reader.rows():
        findings += detector.update(row)
        for indicator, value in row.values.items():
            steps, values = columns.setdefault((indicator, row.site), (array("q"), array("f")))
            steps.append(row.step)
            values.append(value)
    return findings, columns


def _thin(columns: dict[tuple[str, str], tuple[array, array]]) -> tuple[tuple[Series, ...], list[str]]:
    limit = min(MAX_POINTS, max(50, MAX_VALUES // max(len(columns), 1)))
    series = []
    for (indicator, site), (steps, values) in columns.items():
        points = np.array(values, dtype=np.float32)
        kept = keep(points, limit)
        series.append(
            Series(
                indicator=indicator,
                site=site,
                steps=np.array(steps, dtype=np.int64)[kept],
                values=points[kept],
                num_measured=len(points),
            )
        )
    thinned = sum(s.num_measured > len(s.values) for s in series)
    note = (
        f"{thinned} of {len(series)} series were thinned to at most {limit} points; the lowest, the highest and an "
        f"undefined value of every stretch are kept. The trace holds all points."
    )
    return tuple(series), [note] if thinned else []


def _attention(reader: Reader) -> tuple[tuple[Attention, ...], list[str]]:
    stored = reader.arrays(ATTENTION)
    sites = list(dict.fromkeys(site for _, site in stored))
    maps: list[Attention] = []
    for site in sites:
        steps = sorted(step for step, where in stored if where == site)
        last, _ = pool(heads(reader.array(ATTENTION, steps[-1], site)), MAX_MAP_SIDE)
        for step in spread(steps, max(1, MAX_MAP_VALUES // (len(sites) * max(last.size, 1)))):
            weights, factor = pool(heads(reader.array(ATTENTION, step, site)), MAX_MAP_SIDE)
            maps.append(Attention(site=site, step=step, weights=weights, pooled=factor))
    notes = []
    if len(maps) < len(stored):
        notes.append(f"{len(maps)} of {len(stored)} attention maps are shown, evenly spread over the steps.")
    if any(m.pooled > 1 for m in maps):
        notes.append(f"Attention maps wider than {MAX_MAP_SIDE} are shown as means over squares of entries.")
    return tuple(maps), notes
