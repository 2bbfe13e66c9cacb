"""Candidate causes: the arms of the screening round, from the recipe's knobs and the control run's findings alone.

Nothing here knows a recipe. Each entry of `SUSPECTS` maps a rule to the interventions that take away, at the finding's
site, what the rule blames; every alternative of a knob is an arm; two suspects stand trial in every diagnosis.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pitprop.records import Finding
from pitprop.trials.interventions import Ablate, ClipGradient, Intervention, Knob, LearningRate, Replace, Scale
from pitprop.trials.plan import Arm

USUAL: tuple[Intervention, ...] = (LearningRate(0.1), ClipGradient(1.0))
"""The usual suspects: steps too large, gradients too large."""

SUSPECTS: dict[str, Callable[[str], tuple[Intervention, ...]]] = {
    "saturated-units": lambda site: (Scale(site, "unit", side="input"), Replace(site, "unit-rms")),
    "branch-domination": lambda site: (Scale(site, 0.1), Ablate(site)),
    "gradient-explosion": lambda site: USUAL,
    "loss-spike": lambda site: USUAL,
}
"""Rule -> interventions at the finding's site."""


def candidates(
    findings: Iterable[Finding],
    knob_values: Sequence[tuple[str, Any]],
    modules: Iterable[str],
    suspects: Sequence[Intervention] = (),
) -> tuple[Arm, ...]:
    """Arms to screen, without repeats: the user's suspects, the knobs, what the findings suggest, the usual ones.

    Args:
        findings: Of the control run, all severities: a cofactor is a suspect too.
        knob_values: Other values of the knobs, as `pitprop.trials.knobs.alternatives` lists them.
        modules: Module paths of the model; a finding at a site that is no module (`<run>`, `<model>`) suggests nothing.
        suspects: The user's own.
    """
    known = set(modules)
    changes: list[Intervention] = [*suspects, *(Knob(name, value) for name, value in knob_values)]
    for finding in findings:
        if finding.site in known:
            changes += SUSPECTS.get(finding.rule, lambda site: ())(finding.site)
    changes += USUAL
    return tuple(Arm(name_of(change), (change,)) for change in dict.fromkeys(changes))


def name_of(change: Intervention) -> str:
    """A short name for an arm, unique because it is all of the change."""
    if isinstance(change, Knob):
        return f"{change.name}={change.value}"
    return change.describe()
