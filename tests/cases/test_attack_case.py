"""The case in miniature: files, rows, pairs; replays; and what the command line refuses."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pitprop._errors import PitpropError
from pitprop.cases.timestep_attack import classifiers, experiment, long_run
from pitprop.cases.timestep_attack.measurements import gradients_at_a_small_weight, initial_mismatch
from pitprop.cases.timestep_attack.options import Options
from pitprop.cases.timestep_attack.pictures import FILES
from pitprop.cases.timestep_attack.replay import replay
from pitprop.cases.timestep_attack.replays import SEED_SHARES
from pitprop.cases.timestep_attack.run import RESULTS, plan_of, run
from pitprop.cases.timestep_attack.settings import LAPTOP
from pitprop.cases.timestep_attack.weights import INITIAL, PILOT


class Inline:
    """Stands for the second process."""

    def __init__(self, *_args, **_kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, function, *args):
        class Done:
            def result(self):
                return function(*args)

        return Done()


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(classifiers, "STEPS", 30)
    monkeypatch.setattr(experiment, "ProcessPoolExecutor", Inline)
    plan = experiment.Plan
    settings = LAPTOP.__class__(iterations=2, null_iterations=1, null_growth=0, latent_lr=0.05, beta=100.0)
    monkeypatch.setattr(
        "pitprop.cases.timestep_attack.run.Plan",
        lambda **kwargs: plan(**kwargs, attack=settings, denoiser_steps=2),
    )


@pytest.mark.slow
@pytest.mark.parametrize("source", ["digits", "photographs"])
def test_one_mode_beside_the_fixed_schedule_with_its_files(small, tmp_path, source):
    threads, seen = torch.get_num_threads(), []
    result = run(tmp_path, Options(images=2, mode="kl", source=source), progress=seen.append)
    assert torch.get_num_threads() == threads and seen[-1].done == 2
    assert [name for name, _ in result.rows] == ["fixed", "kl", "vertex predicted beforehand"]
    assert {path.name for path in result.files} == {RESULTS, *FILES}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in FILES)
    read = json.loads((tmp_path / RESULTS).read_text(), parse_constant=lambda word: pytest.fail(word))
    assert len(read["streams"]["kl"]["weights"]) == 3 and len(read["streams"]["kl"]["success"]) == 2
    assert {c["arm"] for c in read["comparisons"]} == {"kl"} and read["comparisons"][0]["pairs"] == 2
    assert read["streams"]["kl"]["weights"][2] != read["streams"]["kl"]["weights"][0]
    assert read["streams"]["fixed"]["weights"][2] == read["streams"]["fixed"]["weights"][0]


@pytest.mark.parametrize(
    ("options", "claims", "said"),
    [
        (Options(mode="lernable"), False, "There is no mode `lernable`: did you mean `learnable`"),
        (Options(source="digit"), False, "There is no source `digit`: did you mean `digits`"),
        (Options(images=0), False, "at least one image"),
        (Options(mode="kl"), True, "can't be judged on the mode `kl` alone"),
    ],
)
def test_what_can_not_be_run_is_explained(options, claims, said):
    with pytest.raises(PitpropError, match=said):
        plan_of(options, claims=claims)


def test_the_plan_has_every_mode_and_more_networks_for_the_claims():
    names = experiment.streams_of(plan_of(Options(seeds=2)))
    assert next(iter(names)) == "fixed" and "learnable [1]" in names
    assert names["fixed (pilot schedule)"].schedule == PILOT
    assert (plan_of(Options()).seeds, plan_of(Options(), claims=True).seeds) == (1, 10)
    assert list(experiment.streams_of(plan_of(Options(mode="dro")))) == ["fixed", "dro"]


@pytest.mark.slow
def test_the_second_process_ends_when_the_first_is_told_to(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from pitprop.cases.timestep_attack.experiment import second_process\n"
        "if __name__ == '__main__':\n"
        "    with second_process() as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 600).result()\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = Path(f"/proc/{parent.stdout.readline().strip()}/stat")
        time.sleep(0.5)  # it sleeps by now; idle, it would see the closed pipe
        parent.send_signal(signal.SIGTERM)
    assert parent.returncode == -signal.SIGTERM
    patience = time.monotonic() + 30
    while worker.exists() and worker.read_text().split()[2] != "Z":
        assert time.monotonic() < patience, "the worker outlived its parent"
        time.sleep(0.1)


def test_the_seeds_own_loss_shares_pass_by_its_pilot_schedule_at_ten_images():
    (path,) = replay(np.array([SEED_SHARES]), images=10)
    assert path.shape == (10, 5)
    assert np.abs(path[-1] - PILOT).sum() / 2 < 0.02 < np.abs(path[0] - PILOT).sum() / 2


def test_under_adam_the_scale_of_the_loss_is_nothing():
    losses = np.array([SEED_SHARES]) * 1e-3
    one, hundred = (replay(losses, images=3, gamma=gamma, per_image=5) for gamma in (1.0, 100.0))
    np.testing.assert_allclose(one, hundred, atol=1e-4)
    slow, fast = (replay(losses, images=3, gamma=gamma, lr=1.0, optimizer="sgd", per_image=5) for gamma in (1.0, 100.0))
    assert np.abs(slow - INITIAL).sum() < np.abs(fast - INITIAL).sum() / 5


def test_an_adam_that_is_kept_weighs_an_images_losses_by_their_size():
    early, late = np.array([0.185, 0.178, 0.190, 0.20, 0.247]), np.array([0.185, 0.191, 0.20, 0.206, 0.218])
    growth = (np.arange(30) / 30)[:, None] ** 2
    image = 1e-3 * growth * np.where(np.arange(30)[:, None] < 20, early, late)
    anew, kept = (replay(image, images=40, seeds=(0, 1), lr=1e-3, forgets=forgets)[:, -1] for forgets in (True, False))
    assert image.mean(0).argmin() == 0
    assert (anew.argmax(-1) == 1).all() and (kept.argmax(-1) == 0).all()
    assert not np.array_equal(kept[0], kept[1])


def test_the_three_gradients_at_a_small_weight():
    found = gradients_at_a_small_weight()
    assert found["weight"] == pytest.approx([1e-4, 1e-3])
    assert found["logit"][1] == pytest.approx(1e-3 * (1e-3 - (0.999 * 1e-4 + 1e-6)), rel=1e-6)
    assert found["latent"] == pytest.approx([0.999, 0.001])


def test_a_fresh_network_is_near_its_schedule_and_not_on_it():
    found = initial_mismatch(20)
    assert 0 < found["low"] < found["median"] < found["high"] < 0.05 and math.isfinite(found["share_below"])


def test_the_long_run_is_condensed_to_what_the_claims_read(tmp_path, monkeypatch):
    def stream(mode, ends, alarm, success):
        weights = np.linspace(INITIAL, ends, 13).tolist()
        told = {"severity": "warning" if alarm else None, "alarm": alarm, "moved": None, "vertex_said": None}
        told |= {"forecast": None}
        told |= {"vertex": 0, "share": ends[0], "message": ""}
        metrics = {"success": success, "transfer": [None, *[0.5] * 11], "l2": np.linspace(1, 2, 12).tolist()}
        return {"stream": {"mode": mode}, "weights": weights, "losses": [1.0] * 5, "detection": told, **metrics}

    vertex = [1.0, 0.0, 0.0, 0.0, 0.0]
    streams = {
        "fixed": stream("fixed", INITIAL, None, [0, 1] * 6),
        "learnable": stream("learnable", vertex, 60, [0, 1] * 6),
        "learnable [1]": stream("learnable", vertex, 70, [1, 1] * 6),
    }
    ran = {"settings": {"images": 12, "seeds": 2, "source": "digits"}, "streams": streams}
    ran["references"] = {"clean accuracy": {"surrogate": 390 / 397}}
    (tmp_path / RESULTS).write_text(json.dumps(ran))
    monkeypatch.setattr(long_run, "ATTACK", replace(long_run.ATTACK, folder=tmp_path))
    stored = tmp_path / "results" / "claims.json"
    stored.parent.mkdir()
    stored.write_text("{}")
    assert long_run.main([str(tmp_path)]) == 0
    found = json.loads(stored.read_text())["long_run"]
    assert found["test_images"] == 390 and found["marks"] == [0, 10] and np.shape(found["weights"]) == (2, 2, 5)
    assert found["lead"]["num_alarms"] == 2 and found["lead"]["alarm"]["mean"] == 65
    success, transfer, _ = found["late"]
    assert (success["effect"], success["pairs"]) == (0.25, 6)  # of the last half, mean of two networks
    assert transfer["effect"] == 0
    with pytest.raises(PitpropError, match="can't be read"):
        long_run.main([str(tmp_path / "elsewhere")])
