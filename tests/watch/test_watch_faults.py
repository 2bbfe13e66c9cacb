"""From a real model to a finding: every fault of the optimizer, of adapters, streams and units, injected and found.

Each test trains the same small model healthily, over several seeds, and with the fault. Nothing may be said of the
first, and the rule must speak of the second.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch_models import WIDTH, Language, batch

import pitprop.watch
from pitprop.watch.ema import ema_drift

SEEDS = range(3)
STEPS = 100


class Regression(nn.Module):
    """Two hidden layers on a function of ten inputs that they can learn."""

    def __init__(self, activation=nn.Tanh):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 1))

    def forward(self, x):
        return self.layers(x)


def data(generator, size=64):
    x = torch.randn(size, 10, generator=generator)
    return x, x[:, :1] * x[:, 1:2] + 0.5 * x[:, 2:3]


def regress(folder, seed, *, make=Regression, optimizer=None, change=None, scale=1.0, steps=STEPS, log=None, **kwargs):
    """Findings of a watched run. `change(model, optimizer, step)` injects; `scale` multiplies the loss."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = make()
    chosen = (optimizer or (lambda p: torch.optim.AdamW(p, 3e-3)))(model.parameters())
    with pitprop.watch(model, chosen, run=folder, every=1, budget=None, quiet=True, **kwargs) as watch:
        for step in range(steps):
            factor = change(model, chosen, step) if change is not None else None
            x, y = data(generator)
            loss = (model(x.to(next(model.parameters()).dtype)).float() - y).square().mean()
            chosen.zero_grad()
            (loss * scale * (factor or 1.0)).backward()
            chosen.step()
            watch.log(loss=loss, **({} if log is None else log(model, step)))
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"], watch.findings
    return watch.findings


def rules_at(findings):
    return {(f.rule, f.site) for f in findings}


OPTIMIZERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, 3e-3),
    "AdamW for loops": lambda p: torch.optim.AdamW(p, 3e-3, foreach=False),
    "AdamW fused": lambda p: torch.optim.AdamW(p, 3e-3, fused=True),
    "Adam amsgrad": lambda p: torch.optim.Adam(p, 3e-3, amsgrad=True),
    "SGD": lambda p: torch.optim.SGD(p, 0.03),
    "SGD with momentum and decay": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=1e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 3e-2),
    "Adafactor": lambda p: torch.optim.Adafactor(p, 1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_healthy_run_is_silent_whatever_the_optimizer(name, tmp_path):
    for seed in SEEDS if name == "AdamW" else (0,):
        assert regress(tmp_path / str(seed), seed, optimizer=OPTIMIZERS[name], steps=60) == []


@pytest.mark.parametrize("make", [Regression, lambda: Regression(nn.ReLU)])
def test_a_long_healthy_run_into_its_noise_is_silent(make, tmp_path):
    assert regress(tmp_path / "run", 0, make=make, steps=300) == []


class Adapted(nn.Module):
    """A linear layer with LoRA, frozen below."""

    def __init__(self, a=0.3, b=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 10) / 3, requires_grad=False)
        self.lora_A, self.lora_B = nn.Parameter(a * torch.randn(2, 10)), nn.Parameter(b * torch.randn(16, 2))
        self.scaling = 0.5
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(torch.tanh(x @ (self.weight + self.scaling * self.lora_B @ self.lora_A).T))


def test_lora_wakes_and_lora_of_two_zeros_does_not(tmp_path):
    for seed in SEEDS:
        assert regress(tmp_path / f"healthy{seed}", seed, make=Adapted) == []
    found = rules_at(regress(tmp_path / "dead", 0, make=lambda: Adapted(a=0.0)))
    assert found == {("adapter-asleep", "<model>"), ("dead-gradient", "<model>")}


