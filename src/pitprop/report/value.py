"""The one frozen value that a report is: everything that text, JSON and HTML show, and nothing they must work out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, Int64

from pitprop.records import Comparison, Finding, RunInfo
from pitprop.rules import Group, group

if TYPE_CHECKING:
    from pitprop.report.bisection import Bisection
    from pitprop.report.rescue import Rescue

Tone = Literal["failure", "warning", "clear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The first screen: what happened, why, what fixes it, how sure. A part with nothing to say is empty."""

    tone: Tone
    """`failure`: the run is not doing its job; `warning`: look at it; `clear`: nothing was found."""
    statement: str
    """One sentence that stands alone."""
    happened: str = ""
    """The gravest finding, with its numbers."""
    why: str = ""
    """The cause, as far as trials settled it."""
    fixes: str = ""
    """The remedy that was measured to work."""
    sure: str = ""
    """Effect of the remedy with its interval, seeds and p-value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What stands behind a rule's name."""

    reads: tuple[str, ...]
    """Indicators that the rule reads."""
    text: str
    """The rule's page in Markdown: the docstring of its module."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """One indicator at one site over the run, thinned where it is long."""

    indicator: str
    """Name of the indicator."""
    site: str
    """Dotted place in the model, or `RUN`."""
    steps: Int64[np.ndarray, " points"]
    """Steps that were measured, ascending; a step that is not here was not measured."""
    values: Float32[np.ndarray, " points"]
    """Values at those steps; NaN is undefined."""
    num_measured: int
    """Points in the trace; more than `len(values)` where the series was thinned."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attention:
    """The attention maps of one site at one step."""

    site: str
    """Dotted place in the model."""
    step: int
    """Optimizer step."""
    weights: Float32[np.ndarray, "head query key"]
    """Attention weights, pooled to a size that fits a screen."""
    pooled: int
    """Side of the square of original entries that one entry is the mean of; 1 is the map itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One comparison, and the round of the diagnosis that it belongs to."""

    round: str
    """`screen` (few seeds, many suspects) or `confirm` (fresh seeds, the best few) of a diagnosis; of a trial `single`
    (each arm) or `factors` (main effects and interactions)."""
    comparison: Comparison
    """The paired effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What the trials allow to be said."""

    statement: str
    """One sentence."""
    cause: str | None
    """Cause that a trial established, or None."""
    remedy: str | None
    """Arm or change that was measured to help most, or None."""
    exonerated: tuple[str, ...]
    """Suspects that a trial cleared."""
    next: str
    """What may settle what is still open, or what to do now."""
    mechanism: str | None = None
    """The finding through which the cause acts, where a trial showed it."""
    inert: tuple[str, ...] = ()
    """Arms that never changed anything, so that they were not tested."""
    symptoms: tuple[str, ...] = ()
    """Findings that intervening on changes nothing: they go along with the collapse, and do not bring it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What an arm did to a metric that nobody asked it to improve."""

    arm: str
    """Name of the treated arm."""
    metric: str
    """The guard."""
    control: tuple[float, ...]
    """Metric of the control arm, one value per seed."""
    treated: tuple[float, ...]
    """Metric of the treated arm, one value per seed."""
    effect: float
    """Mean paired difference, treated minus control; which direction is good is the reader's to say."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end of its interval."""
    seeds: tuple[int, ...]
    """Seeds of both arms."""
    confidence: float = 0.95
    """Nominal coverage of the interval; all guards of a trial together have 95 %."""
    verdict: str = ""
    """`better`, `worse`, `changed` (nobody said which direction is good) or `inconclusive`: whether it excludes 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The content of `trial.json`."""

    plan: Mapping[str, object]
    """The plan as it was written before the first run."""
    plan_hash: str
    """Hash of that plan."""
    command: tuple[str, ...]
    """Command line that made the diagnosis."""
    fork: Mapping[str, object]
    """Proof that the fork is exact."""
    trials: tuple[Trial, ...]
    """All comparisons, in the order of the file."""
    conclusion: Conclusion
    """What they allow to be said."""
    guards: tuple[Guard, ...]
    """What the confirmed arms did to the recipe's other metrics."""
    references: Mapping[str, Mapping[str, float]]
    """Metrics of solutions that need no training, by name, to measure every arm against."""
    failed: tuple[Mapping[str, object], ...]
    """Runs that raised or died: arm, seed, error."""
    wall_s: float
    """Duration in seconds."""
    restarted_runs: int = 0
    """Runs that were started again after their worker died."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """Everything a reader is shown about one run folder."""

    version: str
    """Version of pitprop that built the report."""
    folder: str
    """Absolute path of the run folder."""
    info: RunInfo
    """Where the trace comes from."""
    last_step: int | None
    """Last step in the trace; None for an empty one."""
    headline: Headline
    """The first screen."""
    findings: tuple[Finding, ...]
    """All findings, gravest first, then by onset."""
    pages: Mapping[str, Page]
    """Rule name -> its page, for every rule that found something."""
    series: tuple[Series, ...]
    """All measured series, in the order of their first appearance."""
    units: Mapping[str, str]
    """Indicator -> unit, for indicators of pitprop; `1` is a pure number."""
    attention: tuple[Attention, ...]
    """Attention maps by site and step."""
    coverage: Mapping[str, object]
    """What the watch expected and what it saw, as the trace tells it."""
    unseen: tuple[str, ...]
    """What a reader would expect in the trace and won't find there, in the watch's own sentences."""
    schedule: Mapping[str, object]
    """When the watch measured, as the trace tells it."""
    diagnosis: Diagnosis | None
    """The trials, where the folder holds any."""
    command: tuple[str, ...]
    """Command that makes this run, or this diagnosis, again; empty where the trace does not know it."""
    notes: tuple[str, ...]
    """What was thinned, pooled or left out to keep the report small."""
    rescue: "Rescue | None" = None
    """What a rescue adds, where the folder is one's."""
    bisection: "Bisection | None" = None
    """The search, where the folder is a bisection's; there is nothing else in it then."""

    def groups(self) -> list[Group]:
        """Findings that came together, the group with the gravest first."""
        return group(self.findings)
