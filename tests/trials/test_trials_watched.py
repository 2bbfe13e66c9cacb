"""A watched run measures what the recipe's loop knows, arrays too."""

from pitprop.records import RUN
from pitprop.trace import Reader
from pitprop.trials.run import RunSpec
from pitprop.trials.sources import source_digest
from pitprop.trials.watched import watched_run


def test_arrays_that_a_step_returns_are_measured(tmp_path, reference):
    recipe = reference("recipes_tiny", "classes")
    spec = RunSpec(recipe=recipe, source=source_digest(recipe), seed=0, horizon=4)
    watched_run(spec, str(tmp_path / "run"))
    with Reader(tmp_path / "run") as trace:
        steps, values = trace.series("class_loss_ratio", RUN)
        assert len(steps) == 4 and (values > 0).all()
        assert len(trace.series("loss", RUN)[0]) == 4
