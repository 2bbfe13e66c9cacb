"""Checkpoints are read without executing them, and every way in which one does not fit is explained."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pitprop import PitpropError
from pitprop.trials.checkpoint import read_checkpoint
from pitprop.trials.interventions.load_state import refuse_misfit, start_from


class Training:
    def __init__(self, width=3, optimizers=1):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))
        self.optimizers = [torch.optim.Adam(self.model.parameters(), 0.1) for _ in range(optimizers)]

    def step(self):
        self.model(torch.ones(4, 2)).sum().backward()
        for optimizer in self.optimizers:
            optimizer.step()


def trained():
    training = Training()
    training.step()
    return training


FORMS = {
    "safetensors with optimizer": lambda t, path: (
        save_file(t.model.state_dict(), path / "w.safetensors"),
        torch.save(t.optimizers[0].state_dict(), path / "optimizer.pt"),
        path / "w.safetensors",
    ),
    "safetensors": lambda t, path: (save_file(t.model.state_dict(), path / "w.safetensors"), path / "w.safetensors"),
    "state dict": lambda t, path: (torch.save(t.model.state_dict(), path / "w.pt"), path / "w.pt"),
    "dictionary": lambda t, path: (
        torch.save(
            {"epoch": 3, "state_dict": t.model.state_dict(), "optimizer": t.optimizers[0].state_dict()}, path / "w.ckpt"
        ),
        path / "w.ckpt",
    ),
    "folder": lambda t, path: (save_file(t.model.state_dict(), path / "model.safetensors"), path),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_and_optimizer_come_back(form, tmp_path):
    one = trained()
    *_, path = FORMS[form](one, tmp_path)
    other = Training()
    applied = start_from(path).apply(other)
    applied.check("load")
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))
    assert bool(other.optimizers[0].state) == (form in ("safetensors with optimizer", "dictionary"))
    for training in (one, other) if other.optimizers[0].state else ():
        training.model.zero_grad()
        training.step()
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("executed",)


def test_a_file_that_would_execute_code_is_refused_and_executes_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": trained().model.state_dict(), "more": Evil()}, "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("evil.pt", "bare.pt"):
        with pytest.raises(PitpropError) as error:
            read_checkpoint(tmp_path / name)
        assert "never" in error.value.means or "cannot be read" in error.value.seen
    assert not (tmp_path / "executed").exists()


def test_a_whole_pickled_model_says_what_to_do(tmp_path):
    torch.save(trained().model, tmp_path / "model.pt")
    with pytest.raises(PitpropError, match="more than tensors and plain values") as error:
        read_checkpoint(tmp_path / "model.pt")
    assert "Sequential" in error.value.seen and "save_file" in error.value.do


def test_an_optimizer_file_is_read_as_strictly(tmp_path):
    save_file(trained().model.state_dict(), tmp_path / "model.safetensors")
    torch.save(Evil(), tmp_path / "optimizer.pt")
    with pytest.raises(PitpropError, match="more than tensors"):
        read_checkpoint(tmp_path)


BROKEN = {
    "nothing there": (lambda path: None, "There is no checkpoint"),
    "cut short": (lambda path: path.write_bytes(b"PK\x03\x04 torn"), "cannot be read"),
    "a number": (lambda path: torch.save(3, path), "holds a int"),
    "no weights": (lambda path: torch.save({"epoch": 3, "lr": 0.1}, path), "`epoch`, `lr`"),
    "empty": (lambda path: torch.save({}, path), "holds nothing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_checkpoint_is_explained(name, tmp_path):
    write, message = BROKEN[name]
    write(tmp_path / "w.pt")
    with pytest.raises(PitpropError, match=message):
        read_checkpoint(tmp_path / "w.pt")


def test_torn_safetensors(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(PitpropError, match="cannot be read"):
        read_checkpoint(tmp_path / "w.safetensors")


def test_a_misfit_names_the_first_tensors():
    expected = Training(width=5).model.state_dict() | {"extra": torch.ones(1)}
    found = Training(width=3).model.state_dict() | {"other": torch.ones(2, 2)}
    with pytest.raises(PitpropError) as error:
        refuse_misfit(expected, found, "w.pt")
    seen = error.value.seen
    assert "`extra` is missing" in seen and "`other` is 2 x 2, the model has none" in seen
    assert "`0.weight` is 3 x 2, the model's is 5 x 2 and 2 more" in seen
    assert "--knob" in error.value.do
    refuse_misfit(expected, expected, "w.pt")


def test_optimizers_that_do_not_fit(tmp_path):
    *_, path = FORMS["safetensors with optimizer"](trained(), tmp_path)
    with pytest.raises(PitpropError, match="the state of 1 optimizers, the training has 2"):
        start_from(path).apply(Training(optimizers=2))
    groups = Training()
    groups.optimizers = [torch.optim.Adam([{"params": [p]} for p in groups.model.parameters()], 0.1)]
    with pytest.raises(PitpropError, match="does not take the state"):
        start_from(path).apply(groups)


def test_the_digest_is_that_of_the_content(tmp_path):
    *_, path = FORMS["safetensors with optimizer"](trained(), tmp_path)
    before = start_from(path)
    assert before == start_from(path)
    torch.save(Training().optimizers[0].state_dict(), tmp_path / "optimizer.pt")
    assert start_from(path).digest != before.digest
