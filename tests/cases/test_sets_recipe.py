"""The recipe of the set diffusion: a metric that needs the context, and forks that are exact."""

import io
import json
import zipfile
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion import metrics, other_data, recipe, training
from pitprop.cases.set_diffusion.knobs import PAPER, Knobs
from pitprop.cli import main
from pitprop.records import RUN
from pitprop.trace import Reader
from pitprop.trials.knobs import knobs_to_json
from pitprop.trials.load import load_recipe
from pitprop.trials.run import RunSpec
from pitprop.trials.watched import watched_run
from pitprop.watch.histogram import NAME

TINY = Knobs(hidden=8, heads=2, dim_head=4, depth=1, encoder_depth=1, batch_size=2, replicas=2, diffusion_steps=50)


def test_the_metric_is_no_guard():
    found = load_recipe("pitprop.cases.set_diffusion.recipe:recipe")
    names = [guard.partition("=")[0] for guard in found.guards]
    assert found.metric not in names and "eval_loss" in names


def test_batches_are_divided_among_replicas():
    first = next(recipe.batches(100, TINY, 0))
    assert first.shape == (2, 1, 7, 1, 8, 8)
    np.testing.assert_array_equal(first, next(recipe.batches(100, TINY, 0)))


def characters(path, number=5, drawings=20):
    with zipfile.ZipFile(path, "w") as file:
        for k in range(number):
            image = Image.new("1", (105, 105), 1)
            image.paste(0, (20 * k, 0, 20 * k + 15, 105))
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            for i in range(drawings):
                file.writestr(f"images/Greek/character0{k}/{i:02}.png", buffer.getvalue())
    return str(path)


OMNIGLOT = dict(image_size=28, patch_size=7)


def test_an_archive_takes_the_digits_place(tmp_path):
    knobs = replace(TINY, data=characters(tmp_path / "small.zip"), **OMNIGLOT)
    assert next(recipe.batches(100, knobs, 0)).shape == (2, 1, 7, 1, 28, 28)
    split = other_data.images(knobs)
    assert len(split.novel) == 2 and not set(split.novel) & set(split.train)
    assert {len(found) for found in split.train.values()} == {13}
    assert {len(found) for found in split.validation.values()} == {7}


def test_images_of_another_size_are_refused_and_so_are_too_few(tmp_path):
    with pytest.raises(PitpropError, match=r"`image_size` 32; the images of the digits have 1 and 8"):
        next(recipe.batches(0, PAPER, 0))
    for number, drawings in ((3, 20), (5, 13)):
        with pytest.raises(PitpropError, match=f"There are {number} classes"):
            path = characters(tmp_path / f"{number}.zip", number, drawings)
            other_data.images(replace(TINY, data=path, **OMNIGLOT))


@pytest.mark.slow
def test_an_archive_is_evaluated_on(monkeypatch, tmp_path):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path / "cache"))
    knobs = replace(TINY, data=characters(tmp_path / "small.zip"), **OMNIGLOT)
    found = recipe.build(100, knobs).evaluate()
    assert found["context_use"] == 0 and found["eval_loss"] == pytest.approx(1, abs=0.1)  # the output layer is zero


def test_the_classifier_tells_real_digits_apart_and_the_distance_too():
    split = metrics.digits()
    images, labels = split.validation[0], np.zeros(len(split.validation[0]))
    assert metrics.classifier().score(images.reshape(-1, 64), labels) > 0.9
    same = metrics.class_distance(split.train[0][:40], split.validation[0][:40])
    assert same < 0.5 * metrics.class_distance(split.train[1][:40], split.validation[0][:40])


def test_arms_that_differ_in_training_alone_share_what_measures_them():
    changed = replace(TINY, lr=0.5, clip=1.0, adaln="normal", replicas=1)
    assert metrics.evaluator(changed) is metrics.evaluator(TINY)
    assert metrics.evaluator(replace(TINY, layer_norm_scale=True)) is not metrics.evaluator(TINY)


@pytest.mark.slow
def test_images_of_classes_never_trained_on_are_drawn_per_image_of_a_set():
    params, novel = training.init(TINY, 100), metrics.evaluation_sets(TINY)[1][:2]
    found = metrics.generator(TINY)(params, jnp.asarray(novel), jax.random.key(0))
    assert found.shape == novel.shape and float(jnp.abs(found).max()) <= 1


@pytest.mark.slow
def test_a_fork_goes_on_as_if_it_had_never_been_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))
    made = recipe.build(100, TINY)

    def go(cursor, steps):
        data = made.batches(cursor)
        for _ in range(steps):
            made.step(next(data))
        return made.state()

    go(0, 2)
    fork = made.state()
    straight = go(2, 2)
    made.load_state(fork)
    again = go(2, 2)
    assert straight.keys() == again.keys()
    for name, leaf in straight.items():
        np.testing.assert_array_equal(leaf, again[name], err_msg=name)


@pytest.mark.slow
def test_a_model_that_ignores_its_context_has_none_of_the_metric():
    params = training.init(TINY, 100)
    found = metrics.evaluator(TINY)(params)
    assert float(found["context_use"]) == 0 == float(found["novel_context_use"])  # the output layer is zero
    random = jax.tree.map(
        lambda leaf: leaf + 0.5 * jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), params
    )
    assert float(metrics.evaluator(TINY)(random)["context_use"]) != 0


@pytest.mark.slow
def test_a_trial_from_the_command_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # of the worker
    tiny = {"hidden": 8, "heads": 2, "dim_head": 4, "depth": 1, "encoder_depth": 1, "batch_size": 4, "replicas": 2}
    knobs = [part for name, value in tiny.items() for part in ("--knob", f"{name}={value}")]
    sizes = ["--seeds", "2", "--horizon", "3", "--workers", "1", "--out", str(tmp_path / "out"), "--json"]
    assert main(["trial", "set_diffusion", "--knob-arm", "synchronised=true", *knobs, *sizes]) == 0
    found = json.loads(capsys.readouterr().out)
    [comparison] = found["comparisons"]
    assert comparison["arm"] == "synchronised=True" and comparison["metric"] == "context_use" and not found["failed"]
    spreads = {g["metric"]: g for g in found["guards"]}["replica_spread"]
    assert min(spreads["control"]) > 0 and spreads["treated"] == [0, 0]


@pytest.mark.slow
def test_a_watched_run_finds_the_missing_average_and_logs_the_gap(monkeypatch, tmp_path):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path / "cache"))
    knobs = {**knobs_to_json(TINY), "batch_size": 4}
    spec = RunSpec(recipe="pitprop.cases.set_diffusion.recipe:recipe", source="", knobs=knobs, seed=100, horizon=3)
    found = watched_run(spec, str(tmp_path / "run"))
    assert [f.rule for f in found["findings"] if f.severity == "failure"] == ["unsynchronised-replicas"]
    with Reader(tmp_path / "run") as trace:
        assert trace.series("condition_gap", RUN)[0].tolist() == [0, 1, 2]
        assert trace.series("replica_spread", RUN)[1].min() > 0
        assert trace.series("gradient_norm", "encoder.head")[1].tolist()[:2] == [0, 0]
        assert trace.array(NAME, 1, "dit.final.out").sum() == TINY.replicas * (TINY.hidden + 1) * TINY.patch_size**2
