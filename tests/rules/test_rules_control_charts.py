"""Why there is no control chart in `_online`: the false alarms of two of them on healthy AR(1) series."""

import numpy as np
import pytest
from scipy.signal import lfilter

RUNS, ROWS = 200, 3000


def healthy(phi: float) -> np.ndarray:
    """`[run, row]`: AR(1) with mean 0 and variance 1 from the first row on, which the charts are told exactly."""
    noise = np.random.default_rng(0).standard_normal((RUNS, ROWS))
    noise[:, 1:] *= np.sqrt(1 - phi * phi)
    return lfilter([1.0], [1.0, -phi], noise, axis=1)


@pytest.mark.parametrize(("phi", "at_least"), [(0.0, 0.99), (0.9, 0.95), (0.98, 0.6)])
def test_a_three_sigma_chart_alarms_in_most_healthy_runs(phi, at_least):
    assert (abs(healthy(phi)) > 3).any(axis=1).mean() >= at_least


@pytest.mark.parametrize("phi", [0.0, 0.9, 0.98])
def test_a_cusum_alarms_in_nearly_all_healthy_runs(phi):
    series = healthy(phi)
    up, down, alarmed = np.zeros(RUNS), np.zeros(RUNS), np.zeros(RUNS, dtype=bool)
    for row in series.T:
        up, down = np.maximum(0, up + row - 0.5), np.maximum(0, down - row - 0.5)
        alarmed |= (up > 5) | (down > 5)
    assert alarmed.mean() >= 0.98
