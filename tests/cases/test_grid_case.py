"""`pitprop case grid_solver`, its full size, and what its claims are judged on."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pitprop._errors import PitpropError
from pitprop.cases._claims import load_results, plain
from pitprop.cases.grid_solver import early, paper, training_runs
from pitprop.cases.grid_solver.arms import FIRST, NEXT, arms
from pitprop.cases.grid_solver.claims import GRID
from pitprop.cases.grid_solver.judges import ACCUSED, c1
from pitprop.cases.grid_solver.measurements import COLLECTIONS, FEWER, RULES, SEEDS, alarms, run_on_arc, wanted
from pitprop.cases.grid_solver.options import Options
from pitprop.cases.grid_solver.prose import on_arc
from pitprop.cases.grid_solver.readings import ENDINGS, told
from pitprop.cases.grid_solver.recipe import Knobs, Solving
from pitprop.cases.grid_solver.run import run
from pitprop.cases.grid_solver.tasks import read_task
from pitprop.cases.grid_solver.training_runs import JUDGING, STAGINGS, run_staging
from pitprop.cli import main

SMALL = {"hidden_dim": 16, "num_solver_steps": 1, "places": 2, "size": 10}


@pytest.fixture
def folder(tmp_path):
    """Nine tasks, two of which are held out; the first is as large as a grid may be."""
    rng = np.random.default_rng(0)
    for i in range(9):
        side = 30 if i == 0 else int(rng.integers(3, 9))
        pairs = [{part: rng.integers(0, 10, (side, side)).tolist() for part in ("input", "output")} for _ in range(3)]
        (tmp_path / f"{i}.json").write_text(json.dumps({"train": pairs[:2], "test": pairs[2:]}))
    return tmp_path


def test_the_case_writes_its_numbers_and_pictures(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PITPROP_DATA", str(folder))
    found = run(tmp_path / "case", Options(config="old", steps=2, size=10))
    assert {path.name for path in found.files} == {
        "configurations.json",
        "grids_old.png",
        "accuracy.png",
        "bisection.png",
        "marginals.png",
    }
    assert all(path.stat().st_size for path in found.files)
    stored = json.loads((tmp_path / "case" / "configurations.json").read_text())["old"]["0"]
    assert [row["step"] for row in stored["history"]] == [0, 1, 2]
    assert sum(stored["history"][-1]["marginal"]) == pytest.approx(1)
    assert stored["votes"]["pass@1"] <= stored["votes"]["pass@2"] <= stored["votes"]["pass@3"]
    assert not found.diagnose and [name for name, _ in found.rows] == ["tasks", "old, seed 0"]
    assert f"{folder}: 7 tasks to train on and 1 held out, canvas 10 x 10, 2 steps" == found.rows[0][1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "`--seeds` is 0"),
        (["--steps", "-3"], "`--steps` is -3"),
        (["--steps", "0"], "`--steps` is 0"),
        (["--preset", "paper", "--size", "10"], "canvas of 30 x 30"),
        (["--preset", "paper", "--seeds", "2"], "trains one configuration once"),
        (["--claims", "--size", "10"], "judged on generated tasks of one size"),
        (["--data", "one"], "has one task"),
        (["--data", "none"], "is not a folder"),
    ],
)
def test_what_can_not_be_run_is_explained_and_writes_nothing(arguments, said, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PITPROP_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("one").mkdir()
    Path("1.json").rename("one/1.json")
    assert main(["case", "grid_solver", "--out", "out", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split()) and not Path("out").exists()


def test_a_folder_of_collections_means_the_training_tasks_of_arc(folder, tmp_path, monkeypatch):
    inside = tmp_path / "data" / COLLECTIONS["ARC-AGI-1"][0]
    inside.mkdir(parents=True)
    for path in folder.glob("*.json"):
        path.rename(inside / path.name)
    (tmp_path / "data" / "mini-arc").mkdir()
    found = run(tmp_path / "case", Options(config="old", steps=1, size=10, data=tmp_path / "data"))
    assert found.rows[0][1].startswith(f"{inside}: 7 tasks to train on and 1")


@pytest.mark.parametrize("config", paper.BATCHES)
def test_the_full_size_is_the_seeds(config):
    knobs, epoch = paper.full_size(config, "somewhere"), paper.steps_per_epoch(config)
    assert (knobs.hidden_dim, knobs.size, knobs.num_solver_steps, knobs.places) == (256, 30, 6, 8)
    assert epoch == 400_000 // (knobs.batch_size * knobs.grad_accumulation_steps)
    assert knobs.hyperlora_start == pytest.approx(5 * epoch if config == "option_a" else 0, abs=1)
    assert knobs.meta_learning_start_epoch * 30 == pytest.approx(3 * epoch, rel=0.01)


def test_the_full_size_trains_in_bf16_at_small_sizes(folder):
    tiny = replace(paper.full_size("new", str(folder)), **SMALL, batch_size=2, grad_accumulation_steps=2)
    found = paper.train(tiny, 2)
    assert found["before"] != found["after"] and found["tasks_per_s"] > 0
    assert all(np.isfinite(value) for value in found["after"].values())
    assert torch.cuda.is_available() or np.isnan(found["peak_gib"])


@pytest.mark.slow
def test_one_step_of_the_full_size(folder):
    one = replace(paper.full_size("new", str(folder)), batch_size=1, grad_accumulation_steps=1)
    found = paper.train(one, 1)
    assert found["before"] != found["after"]


def test_the_full_size_without_tasks_or_memory_is_explained(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PITPROP_DATA", raising=False)
    assert main(["case", "grid_solver", "--preset", "paper", "--out", str(tmp_path / "out")]) == 2
    assert "The preset paper needs ARC's tasks" in capsys.readouterr().err

    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Solving, "step", full)
    small = replace(paper.full_size("old", str(folder)), **SMALL, batch_size=2)
    with pytest.raises(PitpropError, match="doesn't hold 2 tasks at a time"):
        paper.train(small, 1)


def test_what_matters_most_runs_first_and_everything_runs_once():
    order = wanted()
    assert len(order) == len(set(order)) == (len(FIRST) + 1) * SEEDS + (len(arms()) - len(FIRST)) * FEWER
    assert [name for name, _ in order[: len(FIRST)]] == list(FIRST)
    assert set(FIRST) | set(NEXT) < set(arms())
    folder = Path(early.__file__).parent
    assert all((folder / name).is_file() for name in JUDGING)


def test_arms_are_compared_on_real_tasks_too(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(training_runs, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(1))
    for part, _ in COLLECTIONS.values():
        (tmp_path / "data" / part).mkdir(parents=True)
        for path in folder.glob("*.json"):
            shutil.copy(path, tmp_path / "data" / part)
    measured = run_on_arc(tmp_path / "data", names=("OLD", "+ HyperLoRA"), more=(), seeds=2, steps=1)
    assert set(measured["collections"]) == set(COLLECTIONS)
    for (_, size), found in zip(COLLECTIONS.values(), measured["collections"].values(), strict=True):
        fits = [path for path in folder.glob("*.json") if read_task(path).largest_side <= size]
        assert sum(found["num_tasks"]) == len(fits) and found["num_tasks"][1] == -(-len(fits) // 8)
        assert found["effects"]["+ HyperLoRA"]["seeds"] == (0, 1)
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 8  # none for another's
    told = on_arc(plain(measured))
    assert "**Mini-ARC**" in told and "| + HyperLoRA | 2 |" in told


def test_rules_are_judged_by_the_trained_weights_where_rows_were_kept():
    one = {"class_loss_ratio": [1.01] * 400, "class_entropy_ratio": [0.0] * 400, "loss": [1.0] * 400}
    late = {"loss": [1.0] * 100, "adapter_ratio": [20.0] * 40}
    stuck = alarms(one, *RULES)
    assert set(stuck) == {"class-collapse"} and alarms(late, *RULES) == {"adapter-runaway": 79}
    results = {
        "arms": {
            "a": {
                "alarms": [stuck, {}, None],
                "bg_accuracy": [[0.5, 0.9], [0.5, 1.0], [0.5, 0.9]],
                "fg_accuracy": [[0.1, 0.3], [0.1, 0.0], [0.1, 0.3]],
                "raw": {"bg_accuracy": [1.0, 0.9, 1.0], "fg_accuracy": [0.0, 0.04, 0.0]},
            }
        }
    }
    assert [told(results, "class-collapse", ending) for ending in ENDINGS] == [(1, 1), (0, 1), (0, 0)]


@pytest.mark.parametrize(
    "brought, innocent, word",
    [
        ([["use_hyperlora"]], ["use_solver_context", "use_cross_attention_context"], "HALF"),
        ([list(ACCUSED.values())], [], "CONFIRMED"),
        ([["bg_bias"]], list(ACCUSED.values()), "REFUTED"),
        ([["use_hyperlora"]], ["use_solver_context"], "OPEN"),
        (None, None, "OPEN"),
    ],
)
def test_what_the_effects_leave_open_the_bisection_settles(brought, innocent, word):
    results = load_results(GRID)
    for found in results["effects"].values():
        found["verdict"] = "inconclusive"
    culprits = [{"changes": names} for names in brought or []]
    found = {"runs": 1, "found": {"bringing": culprits, "exonerated": innocent}}
    judged = c1(results | {"bisection": None if brought is None else found})
    assert judged.verdict == word and ("bisection in 1 runs" in judged.evidence) == (brought is not None)


def test_branches_begin_where_the_trunk_ends():
    """At the switch a ramp is still at nothing, so it is the branch that stays off; a hard one isn't. Zero
    initialisation is near it: HyperLoRA is the identity then, the attentions' norms on the sum aren't.
    """
    found = run_staging(100, switch=2, after=(0, 1))
    assert set(found) == set(STAGINGS)
    at_switch = {name: branch["looks"][0]["held_out_loss"] for name, branch in found.items()}
    assert at_switch["ramp"] == at_switch["stays off"] != at_switch["hard"]
    assert 0 < abs(at_switch["zero"] - at_switch["stays off"]) < 0.1 * abs(at_switch["hard"] - at_switch["stays off"])
    trained = {name: branch["rows"]["num_trained"] for name, branch in found.items()}
    assert trained["hard"][1] == trained["stays off"][2] < trained["hard"][2]


def test_the_shorter_recipe_is_the_same_training():
    assert early.recipe.build is Solving and early.recipe.knobs is Knobs
    assert early.recipe.metric not in early.recipe.guards


@pytest.mark.skipif("PITPROP_DATA" not in os.environ, reason="PITPROP_DATA names no folder of real data")
@pytest.mark.parametrize("part, size", [("arc-agi-1/data/training", 10), ("mini-arc", 6)])
def test_the_case_runs_on_real_tasks(part, size, tmp_path):
    found = run(tmp_path, Options(config="old", steps=1, size=size, data=Path(os.environ["PITPROP_DATA"]) / part))
    assert len(found.rows) == 2
