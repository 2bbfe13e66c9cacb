"""What the claims are judged on. What `run_claims` returns is committed as `results/claims.json`."""

from dataclasses import asdict
from typing import Any, get_args

from pitprop.cases._claims import provenance
from pitprop.cases.clip_anomaly.arms import claim_arms, story
from pitprop.cases.clip_anomaly.experiment import Settings, gradient_ladder, run_arms
from pitprop.cases.clip_anomaly.learning import Part, run_part, untrained
from pitprop.cases.clip_anomaly.recipe import known
from pitprop.trials.progress import OnProgress

CONTEXT = 50.0
"""Context norm at which the story is told."""
SEEDS, STEPS = 5, 60
"""Of the committed numbers."""


def run_claims(settings: Settings, command: tuple[str, ...], progress: OnProgress | None = None) -> dict[str, Any]:
    """All arms on all seeds, and the gradient test on each variant, condensed to what the claims need."""
    arms = {**story(CONTEXT), **claim_arms(CONTEXT)}
    return {
        **run_arms(arms, settings, progress),
        "gradients": gradient_ladder(arms, settings),
        "references": {**known(settings.data), "untrained base": untrained(settings.data)},
        **{part: run_part(part, settings, CONTEXT, command, progress) for part in get_args(Part)},
        "provenance": provenance(command, **asdict(settings)),
    }
