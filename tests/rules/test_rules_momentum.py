"""The law behind the note of `learning-rate-too-high`: on a noisy quadratic the alignment is a known number."""

import math

import numpy as np
import pytest

from pitprop.rules.learning_rate_too_high import LearningRateTooHigh


def simulated(step: float, memory: float, seed: int = 0, num_steps: int = 200_000) -> float:
    """Cosine of gradient and momentum at stationarity, by running it; `step` is the learning rate times curvature."""
    rng = np.random.default_rng(seed)
    weight = momentum = products = gradients = momenta = 0.0
    for t, noise in enumerate(rng.standard_normal(num_steps)):
        gradient = weight + noise
        if t > num_steps // 10:
            products, gradients, momenta = (
                products + gradient * momentum,
                gradients + gradient**2,
                momenta + momentum**2,
            )
        momentum = memory * momentum + (1 - memory) * gradient
        weight -= step * momentum
    return products / math.sqrt(gradients * momenta)


def law(step: float, memory: float) -> float:
    return -step / 2 * math.sqrt((1 - memory) / (1 + memory + memory * step))


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_alignment_is_that_of_the_page(memory, share):
    """Standard error of a correlation over 180 000 correlated steps: under 0.01."""
    largest = 2 * (1 + memory) / (1 - memory)
    assert simulated(share * largest, memory) == pytest.approx(law(share * largest, memory), abs=0.03)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.99])
def test_the_threshold_is_beyond_half_of_the_step_that_diverges(memory):
    largest = 2 * (1 + memory) / (1 - memory)
    assert law(largest, memory) == pytest.approx(-1)
    assert law(largest / 2, memory) == pytest.approx(-math.sqrt(1 + memory) / 2)
    assert law(largest / 2, memory) > LearningRateTooHigh().opposed
