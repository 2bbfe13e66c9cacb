"""A watched run measures what the recipe's loop knows, arrays too."""

from pitprop.records import RUN
from pitprop.trace import Reader
from pitprop.trials.executors.place import open_executor
from pitprop.trials.interventions import Knob
from pitprop.trials.run import RunSpec
from pitprop.trials.sources import source_digest
from pitprop.trials.watched import watch_runs, watched_run


def test_arrays_that_a_step_returns_are_measured(tmp_path, reference):
    recipe = reference("recipes_tiny", "classes")
    spec = RunSpec(recipe=recipe, source=source_digest(recipe), seed=0, horizon=4)
    watched_run(spec, str(tmp_path / "run"))
    with Reader(tmp_path / "run") as trace:
        steps, values = trace.series("class_loss_ratio", RUN)
        assert len(steps) == 4 and (values > 0).all()
        assert len(trace.series("loss", RUN)[0]) == 4


def test_an_arm_that_has_nothing_left_to_train_is_read_by_its_metrics(tmp_path, reference):
    recipe = reference("recipes_tiny", "untrained")
    spec = RunSpec(
        recipe=recipe, source=source_digest(recipe), seed=0, horizon=4, interventions=(Knob("pool", "none"),)
    )
    folder = tmp_path / "watched" / "run"
    with open_executor("local", 1, folder=tmp_path) as pool:
        (run,) = watch_runs({folder: spec}, pool)
    assert run["findings"] == [] and run["metrics"]["spread"][-1] == [4, 1.0]
    assert (folder / "watched.json").exists() and not (folder / "trace.sqlite").exists()
