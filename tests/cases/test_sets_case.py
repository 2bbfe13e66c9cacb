"""What the case writes of its runs, on made-up runs, and what it counts."""

import jax
import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion import arms, measurements, monitor, pictures, statics
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import evaluation_sets
from pitprop.trace import Reader

LOGGED = (*monitor.OF_THE_RUN, "encoder_gradient_norm", "dit_gradient_norm")


def made_up(use=0.05, steps=100, seeds=2):
    looks = steps // arms.EVERY + 1
    logged = {name: np.full((seeds, steps), 0.5, np.float32) for name in LOGGED}
    logged["encoder_gradient_norm"][:, :2] = 0
    curve = np.full((seeds, looks), use)
    curve[:, 0] = 0
    measured = {name: curve for name in ("context_use", "eval_loss", "novel_context_use", "novel_loss")}
    return Run(logged=logged, measured=measured, averages={})


def test_pictures_are_written(tmp_path):
    images = evaluation_sets(Knobs())[1]
    runs = {"original": made_up(0.0), "synchronised": made_up()}
    paths = pictures.draw(runs, dict.fromkeys(runs, images), tmp_path)
    assert [path.name for path in paths] == list(pictures.FILES)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_what_is_monitored_is_a_trace(tmp_path):
    folder = monitor.write(made_up(), 0, tmp_path / "run", name="original", seed=0)
    with Reader(folder) as reader:
        assert reader.series("gradient_norm", "encoder")[1][:3].tolist() == [0, 0, 0.5]
        steps, values = reader.series("context_use", "<run>")
        assert steps.tolist() == [0, 50] and values[0] == 0
        assert reader.last_step == 99 and reader.info.config == {"arm": "original"}


def test_a_context_is_used_from_the_look_on_after_which_it_always_is():
    assert measurements.steps_until_used(np.array([0, 0.02, 0.005, 0.02, 0.03]), every=50) == 150
    assert measurements.steps_until_used(np.array([0, 0.02, 0.005]), every=50) is None


def test_a_run_is_condensed_and_compared():
    found = measurements.condensed(made_up())
    assert found["steps_until_used"] == [50, 50]
    assert found["share_over_healthy"].tolist() == [0.98, 0.98] and found["share_clipped"].tolist() == [0, 0]
    assert found["encoder_gradient_first"][0].tolist() == [0, 0, 0.5, 0.5]


def test_the_same_runs_are_alike_and_others_are_not():
    other = made_up()
    other.logged["loss"][1, 7] += 1e-6
    assert measurements.alike(made_up(), made_up()) and not measurements.alike(made_up(), other)


def test_every_arm_has_a_control_and_differs_from_it():
    compared = {arm: control for control, several in arms.PAIRS.items() for arm in several}
    assert set(compared) | set(arms.DESCENT) | {arms.ORIGINAL} == set(arms.ALL)
    assert all(arms.ALL[arm] != arms.ALL[control] for arm, control in compared.items())


def test_parts_by_themselves():
    norm, null = statics.layer_norm(), statics.null_layer()
    assert norm["same_output"] and norm["same_gradient"]
    assert null["kernel"] == 0 < null["bias"]
    drift = statics.idle_adamw()
    assert drift["0"] == 0 and drift["0.01"] == pytest.approx((1 - 1e-6) ** 1000 - 1, rel=0.05)


def test_adam_is_given_zeros_at_three_of_four_steps():
    assert statics.accumulation(40)["zeros"] == 0.75


def test_steps_that_are_no_number_of_looks_are_explained():
    with pytest.raises(PitpropError, match="choose a multiple of 50"):
        arms.check_steps(120)


def test_blocks_are_compared_in_a_loop():
    ended = {part: {"blocks": {name: {"kernel": np.ones((1, 3, 2, 2)) * k} for name in ("mlp1", "mlp2")}}
             for part, k in (("encoder", 1.0), ("dit", 2.0))}  # fmt: skip
    started = jax.tree.map(np.zeros_like, ended)
    found = statics.displacement(ended, started)
    assert found["encoder"].tolist() == [[1, 1, 1]] and found["dit"].tolist() == [[2, 2, 2]]
