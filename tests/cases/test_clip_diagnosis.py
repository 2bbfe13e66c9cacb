"""Nobody says what is wrong with the case, and the trials find it: on the real towers and base, hence slow."""

import re
from pathlib import Path

import pytest

import pitprop.trials
from pitprop.trials import diagnose, prove_exact

RECIPE = "pitprop.cases.clip_anomaly.recipe:recipe"


def test_the_trials_hold_no_word_of_the_case():
    told = re.compile(r"clip_anomaly|image_cross_attn|context_norm|evaluate_without")
    trials = Path(pitprop.trials.__file__).parent
    assert [path.name for path in trials.rglob("*.py") if told.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
def test_stage_two_forks_exactly_into_a_new_process():
    assert prove_exact(RECIPE, steps=3).leaves > 50


@pytest.mark.slow
def test_the_injection_is_blamed_and_the_usual_suspects_are_not(tmp_path):
    found = diagnose(RECIPE, screen_seeds=2, folder=tmp_path)
    assert [f.rule for f in found.findings if f.severity == "failure"] == ["below-reference"]
    assert any(f.rule == "branch-domination" and f.site == "image_cross_attn" for f in found.findings)
    assert found.conclusion.cause is not None
    better = {c.arm for c in found.confirm if c.verdict == "better"}
    assert better and better <= {
        "variant=none", "variant=C", "normalise=True", "norm_match=True", "context_norm=1",
        "output of image_cross_attn multiplied by 0",
    }  # fmt: skip
