"""What a user does with a rescued checkpoint: load it with torch and safetensors, and go on in a loop of their own.

Then the checkpoints that a user may come with: of other writers, and of none that is read without executing it.
"""

import json
from itertools import islice
from pathlib import Path

import pytest
import recipes_user
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import pitprop.watch
from pitprop import PitpropError
from pitprop.trials import rescue
from pitprop.trials.interventions.load_state import start_from


def bytes_and_times(folder):
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in sorted(Path(folder).rglob("*")) if f.is_file()}


@pytest.fixture(scope="module")
def saved(pool, reference, tmp_path_factory):
    run = tmp_path_factory.mktemp("user") / "run"
    training = recipes_user.Training(recipes_user.STRUCK_SEED, recipes_user.Knobs())
    with pitprop.watch(
        training.model, training.optimizer, run=run, every=1, budget=None, quiet=True, snapshots=1
    ) as watch:
        for batch in islice(training.batches(0), 120):
            watch.log(**training.step(batch))
    before = bytes_and_times(run)
    result = rescue(
        run, reference("recipes_user", "recipe"), seeds=3, screen_seeds=2, folder=run.parent / "out", executor=pool
    )
    assert bytes_and_times(run) == before, "the original was touched"
    assert result.checkpoint is not None, result.conclusion.statement
    return result


@pytest.mark.slow
def test_a_loop_of_the_users_own_goes_on_from_it(saved):
    files, record = saved.checkpoint, json.loads((saved.checkpoint / "rescue.json").read_text())
    model = recipes_user.Net()
    weights = load_file(files / "model.safetensors")
    model.load_state_dict(weights)
    assert model.second.weight is model.first.weight and torch.equal(weights["first.weight"], weights["second.weight"])
    assert weights["coarse.weight"].dtype == torch.bfloat16 and weights["mix"].is_contiguous()
    assert int(model.seen) > recipes_user.recipe.steps // 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    optimizer.load_state_dict(torch.load(files / "optimizer.pt", weights_only=True))
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [50, 90], 0.5)
    scaler = torch.amp.GradScaler("cpu")
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    others = torch.load(files / "training.pt", weights_only=True)
    scheduler.load_state_dict(others["scheduler"])
    scaler.load_state_dict(others["scaler"])
    ema.load_state_dict(others["ema"])
    assert scheduler.last_epoch == record["steps"] and int(ema.n_averaged) == record["steps"]
    assert scaler.get_scale() == 8.0

    probe = recipes_user.Training(0, recipes_user.Knobs())
    probe.model = model
    assert float(probe.evaluate()["spread"]) == record["metric"]["spread"] > 0.1
    before = [p.detach().clone() for p in model.parameters()]
    losses = []
    for _, x, y in islice(probe.batches(500), 20):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        ema.update_parameters(model)
        losses.append(float(loss.detach()))
    assert all(loss < 20 for loss in losses)
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert probe.evaluate()["spread"] > 0.1


@pytest.mark.slow
def test_what_no_checkpoint_held_is_said_to_have_started_anew(saved):
    record = json.loads((saved.checkpoint / "rescue.json").read_text())
    assert record["others"] == record["started_anew"] == ["scheduler", "scaler", "ema"]
    readme = (saved.checkpoint / "README.txt").read_text()
    assert "started anew: scheduler, scaler, ema" in readme
    assert "scheduler.load_state_dict(others['scheduler'])" in readme


def trained(steps=6):
    training = recipes_user.Training(1, recipes_user.Knobs())
    for batch in islice(training.batches(0), steps):
        training.step(batch)
    return training


def lightning(t, path):
    content = {
        "epoch": 3,
        "global_step": 6,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": value for name, value in t.model.state_dict().items()},
        "optimizer_states": [t.optimizer.state_dict()],
        "lr_schedulers": [t.scheduler.state_dict()],
        "hyper_parameters": {"width": 8},
    }
    torch.save(content, path / "last.ckpt")
    return path / "last.ckpt"


def dictionary(t, path):
    names = ("model", "optimizer", "scheduler", "scaler", "ema")
    torch.save({name: getattr(t, name).state_dict() for name in names} | {"step": 6}, path / "c.pt")
    return path / "c.pt"


def distributed(t, path):
    states = {f"module._orig_mod.{name}": value for name, value in t.model.state_dict().items()}
    torch.save({"state_dict": states}, path / "c.pth")
    return path / "c.pth"


def hugging_face(t, path):
    save_file(
        {n: v.contiguous() for n, v in t.model.state_dict().items() if n != "second.weight"}, path / "model.safetensors"
    )
    torch.save(t.optimizer.state_dict(), path / "optimizer.pt")
    (path / "config.json").write_text("{}")
    return path


def sharded(t, path):
    weights = {n: v.contiguous() for n, v in t.model.state_dict().items() if n != "second.weight"}
    names = list(weights)
    files = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return path


def binary(t, path):
    torch.save(t.model.state_dict(), path / "pytorch_model.bin")
    return path


FORMS = {f.__name__: f for f in (lightning, dictionary, distributed, hugging_face, sharded, binary)}


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_of_other_writers_are_read(form, tmp_path):
    one, other = trained(), recipes_user.Training(2, recipes_user.Knobs())
    path = FORMS[form](one, tmp_path)
    before = bytes_and_times(tmp_path)
    start_from(path).apply(other)
    assert bytes_and_times(tmp_path) == before
    state = other.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.model.state_dict().items())
    assert other.model.second.weight is other.model.first.weight
    assert bool(other.optimizer.state) == (form in ("lightning", "dictionary", "hugging_face"))
    if form == "dictionary":  # under the names of the training's attributes; then it is the same training
        assert other.scheduler.last_epoch == 6 and int(other.ema.n_averaged) == 6
        for training in (one, other):
            for batch in islice(one.batches(6), 3):
                training.step(batch)
        assert torch.equal(one.ema.module.mix, other.ema.module.mix)


def test_a_missing_shard_is_named(tmp_path):
    path = sharded(trained(), tmp_path)
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(PitpropError, match="model-00002-of-00002"):
        start_from(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_an_index_that_is_none_is_explained(text, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(PitpropError, match="cannot be read as a checkpoint"):
        start_from(tmp_path)


def test_hyper_parameters_that_are_objects_are_refused_and_not_unpickled(tmp_path):
    path = lightning(trained(), tmp_path)
    content = torch.load(path, weights_only=True)
    torch.save(content | {"hyper_parameters": recipes_user.Knobs()}, path)
    with pytest.raises(PitpropError, match=r"recipes_user\.Knobs") as error:
        start_from(path).apply(trained(0))
    assert "execute code" in error.value.means and "save_file" in error.value.do
