"""Every intervention does what its `describe()` says, and nothing else."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pitprop import PitpropError
from pitprop.trials import interventions
from pitprop.trials.interventions import (
    INTERVENTIONS,
    Ablate,
    ClipGradient,
    Detach,
    ForceUniformAttention,
    Freeze,
    Knob,
    LearningRate,
    LoadState,
    Precision,
    Reinitialise,
    Replace,
    ResetOptimizer,
    Scale,
    ShuffleCondition,
    Stage,
    SwapData,
    WeightDecay,
    from_dict,
    to_dict,
)

EXAMPLES = {
    Ablate: Ablate("blocks.0", to="batch_mean"),
    ClipGradient: ClipGradient(0.5, max_value=0.1),
    Detach: Detach("blocks.*"),
    ForceUniformAttention: ForceUniformAttention("blocks.*"),
    Freeze: Freeze("blocks.0"),
    Knob: Knob("gate", "none"),
    LearningRate: LearningRate(0.1, path="head"),
    LoadState: LoadState("/runs/a/model.safetensors", "5f"),
    Precision: Precision("bfloat16"),
    Reinitialise: Reinitialise("head", seed=4),
    Replace: Replace("act", "unit-rms"),
    ResetOptimizer: ResetOptimizer("head"),
    Scale: Scale("blocks.0", "unit", side="input"),
    ShuffleCondition: ShuffleCondition("head", argument="input"),
    Stage: Stage("blocks.1", start=2, ramp=4),
    SwapData: SwapData(7),
    WeightDecay: WeightDecay(factor=0.25, path="blocks"),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.act = nn.Tanh()
        self.head = nn.Linear(4, 2)
        self.bias = nn.Parameter(torch.zeros(2))
        self.idle = nn.Linear(1, 1)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.act(x)) + self.bias


def make(optimizer=torch.optim.SGD, **options):
    torch.manual_seed(0)
    model = Net()
    return SimpleNamespace(model=model, optimizer=optimizer(model.parameters(), **({"lr": 0.1} | options)))


X = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


def step(training):
    training.optimizer.zero_grad()
    training.model(X).square().sum().backward()
    training.optimizer.step()


def moved(training, before):
    return {name for name, p in training.model.named_parameters() if not torch.equal(p, before[name])}


def copy(training):
    return {name: p.detach().clone() for name, p in training.model.named_parameters()}


def test_registry_folder_and_examples_agree():
    assert tuple(EXAMPLES) == INTERVENTIONS
    folder = Path(interventions.__file__).parent
    files = {file.stem.replace("_", "") for file in folder.glob("*.py") if not file.stem.startswith("_")}
    assert files == {kind.__name__.lower() for kind in INTERVENTIONS}
    assert {kind.__name__ for kind in INTERVENTIONS} <= set(interventions.__all__)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda e: type(e).__name__)
def test_round_trip_describe_and_frozen(example):
    data = to_dict(example)
    assert data["kind"] == type(example).__name__
    assert from_dict(data) == example and hash(from_dict(data)) == hash(example)
    values = [v for k, v in data.items() if k != "kind" and isinstance(v, (int, float)) and not isinstance(v, bool)]
    assert all(f"{value:g}" in example.describe() for value in values), "the numbers are part of the description"
    assert Path(getattr(example, "path", "")).name in example.describe()
    assert example.blames()
    assert sum(hasattr(example, level) for level in ("knobs", "apply", "bind")) == 1, "it acts at one level"


@pytest.mark.parametrize(
    "kind", [k for k in INTERVENTIONS if k is not LoadState and hasattr(EXAMPLES[k], "path")], ids=lambda k: k.__name__
)
def test_a_path_that_matches_nothing_lists_the_nearest(kind):
    data = to_dict(EXAMPLES[kind]) | {"path": "block.0"}
    with pytest.raises(PitpropError, match=r"`block\.0`.*blocks\.0"):
        from_dict(data).apply(make())


@pytest.mark.parametrize("data", [{"kind": "Ablat", "path": "x"}, {"kind": "Ablate", "pth": "x"}])
def test_unknown_kind_or_field_is_an_error_with_a_hint(data):
    with pytest.raises(PitpropError, match=r"did you mean `(Ablate|path)`"):
        from_dict(data)


def test_no_model_or_optimizer_is_an_error():
    with pytest.raises(PitpropError, match="`model`"):
        Ablate("x").apply(SimpleNamespace())
    with pytest.raises(PitpropError, match="no torch optimizer"):
        ClipGradient(1.0).apply(SimpleNamespace(model=Net()))


def test_an_intervention_that_never_acted_is_an_error():
    training = make()
    applied = Ablate("idle").apply(training)
    training.model(X)
    with pytest.raises(PitpropError, match="never acted at `idle`"):
        applied.check("x")


def test_wildcards_stay_between_two_dots():
    applied = Scale("*.*", 1.0).apply(make())
    assert applied.paths == ("blocks.0", "blocks.1")


def test_ablate_zero_takes_the_branch_out():
    training, plain = make(), make()
    Ablate("blocks.*").apply(training)
    expected = plain.model.head(plain.model.act(X)) + plain.model.bias
    assert torch.equal(training.model(X), expected)


def test_ablate_batch_mean_keeps_the_mean_and_forgets_the_input():
    training, plain = make(), make()
    Ablate("head", to="batch_mean").apply(training)
    out = training.model(X)
    torch.testing.assert_close(out, plain.model(X).mean(0).expand(8, 2))


def test_ablate_acts_on_the_first_of_a_tuple():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 1, batch_first=True)})
    training = SimpleNamespace(model=model)
    Ablate("attention").apply(training)
    out, weights = model["attention"](X[None], X[None], X[None])
    assert not out.any() and weights.sum() > 0


def test_scale_by_a_number_on_either_side():
    outer, inner, plain = make(), make(), make()
    Scale("head", 3.0).apply(outer)
    Scale("act", 3.0, side="input").apply(inner)
    hidden = X + plain.model.blocks[0](X)
    hidden = hidden + plain.model.blocks[1](hidden)
    torch.testing.assert_close(outer.model(X), 3 * plain.model.head(hidden.tanh()) + plain.model.bias)
    torch.testing.assert_close(inner.model(X), plain.model.head((3 * hidden).tanh()) + plain.model.bias)


def test_scale_unit_is_measured_once_on_the_first_batch():
    training = make()
    seen = []
    Scale("act", "unit", side="input").apply(training)
    training.model.act.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    training.model(X)
    training.model(10 * X)
    assert seen[0].square().mean().sqrt().item() == pytest.approx(1, rel=1e-6)
    assert seen[1].square().mean().sqrt().item() == pytest.approx(10, rel=0.2), "the factor stays what it was"


def test_scale_unit_of_nothing_is_an_error():
    training = make()
    Scale("blocks.0", "unit", side="input").apply(training)
    with pytest.raises(PitpropError, match="RMS 0"):
        training.model(torch.zeros(2, 4))


def test_freeze_stops_only_what_it_names_even_with_momentum_and_decay():
    training = make(torch.optim.AdamW, weight_decay=0.5)
    step(training)
    before = copy(training)
    Freeze("blocks").apply(training)
    step(training)
    assert moved(training, before) == {"head.weight", "head.bias", "bias"}


def test_detach_keeps_the_numbers_and_cuts_the_gradient():
    training, plain = make(), make()
    Detach("act").apply(training)
    assert torch.equal(training.model(X), plain.model(X))
    step(training)
    assert moved(training, copy(plain)) == {"head.weight", "head.bias", "bias"}


def test_clip_gradient_by_norm_then_by_value():
    training = make()
    ClipGradient(0.5, max_value=0.05).apply(training)
    step(training)
    plain = make()
    plain.model(X).square().sum().backward()
    total = torch.cat([p.grad.flatten() for p in plain.model.parameters() if p.grad is not None]).norm()
    assert total > 0.5
    for (name, p), q in zip(training.model.named_parameters(), plain.model.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, (q.grad * 0.5 / (total + 1e-6)).clamp(-0.05, 0.05), msg=name)


@pytest.mark.parametrize(
    ("clip", "acts"),
    [(ClipGradient(1e6), 0), (ClipGradient(1e-3), 1), (ClipGradient(1e6, max_value=1e-3), 1)],
)
def test_clip_gradient_has_acted_only_where_it_changed_a_gradient(clip, acts):
    training = make()
    applied = clip.apply(training)
    step(training)
    assert applied.calls["optimizer"] == acts
    applied.check("no error, either way")


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("path", ["*", "head"])
def test_learning_rate_is_the_same_as_a_smaller_lr(optimizer, path):
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {"weight_decay": 0.1}
    training, plain, small = make(optimizer, **options), make(optimizer, **options), make(optimizer, lr=0.01, **options)
    LearningRate(0.1, path=path).apply(training)
    for t in (training, plain, small):
        step(t)
    assert all(group["lr"] == 0.1 for group in training.optimizer.param_groups), "schedulers see their own value"
    for name, p in training.model.named_parameters():
        slow = path == "*" or name.startswith("head")
        torch.testing.assert_close(
            p, (small if slow else plain).model.get_parameter(name), rtol=1e-6, atol=1e-7, msg=name
        )


def test_reinitialise_draws_anew_and_drops_momentum_without_touching_the_generator():
    training = make(torch.optim.Adam)
    step(training)
    before, rng = copy(training), torch.get_rng_state()
    Reinitialise("head", seed=4).apply(training)
    assert torch.equal(torch.get_rng_state(), rng)
    assert moved(training, before) == {"head.weight", "head.bias"}
    assert training.model.head.weight not in training.optimizer.state
    assert training.model.bias in training.optimizer.state
    again = make()
    Reinitialise("head", seed=4).apply(again)
    assert torch.equal(again.model.head.weight, training.model.head.weight)


def test_reinitialise_what_cannot_be_is_an_error():
    training = make()
    with pytest.raises(PitpropError, match="reset_parameters"):
        Reinitialise("act").apply(training)


def test_stage_follows_its_ramp_in_optimizer_steps():
    training, plain = make(lr=0.0), make(lr=0.0)
    stage = Stage("head", start=1, ramp=2)
    stage.apply(training)
    shares = []
    for _ in range(5):
        full = plain.model(X) - plain.model.bias
        shares.append(((training.model(X) - training.model.bias).norm() / full.norm()).item())
        step(training)
    assert shares == pytest.approx([0, 0, 0.5, 1, 1])
    assert [Stage("x", start=2).factor(n) for n in range(4)] == [0, 0, 1, 1]


def test_replace_by_a_named_remedy_bounds_the_saturation():
    training = make()
    old = training.model.act
    Replace("act", "unit-rms").apply(training)
    assert training.model.act.inner is old
    big = training.model.act(1000 * X)
    assert (big.abs() > 0.999).float().mean() < 0.07


def widen(old: nn.Module) -> nn.Module:
    """A factory of a user's own."""
    return nn.Sequential(old, nn.Linear(2, 2))


def test_replace_by_a_factory_hands_parameters_to_the_optimizer(reference):
    training = make(torch.optim.Adam)
    step(training)
    state = torch.get_rng_state()
    applied = Replace("head", reference("test_trials_interventions", "widen")).apply(training)
    assert torch.equal(torch.get_rng_state(), state)
    held = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in training.model.parameters()}
    before = copy(training)
    step(training)
    assert {"head.1.weight", "head.0.weight"} <= moved(training, before)
    applied.check("replace")
    Replace("head", "mean-pool").apply(training)
    assert not {id(p) for n, p in training.model.named_parameters() if "head" in n}
    held = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in training.model.parameters()}


@pytest.mark.parametrize(("remedy", "hint"), [("unit-rsm", "unit-rms"), ("qk-norm", "factory")])
def test_replace_by_what_does_not_fit_is_an_error(remedy, hint):
    with pytest.raises(PitpropError, match=hint):
        Replace("act", remedy).apply(make())
