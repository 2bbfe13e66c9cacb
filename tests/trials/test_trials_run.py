"""Runs of a plan: paired, written as they come, never twice, and going on when an arm breaks."""

import json
import math

import pytest

from pitprop import PitpropError
from pitprop.trials import Arm, Plan
from pitprop.trials.execute import make_folder, metric_of, run_arms, run_plan
from pitprop.trials.guards import guard
from pitprop.trials.interventions import ClipGradient, Knob, LearningRate, Scale
from pitprop.trials.judge import gain, inert, judge
from pitprop.trials.run import RunSpec, spec_source, to_json_number, train_run
from pitprop.trials.trial_file import timing


@pytest.fixture
def plan(reference):
    recipe = reference("recipes_tiny", "guilty")

    def make(*arms, **options):
        return Plan(
            **{"recipe": recipe, "source": spec_source(recipe), "seeds": (0, 1), "metric": "spread", "horizon": 20}
            | options,
            arms=tuple(Arm(f"arm {i}", (change,)) for i, change in enumerate(arms)),
        )

    return make


def test_results_are_written_and_not_run_again(pool, plan, tmp_path):
    two = plan(Knob("pool", "none"), LearningRate(0.5))
    ticks = []
    results = run_plan(two, tmp_path, executor=pool, on_run=lambda known: ticks.append(known))
    assert len(results) == 6 and ticks == [False] * 6
    assert json.loads((tmp_path / "plan.json").read_text())["hash"] == two.hash
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.json")}
    assert len(files) == 6 and all(p.suffix == ".json" for p in files)

    three = plan(Knob("pool", "none"), LearningRate(0.5), Scale("0", 0.5))
    again = run_plan(three, tmp_path, executor=pool, on_run=lambda known: ticks.append(known))
    assert ticks[6:] == [True] * 6 + [False] * 2
    assert {p: p.stat().st_mtime_ns for p in files} == files, "the six runs are as they were"
    assert len(list((tmp_path / "runs").glob("*.json"))) == 8
    assert {key: again[key] for key in results} == results

    comparison, *_ = judge(two, two.arms, two.seeds, results)
    assert comparison.control == (0.0, 0.0) and gain(comparison) > 0.1
    assert comparison.plan == two.hash and comparison.changes == "knob pool = 'none'"


def test_an_interrupted_trial_keeps_what_was_done_and_goes_on(pool, plan, tmp_path):
    def stop(known):
        if len(list((tmp_path / "runs").glob("*.json"))) == 2:
            raise KeyboardInterrupt

    many = plan(Knob("pool", "none"), LearningRate(0.5))
    with pytest.raises(KeyboardInterrupt):
        run_plan(many, tmp_path, executor=pool, on_run=stop)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.json")}
    assert len(kept) == 2
    results = run_plan(many, tmp_path, executor=pool)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert len(results) == 6 and all(record["status"] == "done" for record in results.values())


def test_a_torn_record_is_run_again(pool, plan, tmp_path):
    one = plan(seeds=(0,))
    first = run_plan(one, tmp_path, executor=pool)
    (file,) = (tmp_path / "runs").glob("*.json")
    file.write_text(file.read_text()[:50])
    assert run_plan(one, tmp_path, executor=pool).keys() == first.keys()
    assert json.loads(file.read_text())["status"] == "done"


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("raise", "RuntimeError: the arm is broken"),
        ("short", "`batches` ended at batch 3"),
        ("no metric", "returned no `spread`"),
        ("None", "`step` returned None, not a dict"),
        ("list", r"`evaluate` returned [1.0], not a dict"),
        ("word", "`evaluate` returned 'wide' as `spread`, which is no number"),
    ],
)
def test_an_arm_that_breaks_is_marked_and_the_trial_goes_on(pool, plan, tmp_path, what, error):
    broken = plan(Knob("failing", what), Knob("pool", "none"))
    results = run_plan(broken, tmp_path, executor=pool)
    assert {results["arm 0", s]["status"] for s in (0, 1)} == {"failed"}
    assert error in results["arm 0", 0]["error"]
    assert {results[arm, s]["status"] for arm in ("control", "arm 1") for s in (0, 1)} == {"done"}
    bad, good = judge(broken, broken.arms, broken.seeds, results)
    assert bad.verdict == "inconclusive" and math.isnan(bad.effect)
    assert good.effect > 0.1


def test_an_arm_that_kills_its_process_is_marked(pool, plan, tmp_path):
    deadly = plan(Knob("failing", "die"), Knob("pool", "none"), seeds=(0,))
    results = run_plan(deadly, tmp_path, executor=pool)
    assert results["arm 0", 0]["error"] == "its process died (exit code 9)"
    assert results["control", 0]["status"] == results["arm 1", 0]["status"] == "done"


