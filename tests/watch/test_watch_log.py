"""Which step a logged number belongs to, what may be logged, and when it is written."""

import math
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch_models import Everything, every_array

import pitprop.watch
from pitprop._errors import PitpropError
from pitprop.trace import Reader

SCHEDULES = {
    "every step": {"every": 1, "budget": None},
    "every third": {"every": 3, "budget": None},
    "once": {"every": 1000, "budget": None},
    "default": {},
}


def make():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return model, torch.optim.SGD(model.parameters(), 0.01)


def series(folder, indicator, site="<run>"):
    with Reader(folder) as reader:
        steps, values = reader.series(indicator, site)
        return dict(zip(steps.tolist(), values.tolist(), strict=True))


def before_step(watch, model, optimizer):
    for i in range(32):
        model(torch.ones(1, 3)).square().sum().backward()
        watch.log(loss=i)
        optimizer.step()
    return 32


def after_step(watch, model, optimizer):
    for i in range(32):
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        watch.log(loss=i)
    return 32


def twice_after_step(watch, model, optimizer):
    for i in range(32):
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        watch.log(loss=i - 1)
        watch.log(loss=i + 1)
    return 32


def micro_batches_with_the_step_inside(watch, model, optimizer):
    for i in range(32):
        model(torch.ones(1, 3)).square().sum().backward()
        if i % 4 == 3:
            optimizer.step()
        watch.log(loss=i // 4)
    return 8


def micro_batches_with_a_scaled_loss(watch, model, optimizer):
    for i in range(32):
        loss = model(torch.ones(1, 3)).square().sum() * 0 + i // 4
        (loss / 4).backward()
        if i % 4 == 3:
            optimizer.step()
        watch.log(loss=loss / 4 * 4)  # arithmetic that autograd records is no forward pass
    return 8


def arithmetic_after_step(watch, model, optimizer):
    for i in range(32):
        out = model(torch.ones(1, 3))
        out.square().sum().backward()
        optimizer.step()
        watch.log(loss=F.mse_loss(out, out.detach()).item() + i)
    return 32


def evaluations_between(watch, model, optimizer):
    for i in range(32):
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        watch.log(loss=i)
        if i % 5 == 4:
            with torch.no_grad():
                model(torch.ones(1, 3))
            watch.log(val=i)
    return 32


def without_autograd_before_step(watch, model, optimizer):
    for i in range(32):
        watch.log(loss=i)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return 32


def without_autograd_after_step(watch, model, optimizer):
    for i in range(32):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        watch.log(loss=i)
    return 32


LOOPS = (
    before_step,
    after_step,
    twice_after_step,
    micro_batches_with_the_step_inside,
    micro_batches_with_a_scaled_loss,
    arithmetic_after_step,
    evaluations_between,
    without_autograd_before_step,
    without_autograd_after_step,
)


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_number_is_kept_at_the_step_it_belongs_to(loop, schedule, tmp_path):
    model, optimizer = make()
    with pitprop.watch(model, optimizer, run=tmp_path / "run", quiet=True, **SCHEDULES[schedule]) as watch:
        steps = loop(watch, model, optimizer)
    assert series(tmp_path / "run", "loss") == {i: i for i in range(steps)}
    if loop is evaluations_between:
        assert series(tmp_path / "run", "val") == {i: i for i in range(4, 32, 5)}


def test_a_nan_loss_is_announced_before_the_next_step_ends(tmp_path):
    model, optimizer = make()
    with pitprop.watch(model, optimizer, run=tmp_path / "run", every=1000, budget=None, quiet=True) as watch:
        for i in range(8):
            model(torch.ones(1, 3)).square().sum().backward()
            watch.log(loss=torch.tensor(math.nan) if i == 5 else 1.0)
            optimizer.step()
            assert bool(watch.findings) is (i > 5)


def test_numbers_do_not_wait_for_long(tmp_path):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    from pitprop.watch.session import Watch
    from pitprop.watch.torch import TorchEdge

    model, optimizer = make()
    clock = Clock()
    watch = Watch(
        lambda **callbacks: TorchEdge(model, (optimizer,), **callbacks),
        run=tmp_path / "run",
        every=1000,
        budget=None,
        quiet=True,
        clock=clock,
    )
    kept = []
    with watch:
        for i in range(1, 13):
            model(torch.ones(1, 3)).square().sum().backward()
            watch.log(loss=1.0)
            optimizer.step()
            clock.now += 0.1
            with Reader(tmp_path / "run") as reader:
                kept.append(i - 1 - (reader.last_step if reader.last_step is not None else -1))
    assert max(kept) <= 4 and 1 in kept  # 0.25 s are three of these steps, and the last one is open


class TestRefusedLogs:
    @pytest.mark.parametrize(
        ("given", "match"),
        [
            ({"output_spread": 1.0}, r"`watch.log\(output_spread=...\)` uses a name of pitprop's own"),
            ({"gradient_norm": 1.0}, "my_gradient_norm"),
            ({"": 1.0}, "got the name ''"),
            ({"a\ud800": 1.0}, "got the name"),
            ({"line\nbreak": 1.0}, "got the name"),
            ({"outputs": {"logits": torch.ones(2, 2)}}, r"got a dict(.|\n)*outputs=out.logits"),
            ({"outputs": torch.ones(2, 2), "targets": [1, 2]}, r"`watch.log\(targets=...\)` got a list"),
            ({"accuracy": "high"}, r"`watch.log\(accuracy=...\)` got a str"),
        ],
    )
    def test_nothing_of_a_refused_call_is_recorded_and_the_step_is_not_lost(self, given, match, tmp_path):
        model, optimizer = make()
        with pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
            for i in range(3):
                model(torch.ones(1, 3)).square().sum().backward()
                optimizer.step()
                if i == 1:
                    with pytest.raises(PitpropError, match=match):
                        watch.log(loss=7.0, **given)
                else:
                    watch.log(loss=1.0)
        assert series(tmp_path / "run", "loss") == {0: 1.0, 2: 1.0}
        assert list(series(tmp_path / "run", "gradient_norm", "0")) == [0, 1, 2]
        assert not [f for f in watch.findings if f.rule == "pitprop-internal"]

    def test_every_reserved_name_is_one_that_a_watch_writes(self, tmp_path):
        from pitprop.watch._names import RESERVED

        torch.manual_seed(0)
        model = Everything()
        optimizer = torch.optim.AdamW(model.parameters())
        scaler = types.SimpleNamespace(get_scale=lambda: 1.0)
        with pitprop.watch(
            model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True, scaler=scaler
        ) as watch:
            for _ in range(2):
                out = model(torch.zeros(2, 8, dtype=torch.long))
                out.square().sum().backward()
                optimizer.step()
                watch.log(loss=1.0, **every_array(), outputs=out, targets=torch.randn_like(out))
        with Reader(tmp_path / "run") as reader:
            assert set(reader.indicators()) - {"loss", "adapter_ratio"} == RESERVED
