"""The four frozen records that pass between the rooms: `Row`, `Finding`, `Comparison` and `RunInfo`.

Nothing downstream holds a reference upstream: a rule sees rows, a report sees findings and comparisons, and neither
ever needs the model. An undefined number is NaN; a number that was not measured is absent from its mapping.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RUN = "<run>"
"""The site of everything that belongs to the whole run (loss, outputs); no module path can look like it."""

Severity = Literal["note", "warning", "failure"]
Verdict = Literal["better", "worse", "no difference within margin", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured at one site in one step."""

    step: int
    """Optimizer step, counted from 0; the value describes the state before that step's update."""
    site: str
    """Dotted place in the model, or `RUN`."""
    values: Mapping[str, float]
    """Indicator name -> value. NaN is undefined; an indicator that was not measured is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One failure mode, seen at one site, with the numbers that justify it."""

    rule: str
    """Name of the rule (or check) that speaks; it is also the name to allow the finding by."""
    severity: Severity
    """`note`: a cofactor to know; `warning`: look at it; `failure`: the run is not doing its job."""
    site: str
    """Dotted place in the model, or `RUN`."""
    onset: int
    """Step at which the failure began, as far as the trace can tell."""
    detected: int
    """Step at which the rule was sure; `detected - onset` is its delay."""
    message: str
    """One sentence: what was seen, with numbers, and what it means."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """The numbers behind the message, by name, with units as suffixes."""
    remedies: tuple[str, ...] = ()
    """Names of remedies or interventions worth a trial, best measured first."""

    @property
    def delay(self) -> int:
        """Steps between onset and detection."""
        return self.detected - self.onset


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The paired effect of one intervention on one metric, and what may be said of it."""

    arm: str
    """Name of the treated arm."""
    changes: str
    """What the intervention changed, in full."""
    metric: str
    """Name of the metric, as `evaluate` returns it."""
    higher_is_better: bool
    """Direction in which the metric improves."""
    seeds: tuple[int, ...]
    """Seeds that both arms ran, in the order of the lists below."""
    control: tuple[float, ...]
    """Metric of the control arm, one value per seed."""
    treated: tuple[float, ...]
    """Metric of the treated arm, one value per seed."""
    effect: float
    """Mean paired difference, treated minus control."""
    low: float
    """Lower end of the interval of the effect."""
    high: float
    """Upper end of the interval of the effect."""
    confidence: float
    """Nominal coverage of the interval, between 0 and 1."""
    p_value: float
    """Exact two-sided sign-flip p-value over the paired differences; at n seeds it is never under 2 / 2**n."""
    margin: float
    """Difference that was declared too small to matter before the first run."""
    verdict: Verdict
    """What the interval and the margin allow to be said."""
    horizon: int
    """Steps that each run took after the fork."""
    plan: str
    """Hash of the plan, written before the first run."""
    stopped_of: int | None = None
    """Seeds that were planned, where the arm was stopped early because it was clearly worse; None where it was not."""
    further_seeds: int | None = None
    """Seeds beyond these that may settle an inconclusive verdict, were they like these; None beyond 1000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Where a trace comes from: enough to run it again."""

    name: str
    """Name of the run, by default its folder's."""
    started: str
    """Start, ISO 8601 in UTC."""
    command: tuple[str, ...] = ()
    """The command line that made the run."""
    config: Mapping[str, object] = field(default_factory=dict)
    """The run's own configuration, as the user gave it (JSON values)."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that matter to numbers (python, numpy, torch, jax, pitprop)."""
    git_commit: str | None = None
    """Commit of the user's repository, with `+dirty` when the tree had changes."""
    seed: int | None = None
    """Seed, where known."""
    device: str = ""
    """Device the model was on."""
