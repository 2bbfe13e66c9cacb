"""Interventions on attention, conditions, data, precision and the optimizer: each does what it says, and no more."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pitprop import PitpropError
from pitprop.trials.interventions import (
    ForceUniformAttention,
    Precision,
    ResetOptimizer,
    ShuffleCondition,
    SwapData,
    WeightDecay,
)
from pitprop.trials.run import RunSpec, train_run

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(3, 5, 8, generator=GENERATOR)
CAUSAL = torch.ones(5, 5).tril().bool()
SEEN = [torch.ones(5, 5).bool(), CAUSAL]


class Attend(nn.Module):
    """One head by hand, by the fused function or by torch's own module, with every way to write a mask."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(1)
        self.way = way
        self.qkv = nn.Linear(8, 24, bias=False)
        self.own = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, mask):
        q, k, v = self.qkv(x).chunk(3, -1)
        q = 30 * q  # far from uniform
        if self.way == "fused":
            return F.scaled_dot_product_attention(q, k, v, None if mask is None else mask)
        if self.way == "fused causal":
            return F.scaled_dot_product_attention(q, k, v, is_causal=mask is not None)
        if self.way == "fused bias":
            slope = torch.arange(5.0).expand(5, 5)
            return F.scaled_dot_product_attention(q, k, v, slope if mask is None else slope.masked_fill(~mask, -1e9))
        if self.way == "own":
            hidden = None if mask is None else ~mask
            return self.own(x, x, x, attn_mask=hidden, need_weights=False)[0]
        logits = q @ k.mT
        if mask is not None:
            logits = logits.masked_fill(~mask, -math.inf if self.way == "method" else -1e4)
        return (logits.softmax(-1) if self.way == "method" else F.softmax(logits, dim=-1)) @ v


class Net(nn.Module):
    def __init__(self, way="fused"):
        super().__init__()
        self.inner = Attend(way)
        self.other = Attend(way)

    def forward(self, x, mask=None):
        return self.inner(x, mask), self.other(x, mask)


def values(module):
    if module.way == "own":
        weight, bias = module.own.in_proj_weight[16:], module.own.in_proj_bias[16:]
        return lambda x, mean: module.own.out_proj(mean @ F.linear(x, weight, bias))
    return lambda x, mean: mean @ module.qkv(x)[..., 16:]


@pytest.mark.parametrize("visible", SEEN, ids=["all", "causal"])
@pytest.mark.parametrize("way", ["fused", "fused causal", "fused bias", "own", "function", "method"])
def test_attention_is_uniform_over_the_visible_keys_and_only_inside_the_path(way, visible):
    model, plain = Net(way), Net(way)
    applied = ForceUniformAttention("inner").apply(SimpleNamespace(model=model))
    mask = None if visible.all() else visible
    model.eval()  # where torch's own module would take its fast path
    inner, other = model(X, mask)
    uniform = visible / visible.sum(-1, keepdim=True)
    torch.testing.assert_close(inner, values(model.inner)(X, uniform), atol=1e-5, rtol=1e-5)
    assert torch.equal(other, plain.eval()(X, mask)[1])
    assert not torch.allclose(inner, plain(X, mask)[0], atol=1e-3)
    applied.check("x")


@pytest.mark.parametrize("way", ["fused", "own", "method"])
def test_forced_attention_trains_values_and_not_queries(way):
    model = Net(way)
    ForceUniformAttention("inner").apply(SimpleNamespace(model=model))
    model(X)[0].square().sum().backward()
    gradient = model.inner.own.in_proj_weight.grad if way == "own" else model.inner.qkv.weight.grad
    assert not gradient[:16].any() and gradient[16:].any()


def test_forced_attention_is_over_when_the_module_is_left_also_by_an_error():
    model = Net()
    ForceUniformAttention("inner").apply(SimpleNamespace(model=model))
    with pytest.raises(RuntimeError):
        model(torch.randn(3, 5, 7))
    logits = torch.tensor([0.0, 3.0])
    assert logits.softmax(0)[1] > 0.9


def test_forced_attention_in_a_module_without_attention_is_an_error():
    model = nn.ModuleDict({"a": nn.Linear(8, 8)})
    applied = ForceUniformAttention("a").apply(SimpleNamespace(model=model))
    model["a"](X)
    with pytest.raises(PitpropError, match="never acted at `a`"):
        applied.check("x")


