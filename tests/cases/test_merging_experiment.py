"""The seed's experiment in miniature: its files, its arms, its monitor."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from pitprop.cases.model_merging import arms
from pitprop.cases.model_merging import run as run_module
from pitprop.cases.model_merging.experiment import MOSTLY, RESULTS, Settings, run_experiment
from pitprop.cases.model_merging.monitor import AttentionEntropyMonitor, correct_reading, seed_reading
from pitprop.cases.model_merging.options import Options
from pitprop.cases.model_merging.pictures import FILES
from pitprop.cases.model_merging.recipe import Knobs, Merging
from pitprop.cases.model_merging.run import run
from pitprop.remedies.torch.unit_rms import UnitRMS

TINY = Knobs(d_model=16, num_heads=2, batch_size=4)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    seen = []
    results = run_experiment(folder, Settings(seeds=(0,), steps=2, recovery_steps=1, every=2, knobs=TINY), seen.append)
    return folder, results, seen


@pytest.mark.slow
def test_it_writes_what_the_seed_names(small):
    folder, _, _ = small
    assert {path.name for path in folder.iterdir()} == {RESULTS, *FILES, "collapsed_seed0.safetensors"}
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in FILES)


def test_the_results_are_strict_json_with_every_arm(small):
    folder, _, _ = small
    read = json.loads((folder / RESULTS).read_text(), parse_constant=lambda word: pytest.fail(word))
    assert list(read["arms"]) == [*arms.SEED_ARMS, *arms.RECOVERIES]
    baseline = read["arms"]["ungated"]["0"]
    assert [row["step"] for row in baseline["history"]] == [0, 1, 2] and len(baseline["gradient_norm"]) == 2
    assert [row["step"] for row in read["arms"]["pooled gate"]["0"]["history"]] == [0, 2]
    recovered = read["arms"]["recover: ungated"]["0"]
    assert [row["step"] for row in recovered["history"]] == [2, 3]
    assert set(read["references"]) == {"constant mean", "parents' average", "CNN of the union"}
    assert all(c["verdict"] == "inconclusive" for c in read["comparisons"])  # one seed settles nothing


def test_the_checkpoint_is_the_baselines_end_and_the_recovery_starts_there(small):
    folder, results, _ = small
    model = Merging(5, TINY).model
    model.load_state_dict(load_file(folder / "collapsed_seed0.safetensors"))
    end = results["arms"]["ungated"]["0"]["history"][-1]
    start = results["arms"]["recover: ungated"]["0"]["history"][0]
    for metric in ("output_spread", "merged_accuracy", "mse"):
        assert start[metric] == end[metric]


def test_the_last_good_state_is_looked_for_at_every_step(small):
    _, results, _ = small
    baseline = results["arms"]["ungated"]["0"]
    good = [row["step"] for row in baseline["history"] if row["output_uniqueness"] > MOSTLY]
    assert baseline["last_good_step"] == (good[-1] if good else 0)
    rolled, there = results["arms"]["recover: rolled back"]["0"]["history"][0], baseline["last_good_step"]
    assert rolled["output_spread"] == baseline["history"][there]["output_spread"]


def test_progress_counts_every_run(small):
    _, _, seen = small
    total = len(arms.SEED_ARMS) + len(arms.RECOVERIES)
    assert seen[0].done == 0 and seen[-1].done == total == seen[-1].total
    assert seen[0].stage == "ungated, seed 0"


@pytest.mark.slow
def test_running_it_gives_rows_and_files_that_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "Settings", partial(Settings, knobs=TINY))
    result = run(tmp_path / "new", Options(seeds=1, steps=1))
    assert all(path.is_file() for path in result.files)
    assert {title for title, _ in result.rows} >= {"ungated", "recover: unit-rms", "reference: constant mean"}


def test_each_recovery_changes_what_it_says_and_nothing_else():
    collapsed = Merging(0, TINY).model.state_dict()
    good = Merging(1, TINY).model.state_dict()

    def changed(name: str) -> set[str]:
        model = arms.RECOVERIES[name](7, TINY, collapsed, good).model
        return {
            key
            for key, value in model.state_dict().items()
            if key not in collapsed or not torch.equal(value, collapsed[key])
        }

    assert changed("recover: ungated") == set()
    assert changed("recover: neck re-initialised") == {"neck.linear.weight", "neck.linear.bias"}
    assert changed("recover: unit-rms") == set()
    assert all(".gate." in key for key in changed("recover: pooled gate")) and changed("recover: pooled gate")
    assert all(".gate." in key for key in changed("recover: elementwise gate")) and changed("recover: elementwise gate")
    rolled = arms.RECOVERIES["recover: rolled back"](7, TINY, collapsed, good).model.state_dict()
    assert all(torch.equal(rolled[key], good[key]) for key in good)
    assert isinstance(arms.RECOVERIES["recover: unit-rms"](7, TINY, collapsed, good).model.neck.squash, UnitRMS)


def test_the_seeds_thresholds_call_uniform_healthy_and_the_correct_ones_do_not():
    monitor = AttentionEntropyMonitor()
    uniform, one_hot = torch.full((1, 50, 50), 0.02), torch.eye(50)[None]
    readings = [
        monitor.update(step, monitor.compute_entropy(weights)) for step, weights in enumerate((uniform, one_hot))
    ]
    assert [r.entropy for r in readings] == pytest.approx([1.0, 0.0], abs=1e-6)
    assert [r.seed for r in readings] == ["healthy", "critical"]
    assert [r.correct for r in readings] == ["uniform", "one-hot"]
    assert len(monitor.readings) == 2
    assert (seed_reading(0.3), correct_reading(0.87)) == ("warning", "selective")