def test_an_adapter_outside_of_the_optimizer_is_asleep(tmp_path):
    def only_the_head(parameters):
        return torch.optim.AdamW(list(parameters)[-2:], 3e-3)

    assert ("adapter-asleep", "<model>") in rules_at(
        regress(tmp_path / "run", 0, make=Adapted, optimizer=only_the_head)
    )


def test_an_adapter_that_runs_away(tmp_path):
    found = regress(tmp_path / "run", 0, make=Adapted, optimizer=lambda p: torch.optim.AdamW(p, 0.3), steps=60)
    assert ("adapter-runaway", "<model>") in rules_at(found)


@pytest.mark.parametrize("updated", [True, False])
def test_an_average_that_is_not_updated_stays_behind(updated, tmp_path):
    average, held_out = [], data(torch.Generator().manual_seed(99), 256)

    def log(model, step):
        if step == 0:
            average.append(copy.deepcopy(model))
        if updated:
            for ours, theirs in zip(average[0].parameters(), model.parameters(), strict=True):
                ours.data.lerp_(theirs.data, 0.1)
        with torch.no_grad():
            losses = [float((m(held_out[0]) - held_out[1]).square().mean()) for m in (average[0], model)]
        return {
            "ema_loss": losses[0],
            "trained_loss": losses[1],
            "ema_decay": 0.9,
            "ema_drift": ema_drift(model, average[0]),
        }

    findings = regress(tmp_path / "run", 0, log=log)
    assert rules_at(findings) == (set() if updated else {("ema-drift", "<run>")})


@pytest.mark.parametrize("gain", [1.0, 60.0])
def test_a_stream_that_multiplies(gain, tmp_path):
    torch.manual_seed(0)
    model = Language(layers=4)
    with torch.no_grad():
        for block in model.blocks:
            # A branch that scales with its own stream, as one without a normalisation in front does.
            block.norm2 = nn.Identity() if gain > 1 else block.norm2
            block.mlp[0].weight.mul_(1 if gain == 1 else 0)
            block.mlp = block.mlp if gain == 1 else nn.Linear(WIDTH, WIDTH)
            if gain > 1:
                nn.init.orthogonal_(block.mlp.weight, gain**0.5)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    with pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        for _ in range(50):
            ids = batch()
            loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss)
    assert (("residual-growth", "blocks") in rules_at(watch.findings)) == (gain > 1)


class Normalised(nn.Module):
    """A weight whose length has no effect."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(10, 32, bias=False), nn.LayerNorm(32), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.inner(x))))


def test_a_weight_in_front_of_a_normalisation_grows_without_decay(tmp_path):
    def grow(model, optimizer, step):
        optimizer.param_groups[0]["lr"] = 1e-3 if step < 30 else 1.0

    def adam(parameters):
        return torch.optim.Adam(parameters, 1e-3)

    assert ("weight-growth", "inner") in rules_at(
        regress(tmp_path / "a", 0, make=Normalised, optimizer=adam, change=grow)
    )
    assert regress(tmp_path / "b", 0, make=Normalised, optimizer=adam) == []


def test_units_that_a_bias_has_killed(tmp_path):
    def killed():
        model = Regression(nn.ReLU)
        nn.init.constant_(model.layers[2].bias, -20.0)
        return model

    assert regress(tmp_path / "healthy", 0, make=lambda: Regression(nn.ReLU)) == []
    found = rules_at(regress(tmp_path / "dead", 0, make=killed))
    assert ("dormant-units", "layers.3") in found and ("dead-gradient", "layers.0") in found


def test_a_loss_that_is_scaled_down_starves_adam(tmp_path):
    found = rules_at(regress(tmp_path / "run", 0, scale=1e-8))
    assert ("epsilon-starvation", "layers.0") in found


def test_gradients_that_outgrow_the_second_moment(tmp_path):
    def jump(model, optimizer, step):
        return 1.0 if step < 80 else 100.0

    found = regress(tmp_path / "run", 0, change=jump)
    assert "stale-second-moment" in {f.rule for f in found}


def classify(folder, seed, lr, steps=100):
    """Findings of a small classifier on batches of 32."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9)
    with pitprop.watch(model, optimizer, run=folder, every=1, budget=None, quiet=True) as watch:
        for _ in range(steps):
            x = torch.randn(32, 10, generator=generator)
            loss = F.cross_entropy(model(x), (x[:, 0] * x[:, 1] > 0).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss)
    return rules_at(watch.findings)


