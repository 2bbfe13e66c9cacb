"""Nobody says what is wrong with the case, and the trials find it: on the real towers and base, hence slow."""

import re
from pathlib import Path

import pytest

import pitprop.trials
from pitprop.trials import prove_exact

RECIPE = "pitprop.cases.clip_anomaly.recipe:recipe"


def test_the_trials_hold_no_word_of_the_case():
    told = re.compile(r"clip_anomaly|image_cross_attn|context_norm|evaluate_without")
    trials = Path(pitprop.trials.__file__).parent
    assert [path.name for path in trials.rglob("*.py") if told.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
def test_stage_two_forks_exactly_into_a_new_process():
    assert prove_exact(RECIPE, steps=3).leaves > 50
