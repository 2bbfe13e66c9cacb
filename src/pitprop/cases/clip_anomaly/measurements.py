"""What the claims are judged on. What `run_claims` returns is committed as `results/claims.json`."""

from dataclasses import asdict
from typing import Any

import torch

from pitprop.cases._claims import provenance
from pitprop.cases.clip_anomaly.arms import claim_arms, story
from pitprop.cases.clip_anomaly.experiment import Settings, gradient_ladder, run_arms
from pitprop.cases.clip_anomaly.recipe import evaluate, known
from pitprop.cases.clip_anomaly.stages import Data, blank, hand_over, images
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
        "references": {**known(), "untrained base": untrained(settings.data)},
        "provenance": provenance(command, **asdict(settings)),
    }


def untrained(data: Data) -> dict[str, float]:
    """The base before its training, on the held-out images."""
    torch.manual_seed(data.pretraining.seed)
    start = blank(data)
    pool, held_out = images(data)
    hand_over(start, pool)
    return evaluate(start, held_out)
