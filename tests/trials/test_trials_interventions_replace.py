"""`Replace` says what it measured of the insertion, and what each remedy's page says of it is so."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pitprop import PitpropError
from pitprop.remedies.torch.gated_attention import ElementwiseGate, HeadwiseGate, PooledGate
from pitprop.remedies.torch.gradient_stabiliser import GradientStabiliser
from pitprop.remedies.torch.norm_match import norm_match
from pitprop.remedies.torch.qk_norm import QKNorm
from pitprop.remedies.torch.zero_init_projection import zero_init_projection
from pitprop.trials import Arm, Plan
from pitprop.trials.execute import run_plan
from pitprop.trials.interventions import Replace, from_dict, to_dict
from pitprop.trials.interventions._insertion import insertion_text, relative_change
from pitprop.trials.judge import judge
from pitprop.trials.run import spec_source

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(3, 5, 8, generator=GENERATOR)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(8, 8)
        self.block = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 8))
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        x = x + self.block(self.first(x))
        x = x + self.attn(x, x, x)[0]
        return self.norm(x)


def replaced(path, remedy, **options):
    torch.manual_seed(2)
    model = Net()
    training = SimpleNamespace(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    return model, Replace(path, remedy, **options).apply(training)


def twice(old):
    return nn.Sequential(old, _Times(2.0))


def narrow(old):
    return nn.Linear(8, 4)


def tied(old):
    """Changes the old module on its way."""
    return zero_init_projection(old)


class _Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@pytest.fixture
def here(reference):
    return lambda name: reference("test_trials_interventions_replace", name)


@pytest.mark.parametrize("path", ["first", "block", "attn"])
def test_a_layer_scale_keeps_the_function_exactly_with_dropout(path):
    model, applied = replaced(path, "layer-scale", keep=True)
    plain = Net()
    torch.manual_seed(1)
    expected, drawn = plain(X), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(model(X), expected)
    assert torch.equal(torch.get_rng_state(), drawn), "the comparison draws nothing that the run notices"
    assert applied.measured == {path: 0.0} and applied.calls[path] == 1
    assert model.get_submodule(path).after.gain.requires_grad
    assert not model.get_submodule(path)._forward_pre_hooks, "measured once"


def test_a_layer_scale_needs_a_width():
    with pytest.raises(PitpropError, match="how many channels"):
        replaced("norm", "layer-scale")


def test_buffers_move_once(here):
    model, applied = replaced("norm", here("twice"))
    plain = Net()
    for net in (model, plain):
        torch.manual_seed(1)
        net(X)
    for p, q in zip(model.norm[0].buffers(), plain.norm.buffers(), strict=True):
        torch.testing.assert_close(p, q)
    assert applied.measured == {"norm": pytest.approx(1.0)}


def test_a_change_is_measured_as_it_is(here):
    model, applied = replaced("first", here("twice"))
    model(X)
    model(100 * X)
    assert applied.measured == {"first": pytest.approx(1.0)}
    model, applied = replaced("block.3", "unit-rms")
    layer, seen = model.block[3].inner, []
    model.block[3].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    model.eval()(X)
    old, new = layer(seen[0]), layer(seen[0] / seen[0].square().mean(-1, keepdim=True).sqrt())
    expected = ((new - old).norm() / old.norm()).item()
    assert expected > 0.1 and applied.measured["block.3"] == pytest.approx(expected, rel=1e-4)


def test_a_factory_that_changes_the_old_module_is_compared_with_what_that_was(here):
    model, applied = replaced("first", here("tied"))
    model(X)
    assert applied.measured == {"first": 1.0}, "everything was taken away"


@pytest.mark.parametrize("remedy", ["twice", "tied", "narrow"])
def test_keep_refuses_what_does_not(here, remedy):
    model, _ = replaced("block.3" if remedy != "narrow" else "first", here(remedy), keep=True)
    with pytest.raises(PitpropError, match="does not keep the function"):
        model(X) if remedy != "narrow" else model.first(X)


def test_unlike_shapes_and_silence_are_told_apart():
    one, none = torch.ones(3), torch.zeros(3)
    assert relative_change(one, one) == 0 and relative_change(none, none) == 0
    assert relative_change(one, none) == math.inf
    assert math.isnan(relative_change(one, torch.ones(4))) and math.isnan(relative_change("a", one))
    assert relative_change((2 * one, None), (one, None)) == 1


def test_the_words():
    assert insertion_text([0.0, 0.0]) == "keeps the function at insertion: relative change 0"
    assert insertion_text([0.314]) == "changes its output by 0.31 at insertion"
    assert insertion_text([0.1, 0.3]) == "changes its output by 0.1 to 0.3 at insertion"
    assert insertion_text([0.1, math.nan]).endswith("(1 of 2 not comparable)")
    assert "not comparable" in insertion_text([math.nan])
    assert to_dict(Replace("a", "unit-rms", keep=True))["keep"] is True
    assert from_dict({"kind": "Replace", "path": "a", "remedy": "b"}) == Replace("a", "b")
    assert Replace("a", "b", keep=True).describe().endswith("its function kept at insertion")


def test_record_and_verdict_carry_the_measurement(pool, reference, tmp_path):
    recipe = reference("recipes_tiny", "healthy")
    arms = (Arm("scaled", (Replace("0", "layer-scale", keep=True),)), Arm("bounded", (Replace("1", "unit-rms"),)))
    plan = Plan(
        recipe=recipe, source=spec_source(recipe), arms=arms, seeds=(0, 1), metric="spread", horizon=5, fork_step=3
    )
    results = run_plan(plan, tmp_path, executor=pool)
    assert results["scaled", 0]["inserted"] == [{"0": 0.0}]
    assert results["control", 0]["inserted"] == []
    record = json.loads((tmp_path / "runs" / f"{results['bounded', 1]['address']}.json").read_text())
    assert record["inserted"][0]["1"] > 0
    scaled, bounded = judge(plan, arms, plan.seeds, results)
    assert scaled.changes.endswith("(keeps the function at insertion: relative change 0)")
    assert "changes its output by 0." in bounded.changes


def gate(kind, **options):
    attended, x = X, torch.randn(3, 5, 8, generator=GENERATOR)
    return relative_change(kind(8, 2, **options).eval()(attended, x), attended)


def test_what_the_pages_say_of_insertion_is_so():
    torch.manual_seed(0)
    assert gate(ElementwiseGate, identity=True) == 0 and gate(HeadwiseGate, identity=True) == 0
    for kind in (ElementwiseGate, HeadwiseGate, PooledGate):
        assert 0.35 < gate(kind) < 0.65, "about halved"
    q, k = QKNorm(8)(X, X)
    logits = relative_change(q @ k.mT, X @ X.mT)
    assert logits > 0.1, "the norms of the tokens are lost"
    assert relative_change(norm_match(0.1 * X, X), 0.1 * X) == pytest.approx(9, rel=1e-4)
    branch = zero_init_projection(nn.Linear(8, 8))
    assert relative_change(X + branch(X), X) == 0 and relative_change(branch(X), nn.Linear(8, 8)(X)) == 1
    layer = nn.Linear(8, 8)
    layer(X).sum().backward()
    before = layer(X)
    GradientStabiliser().clip_gradients(layer.parameters())
    assert torch.equal(layer(X), before)
