"""What is read from optimizers, adapters, streams and units, against the indicators and against hand computation."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from watch_models import Everything, Language, batch, loss_of, train

import pitprop.watch
from pitprop import PitpropError
from pitprop.indicators import (
    adapter_ratio,
    dead_share,
    displacement_ratio,
    lost_update_share,
    momentum_alignment,
    rotation_ratio,
    second_moment_ratio,
    shrinkage,
    starved_share,
    step_scale,
    stream_growth,
)
from pitprop.trace import Reader
from pitprop.watch.adapters import spectral_norm
from pitprop.watch.dispatch import _by_unit
from pitprop.watch.ema import ema_drift
from pitprop.watch.optimizer import COORDINATES, _stride

LR, DECAY, EPS = 1e-2, 0.1, 1e-8


def watching(model, optimizer, folder, **kwargs):
    return pitprop.watch(model, optimizer, **{"run": folder, "every": 1, "budget": None, "quiet": True, **kwargs})


def read(folder):
    with Reader(folder) as reader:
        return {
            i: {s: dict(zip(*map(np.ndarray.tolist, reader.series(i, s)), strict=True)) for s in reader.sites(i)}
            for i in reader.indicators()
        }


@pytest.mark.parametrize("kind", ["AdamW", "Adam", "SGD", "fused", "amsgrad"])
def test_optimizer_statistics_are_those_of_the_indicators(kind, tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(8, 5)
    optimizer = {
        "AdamW": lambda p: torch.optim.AdamW(p, LR, weight_decay=DECAY),
        "Adam": lambda p: torch.optim.Adam(p, LR, weight_decay=DECAY),
        "SGD": lambda p: torch.optim.SGD(p, LR, momentum=0.9, weight_decay=DECAY),
        "fused": lambda p: torch.optim.AdamW(p, LR, weight_decay=DECAY, fused=True),
        "amsgrad": lambda p: torch.optim.Adam(p, LR, weight_decay=DECAY, amsgrad=True),
    }[kind](model.parameters())

    def flat(tensors):
        return torch.cat([t.detach().flatten() for t in tensors]).double()

    expected = []
    with watching(model, optimizer, tmp_path / "run"):
        for step in range(4):
            optimizer.zero_grad()
            (model(torch.randn(6, 8)) ** 2).mean().backward()
            parameters = list(model.parameters())
            before, gradient = flat(parameters), flat(p.grad for p in parameters)
            slot = "momentum_buffer" if kind == "SGD" else "exp_avg"
            momentum = flat(optimizer.state[p][slot] for p in parameters) if step else None
            optimizer.step()
            after = flat(parameters)
            now = {
                "shrinkage": shrinkage(after - before, before),
                "rotation_ratio": rotation_ratio(before, after, lr=LR, weight_decay=DECAY),
                "weight_rms": before.square().mean().sqrt(),
            }
            if momentum is not None:
                now["momentum_alignment"] = momentum_alignment(gradient, momentum)
            if kind != "SGD":
                name = "max_exp_avg_sq" if kind == "amsgrad" else "exp_avg_sq"
                second = flat(optimizer.state[p][name] for p in parameters) / (1 - 0.999 ** (step + 1))
                decayed = LR * DECAY * before if kind in ("AdamW", "fused") else 0.0
                now |= {
                    "starved_share": starved_share(second, eps=EPS),
                    "second_moment_ratio": second_moment_ratio(gradient, second),
                    "step_scale": step_scale(after - before + decayed, lr=LR),
                }
            expected.append({name: float(value) for name, value in now.items()})
    seen = read(tmp_path / "run")
    for step, now in enumerate(expected):
        for name, value in now.items():
            assert seen[name]["<model>"][step] == pytest.approx(value, rel=2e-4, abs=1e-5), (name, step)
    assert ("starved_share" in seen) == (kind != "SGD")
    assert "lost_update_share" not in seen  # float32


def test_a_large_tensor_is_sampled_evenly_and_not_in_step_with_its_rows(tmp_path):
    parameter = nn.Parameter(torch.zeros(256, 512))
    stride = _stride(parameter)
    picked = np.arange(0, parameter.numel(), stride)
    assert COORDINATES / 2 <= len(picked) <= COORDINATES
    assert len(np.unique(picked % 512)) > 200 and len(np.unique(picked // 512)) > 200
    torch.manual_seed(0)
    model = nn.Linear(512, 256)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    with watching(model, optimizer, tmp_path / "run"):
        model(torch.randn(4, 512)).square().mean().backward()
        exact = float(torch.cat([p.detach().flatten() for p in model.parameters()]).square().mean().sqrt())
        optimizer.step()
    assert read(tmp_path / "run")["weight_rms"]["<model>"][0] == pytest.approx(exact, rel=0.1)


def test_updates_of_halves_are_compared_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(8, 5, dtype=torch.bfloat16, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 3e-3)
    with watching(model, optimizer, tmp_path / "run"):
        model(torch.randn(6, 8, dtype=torch.bfloat16)).float().square().mean().backward()
        before, gradient = model.weight.detach().clone(), model.weight.grad.clone()
        optimizer.step()
    expected = float(lost_update_share(before, model.weight, gradient))
    assert 0 < expected < 1
    assert read(tmp_path / "run")["lost_update_share"]["<model>"][0] == pytest.approx(expected, rel=1e-6)


def test_an_adapter_by_hand(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(12, 9)
    model.lora_A, model.lora_B = nn.ModuleDict({"x": nn.Linear(12, 2, bias=False)}), nn.ModuleDict()
    model.lora_B["x"] = nn.Linear(2, 9, bias=False)
    nn.init.zeros_(model.lora_B["x"].weight)
    model.scaling = {"x": 3.0}
    optimizer = torch.optim.Adam([p for n, p in model.named_parameters() if "lora" in n], 1e-2)
    expected = []
    with watching(model, optimizer, tmp_path / "run"):
        for step in range(5):
            a, b, w = (p.detach().clone() for p in (model.lora_A["x"].weight, model.lora_B["x"].weight, model.weight))
            moved = displacement_ratio(b, lr=1e-2, steps=step) if step else math.nan
            ratio = adapter_ratio(3 * b, a, torch.linalg.matrix_norm(w, 2))
            expected.append((float(ratio), float(moved)))
            x = torch.randn(6, 12)
            out = x @ (model.weight.detach() + 3 * model.lora_B["x"].weight @ model.lora_A["x"].weight).T
            optimizer.zero_grad()
            out.square().mean().backward()
            optimizer.step()
    seen = read(tmp_path / "run")
    assert seen["adapter_ratio"]["<model>"][0] == 0.0
    for step, (ratio, moved) in enumerate(expected):
        assert seen["adapter_ratio"]["<model>"][step] == pytest.approx(ratio, rel=0.05, abs=1e-9)
        if step:
            assert seen["displacement_ratio"]["<model>"][step] == pytest.approx(moved, rel=1e-4)


def test_the_power_method_is_low_by_a_few_per_cent_at_most():
    generator = torch.Generator().manual_seed(0)
    for shape in ((64, 64), (300, 40), (20, 200)):
        weight = torch.randn(shape, generator=generator)
        exact = float(torch.linalg.matrix_norm(weight, 2))
        assert 0.93 * exact <= float(spectral_norm(weight)) <= exact * (1 + 1e-5)


def test_streams_and_dead_units_by_hand(tmp_path):
    torch.manual_seed(0)
    model = Language(layers=3)
    kept = []
    for block in model.blocks:
        block.register_forward_hook(lambda m, a, out: kept.append(float(out.detach().norm(dim=-1).median())))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        train(model, optimizer, 1, size=2)
    assert read(tmp_path / "run")["stream_growth"] == {
        "blocks": {0: pytest.approx(float(stream_growth(np.array(kept))), rel=1e-5)}
    }
    pictures = torch.relu(torch.randn(4, 6, 5, 7) - torch.tensor([9.0, 0, 9, 0, 0, 0])[:, None, None])
    assert float(dead_share(_by_unit(pictures))) == pytest.approx(2 / 6)
    tokens = torch.relu(torch.randn(3, 200, 4) - torch.tensor([0.0, 9, 0, 0]))
    assert float(dead_share(_by_unit(tokens))) == pytest.approx(1 / 4)
    assert _by_unit(tokens).shape[0] <= 600


def test_exact_zeros_are_counted_without_biases_and_embeddings(tmp_path):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)
            self.table = nn.Embedding(3, 4)
            self.pair = nn.Bilinear(4, 4, 1)

        def forward(self, x):
            return self.used(x) + 0 * self.unused(x) + 0 * self.table.weight.sum() + 0 * self.pair(x, x)

    model = Half()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        model(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        (0 * model(torch.randn(5, 4))).sum().backward()
        optimizer.step()
    seen = read(tmp_path / "run")
    assert {site: values[0] for site, values in seen["zero_gradient_share"].items()} == {
        "used": 0.0,
        "unused": 1.0,
        "pair": 1.0,
    }
    assert all(math.isnan(values[1]) for values in seen["zero_gradient_share"].values())  # no gradient anywhere
    assert seen["num_trained"]["<run>"][0] == 4.0


def test_numbers_of_the_run(tmp_path):
    torch.manual_seed(0)
    model = Everything()
    optimizer = torch.optim.AdamW(model.parameters())
    with watching(model, optimizer, tmp_path / "run"):
        loss_of(model, batch()).backward()
        whole = math.hypot(*(float(p.grad.float().norm()) for p in model.parameters()))
        optimizer.step()
    seen = read(tmp_path / "run")
    assert seen["whole_gradient_norm"]["<run>"][0] == pytest.approx(whole, rel=1e-4)
    assert seen["num_trained"]["<run>"][0] == len(seen["gradient_norm"])
    assert set(seen["lost_update_share"]) == {"low"} and set(seen["adapter_ratio"]) == {"head"}
    assert "dead_share" in seen and "loss_scale" not in seen


def test_what_an_optimizer_does_not_keep_is_said_in_the_trace(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    with Reader(tmp_path / "run") as reader:
        notes = " ".join(reader.meta("coverage")["notes"])
    assert "2 of 2 parameters have no second moment" in notes and "2 of 2 parameters have no momentum" in notes


def test_drift_of_an_average():
    torch.manual_seed(0)
    model, average = nn.Linear(3, 2), nn.Linear(3, 2)
    ours, theirs = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (model, average))
    assert ema_drift(model, average) == pytest.approx(float((ours - theirs).norm() / ours.norm()), rel=1e-6)
    assert ema_drift(model, model) == 0.0
    with pytest.raises(PitpropError, match="the average has 2 parameters and the model 2, or their shapes differ"):
        ema_drift(model, nn.Linear(4, 2))
