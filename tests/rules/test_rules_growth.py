"""What grows by right, as healthy trainings do it, and the same quantity when it runs away."""

import numpy as np
import pytest
from rule_traces import rows

from pitprop.rules import by_name, detect

T = np.arange(400)


def adam(gradient, beta=0.999):
    """RMS_t of a module whose entries all have `gradient`'s size, as Adam would have it; a slow twin in float64."""
    moment = np.zeros(len(gradient))
    for t, g in enumerate(gradient):
        moment[t] = beta * (moment[t - 1] if t else 0.0) + (1 - beta) * g**2
    return gradient / np.sqrt(moment / (1 - beta ** (np.arange(len(gradient)) + 1)))


def stale(gradient):
    gradient = gradient * np.exp(0.25 * np.random.default_rng(0).standard_normal(len(gradient)))
    series = {"gradient_norm": gradient, "second_moment_ratio": adam(gradient)}
    return series, detect(rows(series), (by_name("stale-second-moment"),))


@pytest.mark.parametrize("rate", [0.01, 0.03, 0.09])
def test_gradients_that_grow_when_a_plateau_is_left_are_fine_although_rms_is_over_its_level(rate):
    series, found = stale(0.02 * np.exp(rate * np.clip(T - 60, 0, 5 / rate)))
    assert np.sum(series["second_moment_ratio"] > 2.3) > 20
    assert found == []


@pytest.mark.parametrize("size", [7.0, 100.0])
def test_a_spike_of_gradients_that_recovers_is_fine(size):
    series, found = stale(1 + (size - 1) * np.where(T < 200, 0.0, np.exp(-np.maximum(T - 200, 0) / 4)))
    assert series["second_moment_ratio"].max() > 2.3
    assert found == []


@pytest.mark.parametrize("factor", [8.0, 100.0])
def test_gradients_that_jump_and_stay_are_found(factor):
    _, [found] = stale(np.where(T < 200, 1.0, factor))
    assert (found.onset, found.detected) == (200, 219)


def test_a_module_that_is_switched_on_after_gradients_of_zero_is_found():
    gradient = np.where(T < 200, 0.0, 1.0)
    series = {"gradient_norm": gradient, "second_moment_ratio": np.where(T < 200, 1.0, adam(gradient + 1e-12))}
    [found] = detect(rows(series), (by_name("stale-second-moment"),))
    assert found.onset == 200


def runaway(ratio, every=1):
    return detect(rows({"adapter_ratio": ratio}, every=every), (by_name("adapter-runaway"),))


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("scale", [40.0, 120.0])
def test_an_adapter_that_outgrows_its_layer_and_settles_is_fine(scale, every):
    ratio = 2 * (1 - np.exp(-every * T / scale))
    assert ratio.max() > 1.9
    assert runaway(ratio, every) == []


@pytest.mark.parametrize("every", [1, 10])
def test_an_adapter_that_takes_larger_steps_later_is_found(every):
    """It settles over 1, and then the learning rate is thirty times what it was."""
    ratio = 1.4 * (1 - np.exp(-T / 60)) + np.where(T < 200, 0.0, 0.2 * (T - 200))
    [found] = runaway(ratio, every)
    assert found.severity == "warning" and 200 * every < found.detected <= 220 * every


def test_an_adapter_that_grows_evenly_is_found_when_nothing_of_its_layer_is_left():
    [found] = runaway(0.05 * T + 0.02 * np.sin(T))
    assert 200 < found.detected <= 221 and "hides" in found.message


def concentrated(series):
    return detect(rows(series), (by_name("attention-concentration"),))


def test_heads_that_learn_to_select_are_fine():
    """From uniform to two keys of sixteen, as a healthy ViT does; the logits are past where they begin to condense."""
    scale = np.minimum(0.1 + T / 60, 1.8)
    assert concentrated({"attention_logit_scale": scale, "attention_entropy": 1 - 0.36 * scale}) == []
    assert concentrated({"attention_entropy": 1 - 0.36 * scale}) == []


def test_heads_that_have_become_one_hot_are_noted():
    [found] = concentrated({"attention_logit_scale": np.where(T < 200, 1.2, 30.0)})
    assert found.severity == "note" and found.onset == 200
    [found] = concentrated({"attention_entropy": np.where(T < 200, 0.9, 0.02)})
    assert found.severity == "note" and abs(found.onset - 200) <= 2


def test_an_adapter_that_outgrows_its_layer_in_its_first_steps_is_found_although_it_settles():
    [found] = runaway(5 * (1 - np.exp(-T / 10)))
    assert found.onset < 20 and "first steps" in found.message
