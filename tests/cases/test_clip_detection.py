"""What the watch and the checks say of the variants, on towers too small to have learned anything.

The norms are what matters here: the context is given its norm relative to the stream, whatever the towers.
"""

from functools import cache

import pytest
import torch

import pitprop
from pitprop.cases.clip_anomaly import clip, surfaces
from pitprop.cases.clip_anomaly.cross_attention import VARIANTS
from pitprop.cases.clip_anomaly.losses import loss
from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.options import ClipSize
from pitprop.cases.clip_anomaly.population import BETAS, PARTS
from pitprop.cases.clip_anomaly.recipe import Knobs, StageTwo, evaluate
from pitprop.cases.clip_anomaly.sample import take
from pitprop.checks import Subject
from pitprop.checks.branch_dilution import CHECK as DILUTION
from pitprop.checks.train_eval_activity import CHECK as ACTIVITY

SIZE = ClipSize(
    image_size=32, vision_width=32, vision_layers=4, text_layers=2, embed=24, num_heads=2, levels=(1, 2, 3, 4),
    image_adapters=1, surgery_layers=2, cross_heads=2,
)  # fmt: skip
STEPS = 45


@cache
def pool():
    return surfaces.pool("train", 16, SIZE.image_size, 100)


def adapted(variant: str, context_norm: float = 50.0) -> AdaptedCLIP:
    torch.manual_seed(100)
    towers = clip.blank(SIZE)
    model = AdaptedCLIP(
        towers, VARIANTS[variant], size=SIZE, class_names=surfaces.CLASSES, context_norm=context_norm
    ).eval()
    model.set_text(model.stream(pool().image))
    return model


def watched(folder, variant: str, context_norm: float) -> list[pitprop.Finding]:
    """Findings of `branch-domination` at the cross-attention over the first steps of stage 2."""
    model = adapted(variant, context_norm)
    trained = [p for name, p in model.named_parameters() if name.split(".")[0] in PARTS["image"]]
    optimizer = torch.optim.Adam(trained, lr=5e-4, betas=BETAS)
    rng = torch.Generator().manual_seed(100)
    with pitprop.watch(model, optimizer, run=folder, every=1, budget=None, quiet=True) as watch:
        for _ in range(STEPS):
            value = loss(model, take(pool(), torch.randint(16, (4,), generator=rng)))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            watch.log(loss=value)
    return [f for f in watch.findings if f.rule == "branch-domination" and "cross_attn" in f.site]


def test_branch_domination_fires_in_the_first_steps_of_a(tmp_path):
    [finding] = watched(tmp_path / "A", "A", 50.0)
    assert finding.site == "image_cross_attn"
    assert finding.onset == 0
    assert finding.detected < 50
    assert finding.evidence["branch_ratio"] > 10
    assert "norm-match" in finding.remedies and "zero-init-projection" in finding.remedies


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "context_norm"), [("C", 50.0), ("D", 50.0), ("A", 1.0)])
def test_branch_domination_is_silent_where_the_branch_is_bounded_or_short(tmp_path, variant, context_norm):
    assert watched(tmp_path / "run", variant, context_norm) == []


@pytest.mark.slow
def test_the_preflight_check_sees_it_before_the_first_step():
    def seen(variant):
        [found] = [f for f in DILUTION.run(Subject(model=adapted(variant), batches=(pool(),), loss_fn=loss))
                   if f.site == "image_cross_attn" or f.severity == "warning"]  # fmt: skip
        return found

    assert seen("A").severity == "warning" and seen("A").evidence["branch_ratio"] > 10
    for variant, longest in (("C", 0.11), ("D", 0.0)):
        findings = DILUTION.run(Subject(model=adapted(variant), batches=(pool(),), loss_fn=loss))
        assert all(f.severity == "note" for f in findings)
        assert all(f.evidence.get("branch_ratio@image_cross_attn", 0) <= longest for f in findings)


def activity(model: AdaptedCLIP, **how) -> list[str]:
    subject = Subject(
        model=model, batches=(pool(),), loss_fn=loss, evaluate=lambda: evaluate(model, prepared(model), **how)
    )
    return [f.site for f in ACTIVITY.run(subject) if "evaluate()" in f.message]


def prepared(model: AdaptedCLIP):
    return pool()._replace(stream=model.stream(pool().image))


def trainable_image_side(variant: str) -> AdaptedCLIP:
    model = adapted(variant)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in PARTS["image"])
    return model


def test_the_census_finds_that_the_evaluation_runs_without_what_was_trained():
    assert activity(trainable_image_side("A"), cross_attention=False) == ["image_cross_attn"]
    assert activity(trainable_image_side("A")) == []
    assert activity(trainable_image_side("none"), cross_attention=False) == []


def test_the_recipe_evaluates_with_it_unless_told_otherwise(monkeypatch):
    model = adapted("A")
    monkeypatch.setattr("pitprop.cases.clip_anomaly.recipe.images", lambda data: (prepared(model), prepared(model)))
    monkeypatch.setattr("pitprop.cases.clip_anomaly.recipe.hand_over", lambda *_: None)
    with_it, without = (StageTwo(100, Knobs(evaluate_without=value), model).evaluate() for value in (None, True))
    assert without["pixel_auroc"] == pytest.approx(with_it["pixel_auroc_without"], abs=1e-9)
    assert without["pixel_auroc"] != with_it["pixel_auroc"]
    assert without["branch_ratio"] == 0 < with_it["branch_ratio"]


def test_gradient_share_knows_that_the_adapters_lie_behind_the_cross_attention():
    model = trainable_image_side("A")
    batches = [take(pool(), torch.arange(i, i + 4) % 16) for i in range(20)]
    found = pitprop.gradient_share(model, batches, loss, at="image_adapter.layers.0", without="image_cross_attn")
    assert found.position == "behind"
    assert found.factors["input growth"].mean == pytest.approx(found.branch_ratio.mean, rel=0.1)
    with pytest.raises(pitprop.PitpropError, match="over 8 batches"):
        pitprop.gradient_share(model, batches, loss, at="image_adapter", without="image_cross_attn", num=8)