def test_steps_that_are_too_large(tmp_path):
    for seed in SEEDS:
        assert classify(tmp_path / f"healthy{seed}", seed, 0.03) == set()
        assert ("learning-rate-too-high", "<run>") in classify(tmp_path / f"large{seed}", seed, 2.0)


def test_no_warm_up(tmp_path):
    def findings(lr, seed):
        torch.manual_seed(seed)
        model = Language(layers=2)
        optimizer = torch.optim.AdamW(model.parameters(), lr)
        folder = tmp_path / f"{lr}-{seed}"
        with pitprop.watch(model, optimizer, run=folder, every=1, budget=None, quiet=True) as watch:
            for _ in range(30):
                ids = batch(16)
                loss = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.log(loss=loss)
        return {f.rule for f in watch.findings}

    for seed in SEEDS:
        assert "warm-up-missing" not in findings(1e-3, seed)
        assert "warm-up-missing" in findings(0.3, seed)


class Staged(nn.Module):
    """A second branch that is switched on by a flag."""

    def __init__(self, gain=1.0, multiply=False):
        super().__init__()
        self.first, self.second = Regression(), Regression()
        self.gain, self.multiply, self.on = gain, multiply, False

    def forward(self, x):
        if self.multiply:
            return self.first(x) + 0.0 * self.second(x)
        return self.first(x) + (self.gain * self.second(x) if self.on else 0.0)


def test_a_hard_switch_shocks_and_a_soft_one_does_not(tmp_path):
    def switch(model, optimizer, step):
        model.on = step >= 60

    hard = regress(tmp_path / "hard", 0, make=lambda: Staged(100.0), change=switch)
    assert [(f.onset, f.site) for f in hard if f.rule == "stage-switch-shock"] == [(60, "<run>")]
    soft = regress(tmp_path / "soft", 0, make=lambda: Staged(0.01), change=switch)
    assert "stage-switch-shock" not in {f.rule for f in soft}


@pytest.mark.parametrize("kind", ["AdamW", "SGD with momentum"])
def test_what_only_decays_is_found(kind, tmp_path):
    def optimizer(parameters):
        if kind == "AdamW":
            return torch.optim.AdamW(parameters, 3e-3, weight_decay=0.1)
        return torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=1e-2)

    found = rules_at(regress(tmp_path / kind, 0, make=lambda: Staged(multiply=True), optimizer=optimizer))
    sites = {f"second.layers.{i}" for i in (0, 2, 4)}
    assert {site for rule, site in found if rule == "weight-decay-collapse"} == sites
    assert {site for rule, site in found if rule == "dead-gradient"} == sites


@pytest.mark.parametrize(("lr", "lost"), [(1e-6, True), (3e-3, False)])
def test_updates_that_bfloat16_loses(lr, lost, tmp_path):
    findings = regress(
        tmp_path / "run", 0, make=lambda: Regression().bfloat16(), optimizer=lambda p: torch.optim.AdamW(p, lr)
    )
    found = {site for rule, site in rules_at(findings) if rule == "update-underflow"}
    assert found == ({f"layers.{i}" for i in (0, 2, 4)} if lost else set())


def test_a_loss_scale_that_has_collapsed(tmp_path):
    class Scaler:
        def get_scale(self):
            return 2.0**-6

    findings = regress(tmp_path / "run", 0, scale=2.0**-6, scaler=Scaler())
    assert ("update-underflow", "<run>") in rules_at(findings)
    assert math.isfinite(findings[0].evidence["loss_scale"])
