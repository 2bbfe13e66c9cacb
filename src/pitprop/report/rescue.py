"""What a report shows of a rescue: the way back through the snapshots, and what was changed.

`trial.json` of a rescue has it under `rescue`. The curves come from the trace of the run that collapsed, which stays
where it is, and from the watched run of the way that won.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from pitprop.records import RUN, Finding
from pitprop.report.headline import effect, remedy_trial
from pitprop.report.trial_file import NAME, malformed
from pitprop.report.value import Diagnosis, Headline, Page, Series, Tone
from pitprop.report.wording import sentence
from pitprop.trace import Reader

MAX_CURVES = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One number of the run that collapsed, and of the way that won, over the steps of the former."""

    indicator: str
    """Name of the indicator."""
    site: str
    """Dotted place in the model, or `RUN`."""
    steps: Int64[np.ndarray, " points"]
    """Measured steps of the collapsed run."""
    values: Float32[np.ndarray, " points"]
    """Values there; NaN is undefined."""
    after_steps: Int64[np.ndarray, " after"]
    """Measured steps of the way that won, counted on from the state that it started from."""
    after_values: Float32[np.ndarray, " after"]
    """Values there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rescue:
    """The part of `trial.json` that a rescue adds."""

    outcome: str
    """`Rescued`, `Improved`, `Not rescued`, `Nothing to rescue` or `Too few rows to tell`."""
    collapsed: str
    """Path of the checkpoint that collapsed."""
    collapsed_step: int | None
    """Steps that the run had taken there, where that is known."""
    good: str | None
    """Path of the last good snapshot."""
    good_step: int | None
    """Steps that the run had taken there."""
    snapshots: tuple[int, ...]
    """Steps of all snapshots of the run."""
    checkpoint: str | None
    """Path of the new checkpoint; None where nothing was confirmed."""
    written: Mapping[str, Any]
    """What was changed, as its `rescue.json` says; empty where there is none."""
    trace: Path
    """Folder with the trace of the run that collapsed, or of going on from the checkpoint."""
    after: Path | None
    """Folder with the trace of the way that won."""
    begin: int
    """Step of the collapsed run at which that way begins."""
    curves: tuple[Curve, ...] = ()
    """What a finding speaks of, and the metric, before and after."""

    def facts(self) -> dict[str, str]:
        """What was changed, by what is asked about it."""
        if not self.written:
            return {}
        return {
            "started from": self.written["started_from"]["path"],
            "changed": self.written["changes"],
            "trained": f"{self.written['steps']} steps of {self.written['recipe']}, seed {self.written['seed']}",
            "started anew": ", ".join(self.written.get("started_anew", ())) or "nothing",
            "in your code": self.written["in_your_code"],
            "files": ", ".join(self.written["sha256"]),
        }


def read(folder: Path) -> Rescue | None:
    """What `trial.json` in `folder` tells of a rescue; None where it is of something else.

    Raises:
        PitpropError: A part of it is missing or of the wrong kind.
    """
    path = folder / NAME
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    told = content.get("rescue")
    if told is None:
        return None
    try:
        after = told["after"]
        return Rescue(
            outcome=re.split(r" \(|:", content["conclusion"]["statement"], maxsplit=1)[0],
            written=dict(told["written"] or {}),
            snapshots=tuple(int(step) for step in told["snapshots"]),
            trace=_place(folder, told["trace"]),
            after=_place(folder, after["trace"]) if after else None,
            begin=int((after["begin"] if after else None) or 0),
            **{key: told[key] for key in ("collapsed", "collapsed_step", "good", "good_step", "checkpoint")},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise malformed(path, f"`rescue` has no proper {error}") from error


def with_curves(
    rescue: Rescue, series: Sequence[Series], findings: Sequence[Finding], pages: Mapping[str, Page], metric: str
) -> Rescue:
    """`rescue` with the curves of what the first failure speaks of, of the metric and of the loss.

    Args:
        rescue: What was read.
        series: Of the collapsed run.
        findings: Its findings.
        pages: Pages of the rules that spoke.
        metric: The metric that decided.
    """
    run = {(s.indicator, s.site): (s.steps, s.values) for s in series}
    first = min((f for f in findings if f.severity == "failure"), key=lambda f: f.onset, default=None)
    reads = [(name, first.site) for name in pages[first.rule].reads] if first and first.rule in pages else []
    wanted = dict.fromkeys([*reads[:1], (f"evaluate_{metric}", RUN), (metric, RUN), *reads[1:], ("loss", RUN)])
    after: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
    if rescue.after is not None and (rescue.after / "trace.sqlite").exists():
        with Reader(rescue.after) as reader:
            known = set(reader.indicators())
            for name, site in wanted:
                if name in known and site in reader.sites(name):
                    steps, values = reader.series(name, site)
                    after[name, site] = steps + rescue.begin, values
    none = np.empty(0, np.int64), np.empty(0, np.float32)
    curves = [
        Curve(indicator=name, site=site, steps=before[0], values=before[1], after_steps=then[0], after_values=then[1])
        for name, site in wanted
        for before, then in [(run.get((name, site), none), after.get((name, site), none))]
        if len(before[0]) or len(then[0])
    ]
    return dataclasses.replace(rescue, curves=tuple(curves[:MAX_CURVES]))


_TONE: dict[str, Tone] = {
    "Rescued": "clear",
    "Nothing to rescue": "clear",
    "Improved": "warning",
    "Too few rows to tell": "warning",
}
"""By outcome; any other is a failure."""


def headline(rescue: Rescue, findings: Sequence[Finding], diagnosis: Diagnosis) -> Headline:
    """The first screen of a rescue."""
    conclusion, trial = diagnosis.conclusion, remedy_trial(diagnosis)
    return Headline(
        tone=_TONE.get(rescue.outcome, "failure"),
        statement=re.split(r"(?<=[.!?])\s", conclusion.statement, maxsplit=1)[0],
        happened=sentence(findings[0].message) if findings else "No rule speaks about this run.",
        fixes=conclusion.remedy or ("No way that was tried." if diagnosis.trials else ""),
        sure=effect(trial) if trial else conclusion.next,
    )


def lines(rescue: Rescue) -> list[str]:
    """The way back, in words."""
    said = [f"collapsed: {rescue.collapsed}"]
    if rescue.snapshots:
        said += [f"snapshots: {len(rescue.snapshots)}, steps {rescue.snapshots[0]} to {rescue.snapshots[-1]}"]
    said += [f"last good: {rescue.good}"] if rescue.good else ["last good: none to go back to"]
    return said + ([f"new checkpoint: {rescue.checkpoint}"] if rescue.checkpoint else [])


def _place(folder: Path, path: str) -> Path:
    """A folder that `trial.json` names: absolute, or beside it; an earlier answer lies two folders deeper."""
    return next((base / path for base in (folder, folder.parent.parent) if (base / path).exists()), folder / path)
