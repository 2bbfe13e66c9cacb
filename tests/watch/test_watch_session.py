"""What the loop logs, what is said, and what is refused."""

import math
import os

import numpy as np
import pytest
import torch
from torch import nn
from watch_models import Language, batch, loss_of, train

import pitprop.watch
from pitprop._errors import PitpropError
from pitprop.records import Finding
from pitprop.rules import by_name, detect
from pitprop.trace import Reader


def make(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), 0.01)


def watching(model, optimizer, folder, **kwargs):
    return pitprop.watch(model, optimizer, **{"run": folder, "every": 4, "budget": None, "quiet": True, **kwargs})


def series(folder, indicator, site="<run>"):
    with Reader(folder) as reader:
        steps, values = reader.series(indicator, site)
        return dict(zip(steps.tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize("when", ["before backward", "before step", "after step"])
@pytest.mark.parametrize("every", [1, 4])
def test_every_loss_is_kept_at_its_step(when, every, tmp_path):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run", every=every) as watch:
        for number in range(150):
            loss = model(torch.ones(1, 3)).square().sum()
            values = {"loss": loss.detach() * 0 + number, "rate": number / 2}
            if when == "before backward":
                watch.log(**values)
            loss.backward()
            if when == "before step":
                watch.log(**values)
            optimizer.step()
            if when == "after step":
                watch.log(**values)
    assert series(tmp_path / "run", "loss") == {n: n for n in range(150)}
    assert series(tmp_path / "run", "rate") == {n: n / 2 for n in range(150)}


@pytest.mark.parametrize("after", [False, True])
def test_outputs_are_used_on_measured_steps_and_sampling_says_which(after, tmp_path):
    model, optimizer = make()
    asked = []
    with watching(model, optimizer, tmp_path / "run") as watch:
        for number in range(9):
            out = model(torch.ones(4, 3) * (number + 1))  # the same for all inputs: collapsed
            out.square().sum().backward()
            if after:
                optimizer.step()
            if watch.sampling:
                asked.append(number)
                watch.log(outputs=out, targets=torch.arange(8.0).view(4, 2))
            if not after:
                optimizer.step()
    assert asked == [0, 4, 8]
    assert series(tmp_path / "run", "output_uniqueness") == {0: 0.25, 4: 0.25, 8: 0.25}
    assert series(tmp_path / "run", "output_spread") == pytest.approx({0: 0, 4: 0, 8: 0}, abs=1e-4)


def test_class_indices_give_no_spread(tmp_path):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run") as watch:
        out = model(torch.randn(4, 3))
        out.sum().backward()
        watch.log(outputs=out, targets=torch.tensor([0, 1, 0, 1]))
        optimizer.step()
    with Reader(tmp_path / "run") as reader:
        assert "output_uniqueness" in reader.indicators() and "output_spread" not in reader.indicators()


def test_a_nan_loss_is_kept_found_and_printed_once(tmp_path, capsys):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run", every=1, quiet=False) as watch:
        for number in range(5):
            model(torch.ones(1, 3)).sum().backward()
            watch.log(loss=math.nan if number else 1.0)
            optimizer.step()
    found = [f for f in watch.findings if f.rule == "non-finite" and f.site == "<run>"]
    assert len(found) == 1 and found[0].onset == 1
    said = capsys.readouterr().err
    assert said.count("failure: non-finite") == 1 and 'allow=["non-finite"]' in said
    assert "watched 5 steps, measured 5" in said


def test_allowed_findings_are_not_reported(tmp_path):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run", every=1, allow=["non-finite"]) as watch:
        model(torch.ones(1, 3)).sum().backward()
        watch.log(loss=math.nan)
        optimizer.step()
    assert watch.findings == []


def test_quiet_says_nothing(tmp_path, capsys):
    model, optimizer = make()
    with watching(model, optimizer, tmp_path / "run") as watch:
        train(Language(), optimizer, 0)
        model(torch.ones(1, 3)).sum().backward()
        watch.log(loss=math.nan)
        optimizer.step()
    captured = capsys.readouterr()
    assert captured.out == captured.err == "" and watch.findings


def test_what_an_interrupted_step_logged_is_kept(tmp_path):
    model, optimizer = make()
    with pytest.raises(KeyboardInterrupt), watching(model, optimizer, tmp_path / "run") as watch:
        for number in range(7):
            model(torch.ones(1, 3)).sum().backward()
            watch.log(loss=float(number))
            if number == 6:
                raise KeyboardInterrupt
            optimizer.step()
    assert series(tmp_path / "run", "loss") == {n: n for n in range(7)}


def test_resume_goes_on_after_the_last_step(tmp_path):
    def go(steps, exist):
        model, optimizer = make()
        with watching(model, optimizer, tmp_path / "run", exist=exist) as watch:
            for _ in range(steps):
                model(torch.ones(1, 3)).sum().backward()
                watch.log(loss=1.0)
                optimizer.step()
        return watch

    go(6, "refuse")
    with pytest.raises(PitpropError, match="holds a trace already"):
        go(1, "refuse")
    assert go(3, "resume").step == 9
    assert list(series(tmp_path / "run", "loss")) == list(range(9))
    go(2, "replace")
    assert list(series(tmp_path / "run", "loss")) == [0, 1]


def test_our_own_error_is_reported_once_and_costs_no_training(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("a bug of ours")

    monkeypatch.setattr("pitprop.watch.torch.token_cosine", broken)
    monkeypatch.setattr("pitprop.watch.dispatch.branch_ratio", broken)
    monkeypatch.setattr("pitprop.watch.attention.attention_entropy", broken)
    torch.manual_seed(0)
    model = Language()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run", every=1) as watch:
        train(model, optimizer, 3, watch=watch)
    own = [f for f in watch.findings if f.rule == "pitprop-internal"]
    assert sorted(f.site for f in own) == ["branch_ratio", "dispatch", "stream"]
    assert all("a bug of ours" in f.message and "Training is not affected" in f.message for f in own)
    assert len(series(tmp_path / "run", "gradient_norm", "head")) == 3
    with Reader(tmp_path / "run") as reader:
        assert any("a bug of ours" in note for note in reader.meta("coverage")["notes"])


def test_a_rule_that_raises_costs_no_training_and_is_said_once(tmp_path):
    class Broken(type(by_name("non-finite"))):
        name = "broken"

        def update(self, state, row):
            raise ZeroDivisionError("a bug of ours")

    def losses(folder, rules):
        torch.manual_seed(0)
        model = Language()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with watching(model, optimizer, folder, every=1, rules=rules) as watch:
            return train(model, optimizer, 4, watch=watch), watch.findings

    quiet, none = losses(tmp_path / "without", ())
    broken, live = losses(tmp_path / "with", (Broken(),))
    assert broken == quiet and none == []
    assert live and {f.rule for f in live} == {"pitprop-internal"} and len({f.site for f in live}) == len(live)
    assert "rule broken raised ZeroDivisionError: a bug of ours" in live[0].message
    with Reader(tmp_path / "with") as trace:
        assert detect(trace.rows(), (Broken(),)) == live  # replayed: the same


def test_an_optimizer_that_never_steps_is_said(tmp_path):
    model, optimizer = make()
    with (
        pytest.warns(RuntimeWarning, match="recorded nothing.*No optimizer step was seen"),
        watching(model, optimizer, tmp_path / "run"),
    ):
        model(torch.ones(1, 3)).sum().backward()


def test_a_forward_that_is_never_seen_is_said(tmp_path):
    model, optimizer = make()
    twin = nn.Linear(3, 2)
    with watching(model, optimizer, tmp_path / "run") as watch:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        twin(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        watch.log(loss=1.0)
    with Reader(tmp_path / "run") as reader:
        assert any("No forward pass" in note for note in reader.meta("coverage")["notes"])
        assert reader.meta("schedule")["num_sampled"] == 1


def test_taps(tmp_path):
    model, optimizer = make()
    x = torch.randn(2, 5, 3)
    with watching(model, optimizer, tmp_path / "run") as watch:
        assert watch.tap("mine", x) is x
        model(x).sum().backward()
        optimizer.step()
        with pytest.raises(PitpropError, match="tap 'flat' got a tensor of shape"):
            watch._begin_step(4)
            watch.tap("flat", x[0, 0])
    assert watch.tap("mine", x) is x
    assert set(series(tmp_path / "run", "token_cosine", "mine")) == {0}


def test_the_run_folder_is_made_up_where_absent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, optimizer = make()
    with watching(model, optimizer, None) as watch:
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert watch.folder.parts[0] == "runs" and (watch.folder / "trace.sqlite").exists()


class TestRefusals:
    def test_a_model_without_parameters(self, tmp_path):
        with pytest.raises(PitpropError, match=r"the model \(Tanh\) has no parameters(.|\n)*ModuleList"):
            pitprop.watch(nn.Tanh(), make()[1])

    def test_no_module(self):
        with pytest.raises(PitpropError, match="got a str as model"):
            pitprop.watch("model", make()[1])

    def test_a_lazy_model(self):
        model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
        with pytest.raises(PitpropError, match=r"without a shape yet: 0.weight, 0.bias(.|\n)*Run one batch"):
            pitprop.watch(model, torch.optim.SGD(model[1].parameters(), 0.1))

    def test_an_optimizer_without_parameters(self):
        model, optimizer = make()
        optimizer.param_groups.clear()
        with pytest.raises(PitpropError, match=r"the optimizer \(SGD\) has no parameters"):
            pitprop.watch(model, optimizer)

    def test_an_optimizer_of_another_model(self):
        with pytest.raises(PitpropError, match=r"shares no parameter with the model \(Linear\)"):
            pitprop.watch(make()[0], make()[1])

    def test_something_that_is_no_optimizer(self):
        with pytest.raises(PitpropError, match="got a float as optimizer"):
            pitprop.watch(make()[0], 0.1)

    def test_no_optimizer(self):
        with pytest.raises(PitpropError, match="got no optimizer"):
            pitprop.watch(make()[0], [])

    def test_an_unwritable_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        model, optimizer = make()
        with (
            pytest.raises(PitpropError, match="cannot make the run folder"),
            watching(model, optimizer, tmp_path / "file" / "run"),
        ):
            pass
        assert not optimizer._optimizer_step_pre_hooks

    def test_used_twice(self, tmp_path):
        model, optimizer = make()
        watch = watching(model, optimizer, tmp_path / "run")
        with pytest.warns(RuntimeWarning), watch:
            pass
        with pytest.raises(PitpropError, match="used already"), watch:
            pass

    def test_one_model_watched_twice_at_once(self, tmp_path):
        model, optimizer = make()
        with pytest.warns(RuntimeWarning), watching(model, optimizer, tmp_path / "a"):
            with pytest.raises(PitpropError, match="being watched already"), watching(model, optimizer, tmp_path / "b"):
                pass
        assert not optimizer._optimizer_step_pre_hooks

    def test_log_outside_the_block(self, tmp_path):
        watch = watching(*make(), tmp_path / "run")
        with pytest.raises(PitpropError, match=r"`watch.log` was called outside"):
            watch.log(loss=1.0)
        assert not watch.sampling

    @pytest.mark.parametrize("value", [torch.ones(3), "high", [1.0, 2.0], np.ones(2)])
    def test_a_logged_value_that_is_no_number(self, value, tmp_path):
        model, optimizer = make()
        with (
            pytest.raises(PitpropError, match=r"`watch.log\(accuracy=...\)` got a"),
            watching(model, optimizer, tmp_path / "run") as watch,
        ):
            watch.log(accuracy=value)

    def test_an_unknown_name_to_allow(self, tmp_path):
        with pytest.raises(PitpropError, match="non-finit"):
            watching(*make(), tmp_path / "run", allow=["non-finit"])


def test_a_full_disk_costs_no_training(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pitprop.trace.Writer.append", full)
    model, optimizer = make()
    with pytest.warns(RuntimeWarning, match="recorded nothing"), watching(model, optimizer, tmp_path / "run") as watch:
        for _ in range(6):
            model(torch.ones(1, 3)).sum().backward()
            watch.log(loss=1.0)
            optimizer.step()
    assert all(isinstance(f, Finding) and f.rule == "pitprop-internal" for f in watch.findings) and watch.findings
    assert watch.step == 6


def test_compiled_in_place_says_why_nothing_is_seen(tmp_path):
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = Language(layers=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.compile(backend="eager")
    with watching(model, optimizer, tmp_path / "run") as watch:
        for _ in range(2):
            loss_of(model, batch()).backward()
            optimizer.step()
    with Reader(tmp_path / "run") as reader:
        assert any("torch.compile(model)" in note for note in reader.meta("coverage")["notes"])
        assert "gradient_norm" in reader.indicators()
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"]
