"""What a loop does with its model while it is watched: copies, averages, saves."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from watch_models import Language, batch, loss_of, train

import pitprop.watch


def through_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


def through_save(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "AveragedModel": lambda model: torch.optim.swa_utils.AveragedModel(model).module,
    "pickle": through_pickle,
    "torch.save": through_save,
}


def made(seed=0):
    torch.manual_seed(seed)
    model = Language(layers=1)
    return model, torch.optim.AdamW(model.parameters(), 1e-3)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("measured", [True, False])
def test_a_model_can_be_copied_and_the_copy_is_not_watched(name, measured, tmp_path):
    model, optimizer = made()
    ids = batch()
    every = 1 if measured else 100
    with pitprop.watch(model, optimizer, run=tmp_path / "run", every=every, budget=None, quiet=True) as watch:
        train(model, optimizer, 2, watch=watch)
        assert bool(model.head._forward_hooks) is measured
        twin = COPIES[name](model)
        forwards = watch._edge.num_forwards
        loss_of(twin, ids).backward()
        assert watch._edge.num_forwards == forwards and watch.step == 2  # nothing of the twin was seen
        assert torch.equal(twin(ids), model(ids))
        twin.train()
        train(model, optimizer, 2, watch=watch)
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"]
    with pitprop.trace.Reader(tmp_path / "run") as reader:
        assert reader.series("loss", "<run>")[0].tolist() == [0, 1, 2, 3]


def test_a_copy_of_a_watched_model_can_be_watched_and_compiled(tmp_path):
    model, optimizer = made()
    ids = batch()
    with (
        pytest.warns(RuntimeWarning, match="recorded nothing"),
        pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True),
    ):
        twin = copy.deepcopy(model)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(twin, backend="eager", fullgraph=True)(ids), model(ids))
    with pitprop.watch(
        twin, torch.optim.SGD(twin.parameters(), 0.1), run=tmp_path / "twin", every=1, budget=None, quiet=True
    ) as watch:
        train(twin, watch._edge.optimizers[0], 1)
    assert watch._edge.num_forwards == 1


@pytest.mark.parametrize("measured", [True, False])
def test_an_optimizer_can_be_copied_and_its_copy_is_not_watched(measured, tmp_path):
    model, optimizer = made()
    with pitprop.watch(
        model, optimizer, run=tmp_path / "run", every=1 if measured else 100, budget=None, quiet=True
    ) as watch:
        train(model, optimizer, 2)
        for twin in (copy.deepcopy(optimizer), through_pickle(optimizer), through_save(optimizer)):
            assert not getattr(twin, "_optimizer_step_pre_hooks", {})
            twin.step()
        both_model, both = copy.deepcopy((model, optimizer))
        train(both_model, both, 1)
        assert watch.step == 2


def test_a_saved_model_loads_without_pitprop(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with (
        pytest.warns(RuntimeWarning, match="recorded nothing"),
        pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True),
    ):
        torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; sys.modules['pitprop'] = None\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        "assert model(torch.ones(1, 3)).shape == (1, 2)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
