"""What the case writes of its runs, on made-up runs, and what it counts."""

import jax
import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion import arms, generation, measurements, monitor, pictures, statics
from pitprop.cases.set_diffusion.claims import SETS
from pitprop.cases.set_diffusion.data import digits
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import evaluation_sets
from pitprop.cases.set_diffusion.options import Options
from pitprop.cases.set_diffusion.run import run
from pitprop.trace import Reader
from pitprop.watch.histogram import NAME, NUM_BUCKETS

LOGGED = (*monitor.OF_THE_RUN, "encoder_gradient_norm", "dit_gradient_norm")
HISTOGRAMS = (f"encoder_{NAME}", f"dit_{NAME}")


def made_up(use=0.05, steps=100, seeds=2):
    looks = steps // arms.EVERY + 1
    logged = {name: np.full((seeds, steps), 0.5, np.float32) for name in LOGGED}
    logged["encoder_gradient_norm"][:, :2] = 0
    logged |= {name: np.full((seeds, steps, NUM_BUCKETS), 3) for name in HISTOGRAMS}
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
        assert reader.arrays(NAME) == [(0, "encoder"), (0, "dit"), (50, "encoder"), (50, "dit")]
        assert reader.array(NAME, 50, "dit").tolist() == [3] * NUM_BUCKETS


def test_a_context_is_used_from_the_look_on_after_which_it_always_is():
    assert measurements.steps_until_used(np.array([0, 0.02, 0.005, 0.02, 0.03]), every=50) == 150
    assert measurements.steps_until_used(np.array([0, 0.02, 0.005]), every=50) is None


def test_a_run_is_condensed_and_compared():
    found = measurements.condensed(made_up())
    assert found["steps_until_used"] == [50, 50]
    assert found["share_over_healthy"].tolist() == [0.98, 0.98] and found["share_clipped"].tolist() == [0, 0]
    assert found["encoder_gradient_first"][0].tolist() == [0, 0, 0.5, 0.5]


def test_the_rule_is_asked_of_the_gaps_of_some_steps():
    rng = np.random.default_rng(0)
    gaps = 0.01 * rng.normal(size=(2, 800)) + np.array([[0.0], [0.03]])
    [spoken, silent] = statics.spoken(gaps, every=4)
    assert spoken % 4 == 0 and 400 < spoken < 800 and silent is None
    assert statics.spoken(gaps)[0] < 300


def test_real_digits_are_near_their_class_and_those_of_another_are_not():
    novel = digits().novel
    sets = np.stack([novel[k][:7] for k in (7, 8, 9)])
    own = generation.by_class(sets, novel)
    assert all(share >= 6 / 7 for share in own["recognised"].values())
    other = generation.by_class(sets[[1, 2, 0]], novel)
    assert all(other["distance"][k] > 2 * own["distance"][k] for k in novel)
    assert max(other["recognised"].values()) == 0


def test_the_same_runs_are_alike_and_others_are_not():
    other = made_up()
    other.logged["loss"][1, 7] += 1e-6
    assert measurements.alike(made_up(), made_up()) and not measurements.alike(made_up(), other)


def test_every_arm_has_a_control_and_differs_from_it():
    compared = {arm: control for control, several in arms.PAIRS.items() for arm in several}
    assert set(compared) | set(arms.DESCENT) | {arms.ORIGINAL} == set(arms.ALL)
    assert all(arms.ALL[arm] != arms.ALL[control] for arm, control in compared.items())


def test_a_replica_that_learns_alone_may_see_as_many_sets(monkeypatch):
    asked = {}
    monkeypatch.setattr(measurements, "cached", lambda name, sizes, *_: asked.update({name: sizes}) or {})
    for name in (arms.ORIGINAL, arms.LONG, arms.SYNCHRONISED):
        measurements.arm(name, range(2), 100)
    assert [(sizes["steps"], sizes["replicas"]) for sizes in asked.values()] == [(100, 1), (400, 1), (100, None)]


@pytest.mark.slow
def test_gates_of_zero_have_a_gradient_after_one_step():
    [[before, after]] = statics.gates(range(1))
    assert before == 0 < after


def test_parts_by_themselves():
    norm, null = statics.layer_norm(), statics.null_layer()
    assert norm["same_output"] and norm["same_gradient"]
    assert null["kernel"] == 0 < null["bias"]
    drift = statics.idle_adamw()
    assert drift["0"] == 0 and drift["0.01"] == pytest.approx((1 - 1e-6) ** 1000 - 1, rel=0.05)


def test_adam_is_given_zeros_at_three_of_four_steps():
    assert statics.accumulation(40)["zeros"] == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 120}, "choose a multiple of 50"),
        ({"steps": 0}, "choose a multiple of 50"),
        ({"seeds": 0}, "`seeds` is 0"),
        ({"seeds": -1}, "`seeds` is -1"),
    ],
)
def test_sizes_that_make_no_training_are_explained_before_anything_is_made(tmp_path, options, message):
    with pytest.raises(PitpropError, match=message):
        run(tmp_path / "out", Options(**options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seeds", [0, 1])
def test_claims_need_two_seeds(tmp_path, seeds):
    with pytest.raises(PitpropError, match="two seeds"):
        run(tmp_path, Options(seeds=seeds), claims=True)
    with pytest.raises(PitpropError, match="two seeds"):
        SETS.measure(tmp_path, seeds, None)


def test_blocks_are_compared_in_a_loop():
    ended = {part: {"blocks": {name: {"kernel": np.ones((1, 3, 2, 2)) * k} for name in ("mlp1", "mlp2")}}
             for part, k in (("encoder", 1.0), ("dit", 2.0))}  # fmt: skip
    started = jax.tree.map(np.zeros_like, ended)
    found = statics.displacement(ended, started)
    assert found["encoder"].tolist() == [[1, 1, 1]] and found["dit"].tolist() == [[2, 2, 2]]