class Conditioned(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(2, 8)
        self.mix = Mix()

    def forward(self, x, c):
        return self.mix(x, context={"c": self.encode(c), "scale": 2.0})


class Mix(nn.Module):
    def forward(self, x, context=None):
        return x + context["scale"] * context["c"]


@pytest.mark.parametrize("change", [ShuffleCondition("mix", "context"), ShuffleCondition("encode")])
def test_conditions_are_rolled_over_the_batch_and_nothing_else(change):
    torch.manual_seed(0)
    model = Conditioned()
    x, c = torch.randn(4, 8), torch.randn(4, 2)
    expected = model(x, c.roll(1, 0))
    alone = model(x[:1], c[:1])
    applied = change.apply(SimpleNamespace(model=model))
    assert torch.equal(model(x[:1], c[:1]), alone), "one example has no other to swap with"
    assert not applied.calls
    torch.testing.assert_close(model(x, c), expected)
    applied.check("x")


def test_shuffling_an_argument_that_is_not_there_names_the_nearest():
    with pytest.raises(PitpropError, match=r"`contxt`.*`context`"):
        ShuffleCondition("mix", "contxt").apply(SimpleNamespace(model=Conditioned()))


def make(optimizer, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    training = SimpleNamespace(model=model, optimizer=optimizer(model.parameters(), lr=0.1, **options))

    def step(batch):
        loss = (model(batch) - torch.ones(2)).square().mean()
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.seen = loss.dtype
        return {"loss": loss.detach()}

    training.step = step
    return training


BATCH = torch.randn(6, 3, generator=GENERATOR)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("path", ["*", "2"])
def test_weight_decay_is_the_optimizers_own_at_another_value(optimizer, path):
    training, plain, other = (make(optimizer, weight_decay=d) for d in (0.1, 0.1, 0.4))
    schedule = torch.optim.lr_scheduler.StepLR(training.optimizer, 10)
    twin = make(optimizer, weight_decay=0.1)
    WeightDecay(factor=4.0, path=path).apply(training)
    WeightDecay(value=0.4, path=path).apply(twin)
    for _ in range(2):
        for t in (training, plain, other, twin):
            # The gradients are those of the start, so that the parameters not named stay comparable.
            for p, q in zip(t.model.parameters(), make(optimizer).model.parameters(), strict=True):
                p.grad = torch.ones_like(q)
            t.optimizer.step()
        schedule.step()
    for name, p in training.model.named_parameters():
        changed = path == "*" or name.startswith("2")
        torch.testing.assert_close(p, (other if changed else plain).model.get_parameter(name), msg=name)
        assert torch.equal(p, twin.model.get_parameter(name))
    assert len(training.optimizer.param_groups) == 1 and len(training.optimizer.param_groups[0]["params"]) == 4
    assert training.optimizer.param_groups[0]["weight_decay"] == 0.1


def test_weight_decay_that_could_not_act_is_an_error():
    with pytest.raises(PitpropError, match="exactly one"):
        WeightDecay()
    with pytest.raises(PitpropError, match="is 0"):
        WeightDecay(factor=2.0).apply(make(torch.optim.SGD))
    with pytest.raises(PitpropError, match="no weight decay"):
        WeightDecay(value=0.1).apply(make(torch.optim.LBFGS))


def test_reset_optimizer_forgets_what_it_names():
    training = make(torch.optim.Adam)
    training.step(BATCH)
    ResetOptimizer("2").apply(training).check("x")
    assert set(training.optimizer.state) == set(training.model[0].parameters())
    weights = [p.detach().clone() for p in training.model.parameters()]
    assert all(torch.equal(p, w) for p, w in zip(training.model.parameters(), weights, strict=True))
    training.step(BATCH)
    assert training.optimizer.state[training.model[2].weight]["step"] == 1
    assert training.optimizer.state[training.model[0].weight]["step"] == 2


def test_reset_optimizer_before_the_first_step_is_an_error():
    with pytest.raises(PitpropError, match="fork later"):
        ResetOptimizer().apply(make(torch.optim.Adam)).check("x")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_autocast_around_the_step_alone(dtype):
    training = make(torch.optim.Adam)
    seen = []
    training.model[2].register_forward_hook(lambda _m, _a, out: seen.append(out.dtype))
    applied = Precision(dtype).apply(training)
    training.step(BATCH)
    training.model(BATCH)
    assert seen == [getattr(torch, dtype), torch.float32]
    assert all(p.dtype == torch.float32 for p in training.model.parameters())
    applied.check("x")


def test_float64_casts_everything_that_a_step_touches():
    training = make(torch.optim.Adam)
    training.step(BATCH)
    training.ema = nn.Linear(1, 1)
    applied = Precision("float64").apply(training)
    training.step(BATCH)
    assert training.seen == torch.float64
    assert training.optimizer.state[training.model[0].weight]["exp_avg"].dtype == torch.float64
    assert training.model(BATCH).dtype == training.ema.weight.dtype == torch.float64
    assert training.model[0](BATCH).dtype == torch.float64, "also where a part of the model is called by itself"
    assert torch.get_default_dtype() == torch.float32
    applied.check("x")


def spec(reference, *changes, **options):
    recipe = reference("recipes_tiny", "healthy")
    return RunSpec(**{"recipe": recipe, "source": "", "interventions": changes, "seed": 0, "horizon": 3} | options)


@pytest.mark.parametrize("fork_step", [0, 2])
def test_swapped_data_come_from_the_other_seed_from_the_fork_on(reference, tmp_path, fork_step, monkeypatch):
    from pitprop.trials.run import cached_recipe

    recipe = cached_recipe(reference("recipes_tiny", "healthy"))
    seen = []
    plain = recipe.build.step
    monkeypatch.setattr(recipe.build, "step", lambda self, batch: (seen.append(batch[0]), plain(self, batch))[1])
    record = train_run(spec(reference, SwapData(7), fork_step=fork_step), str(tmp_path))
    own, other = (recipe.build(seed, recipe.knobs()) for seed in (0, 7))
    expected = [(own if i < fork_step else other).make(i)[0] for i in range(fork_step + 3)]
    assert all(map(torch.equal, seen, expected)) and len(seen) == len(expected)
    control = train_run(spec(reference, fork_step=fork_step), str(tmp_path))
    assert record["metrics"] != control["metrics"]


def test_data_of_its_own_seed_are_no_other_data(reference, tmp_path):
    with pytest.raises(PitpropError, match="its own batches"):
        train_run(spec(reference, SwapData(0)), str(tmp_path))


@pytest.mark.parametrize(
    "change", [Precision("bfloat16"), Precision("float64"), WeightDecay(value=0.1), ResetOptimizer()]
)
def test_a_whole_run_with_it(reference, tmp_path, change):
    record = train_run(spec(reference, change, fork_step=2), str(tmp_path))
    control = train_run(spec(reference, fork_step=2), str(tmp_path))
    assert record["metrics"] != control["metrics"]