def test_a_worker_that_dies_once_costs_nothing(pool, plan, tmp_path):
    once = plan(Knob("failing", f"die once {tmp_path / 'died'}"), seeds=(0,))
    results = run_plan(once, tmp_path, executor=pool)
    assert results["arm 0", 0]["status"] == "done" and (tmp_path / "died").exists()
    assert results["arm 0", 0]["restarts"] == 1 and results["control", 0]["restarts"] == 0
    assert timing(results)["restarted_runs"] == 1
    assert timing(run_plan(once, tmp_path, executor=pool))["restarted_runs"] == 1  # kept with the run


def test_a_run_that_diverges_is_evaluated_and_its_nan_is_kept(pool, plan, tmp_path):
    diverging = plan(Knob("failing", "nan"), seeds=(0,))
    results = run_plan(diverging, tmp_path, executor=pool)
    record = results["arm 0", 0]
    assert record["diverged"] == 0 and record["metrics"]["spread"] == "nan"
    assert math.isnan(metric_of(record, "spread"))
    assert results["control", 0]["diverged"] is None
    assert "NaN" not in next((tmp_path / "runs").glob("*.json")).read_text()


def test_an_intervention_that_changes_nothing_changes_nothing(pool, plan, tmp_path):
    """Same batches, same generators: an arm with factor 1 equals the control bit for bit, also from a fork."""
    for step in (0, 7):
        null = plan(Scale("0", 1.0), LearningRate(1.0), Knob("pool", "batch"), fork_step=step)
        results = run_plan(null, tmp_path / str(step), executor=pool)
        for seed in null.seeds:
            for arm in null.arms:
                assert results[arm.name, seed]["metrics"] == results["control", seed]["metrics"]
                assert results[arm.name, seed]["state"] == results["control", seed]["state"]


def test_a_fork_is_trained_once_per_seed_and_the_whole_run_is_the_same(pool, plan, tmp_path):
    forked = run_plan(plan(fork_step=7, horizon=13), tmp_path / "a", executor=pool)
    whole = run_plan(plan(), tmp_path / "b", executor=pool)
    assert [forked["control", s]["metrics"] for s in (0, 1)] == [whole["control", s]["metrics"] for s in (0, 1)]
    assert len(list((tmp_path / "a" / "forks").iterdir())) == 2
    assert not (tmp_path / "b" / "forks").exists()


def test_the_control_is_restored_like_every_arm(pool, reference, tmp_path):
    """What a snapshot misses must be missing on both sides: an arm that changes nothing is still the control."""
    recipe = reference("recipes_fork", "late_counter")
    plan = Plan(
        recipe=recipe,
        source=spec_source(recipe),
        arms=(Arm("null", (LearningRate(1.0),)),),
        seeds=(0,),
        metric="loss",
        horizon=6,
        fork_step=6,
    )
    results = run_plan(plan, tmp_path, executor=pool)
    assert results["null", 0]["state"] == results["control", 0]["state"]


def test_what_did_nothing_is_known(pool, plan, tmp_path):
    null = plan(ClipGradient(1e6), Scale("0", 1.0), Scale("0", 0.5), Knob("failing", "nan"))
    results = run_plan(null, tmp_path, executor=pool)
    assert results["arm 0", 0]["acted"] == [[]] and results["arm 1", 0]["acted"] == [["0"]]
    assert inert(null.arms, null.seeds, "spread", results) == ("arm 0", "arm 1")


def test_guards_have_effects_and_no_verdict(pool, plan, tmp_path):
    one = plan(Knob("pool", "none"))
    results = run_plan(one, tmp_path, executor=pool)
    (loss,) = guard(["arm 0"], ["loss"], one.seeds, results)
    expected = [results[arm, s]["metrics"]["loss"] for arm in ("control", "arm 0") for s in (0, 1)]
    assert [*loss.control, *loss.treated] == expected
    assert loss.low < loss.effect < loss.high and loss.seeds == (0, 1)


def test_fresh_seeds_need_no_new_plan(pool, plan, tmp_path):
    both = plan(Knob("pool", "none"), confirm_seeds=(5, 6))
    results = run_arms(both, both.arms, both.confirm_seeds, make_folder(tmp_path), pool)
    assert {seed for _, seed in results} == {5, 6}


def test_a_run_in_this_process_says_where_it_acted_and_what_it_cost(reference, tmp_path):
    recipe = reference("recipes_tiny", "healthy")
    spec = RunSpec(recipe=recipe, source="", interventions=(Scale("0", 2.0), LearningRate(0.1)), seed=0, horizon=3)
    record = train_run(spec, str(tmp_path))
    assert record["acted"] == [["0"], ["optimizer.param_groups.0"]]
    assert 0 < record["training_s"] and 0 <= record["engine_s"]
    assert set(record["metrics"]) == {"spread", "loss"}


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PitpropError, match="cannot be written"):
        make_folder(tmp_path / "file" / "runs")


@pytest.mark.parametrize(("value", "text"), [(1.5, 1.5), (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_numbers_in_json(value, text):
    assert to_json_number(value) == text
    assert float(text) == value or math.isnan(value)
