"""What is seen in loops out of the ordinary, and what is said of what is not."""

import math
import warnings

import pytest
import torch
from torch import nn
from watch_models import Convolutions, train

import pitprop.watch
from pitprop.trace import Reader


def watching(model, optimizer, folder, **kwargs):
    return pitprop.watch(model, optimizer, **{"run": folder, "every": 1, "budget": None, "quiet": True, **kwargs})


def read(folder):
    with Reader(folder) as reader:
        values = {
            name: {
                site: dict(zip(*(side.tolist() for side in reader.series(name, site)), strict=True))
                for site in reader.sites(name)
            }
            for name in reader.indicators()
        }
        return values, reader.meta("coverage")["notes"]


def make():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    return model, torch.optim.SGD(model.parameters(), 0.1)


def test_parameters_that_are_unfrozen_later_are_seen_from_then_on(tmp_path):
    model, optimizer = make()
    model[0].requires_grad_(False)
    with watching(model, optimizer, tmp_path / "run"):
        for step in range(4):
            if step == 2:
                model[0].requires_grad_(True)
            optimizer.zero_grad()
            model(torch.ones(5, 3)).square().sum().backward()
            optimizer.step()
    values, _ = read(tmp_path / "run")
    for indicator in ("gradient_norm", "update_ratio"):
        assert list(values[indicator]["1"]) == [0, 1, 2, 3]
        # Step 2 began, and its hooks were put, before the loop unfroze the layer; its update is seen already.
        assert list(values[indicator]["0"])[-1] == 3 and min(values[indicator]["0"]) >= 2


@pytest.mark.parametrize("scale", [None, 1024.0])
def test_gradients_that_the_loop_sets_itself_are_read_when_the_optimizer_steps(scale, tmp_path):
    class Scaler:
        def get_scale(self):
            return scale

    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run", scaler=Scaler() if scale else None):
        for step in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, step + 1.0)
            optimizer.step()
    values, notes = read(tmp_path / "run")
    expected = {step: (step + 1) * math.sqrt(16) for step in range(3)}
    assert values["gradient_norm"]["0"] == pytest.approx(expected, rel=1e-6)
    assert not any("No gradient" in note for note in notes)


def test_gradients_that_are_nowhere_are_said(tmp_path):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run") as watch:
        with torch.no_grad():
            model[0].weight.mul_(0.9)
        optimizer.step()
        watch.log(loss=1.0)
    values, notes = read(tmp_path / "run")
    assert "gradient_norm" not in values and any("No gradient was seen" in note for note in notes)


@pytest.mark.parametrize("before", [0, 3])
def test_a_scaler_that_skips_every_step_is_said(before, tmp_path, capsys):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run", quiet=False) as watch:
        for step in range(before + 60):
            optimizer.zero_grad()
            loss = model(torch.ones(5, 3)).square().sum() * (1.0 if step < before else math.inf)
            loss.backward()
            watch.log(loss=1.0)
            if all(p.grad.isfinite().all() for p in model.parameters()):
                optimizer.step()
    assert watch.step == before
    said = " ".join(capsys.readouterr().err.split())
    assert "60 backward passes without an optimizer step" in said and "is the GradScaler skipping all of them?" in said
    assert "perhaps the loop ended" not in said


def test_a_search_for_a_scale_is_not_said(tmp_path):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run") as watch:
        for step in range(20):
            model(torch.ones(5, 3)).square().sum().backward()
            watch.log(loss=1.0)
            if step < 4:
                optimizer.step()
    assert not any("GradScaler" in note for note in read(tmp_path / "run")[1])


@pytest.mark.parametrize(
    ("steps", "every", "said"),
    [
        (100, 4, "Too few rows to tell: 25 of 100 steps measured, most rules need 40; watch with a smaller `every=`"),
        (20, 1, "Too few rows to tell: 20 of 20 steps measured, most rules need 40; a longer run tells more"),
        (50, 1, None),
    ],
)
def test_too_few_measured_steps_are_said(steps, every, said, tmp_path):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run", every=every):
        for _ in range(steps):
            model(torch.ones(5, 3)).square().sum().backward()
            optimizer.step()
    notes = read(tmp_path / "run")[1]
    assert any(said in note for note in notes) if said else not any("rows" in note for note in notes)


def test_a_short_fast_run_with_default_settings_has_rows_enough_for_the_rules(tmp_path):
    model, optimizer = make()
    with pitprop.watch(model, optimizer, run=tmp_path / "run", quiet=True) as watch:
        for _ in range(600):
            out = model(torch.randn(8, 3)) * 0 + 1.0  # collapsed: the same for every input
            loss = out.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss, outputs=out, targets=torch.randn(8, 2))
    assert "output-duplication" in {f.rule for f in watch.findings}
    with Reader(tmp_path / "run") as reader:
        assert reader.meta("schedule")["num_sampled"] >= 55


def test_complex_parameters_have_the_norm_of_their_parts(tmp_path):
    class Phases(nn.Module):
        def __init__(self):
            super().__init__()
            self.phase = nn.Parameter(torch.tensor([3 + 4j, 0j]))

        def forward(self, x):
            return torch.tanh(self.phase * x).abs().square().sum() + (self.phase * x).real.sum()

    model = Phases()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run") as watch:
        before = model.phase.detach().clone()
        model(torch.ones(2)).backward()
        grad = model.phase.grad.clone()
        optimizer.step()
        change = model.phase.detach() - before
    values, _ = read(tmp_path / "run")
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"]
    assert values["gradient_norm"]["<model>"][0] == pytest.approx(math.hypot(*grad.abs().tolist()), rel=1e-6)
    assert values["update_ratio"]["<model>"][0] == pytest.approx(math.hypot(*change.abs().tolist()) / 5, rel=1e-6)


def test_scripted_modules_are_left_out_one_by_one_and_said(tmp_path):
    torch.manual_seed(0)
    model = Convolutions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated; it is still in use
        model.head = torch.jit.script(model.head)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run") as watch:
        train(model, optimizer, 2)
    values, notes = read(tmp_path / "run")
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"]
    assert "branch_ratio" in values and set(values["gradient_norm"]) >= {"stem", "head"}
    assert any("1 modules take no hooks (TorchScript)" in note and "head" in note for note in notes)
