"""Coverage of the interval under differences as trials make them; the tables of design note 002 come from here.

Print them with `python tests/trials/test_trials_coverage.py`.
"""

import numpy as np
import pytest
from scipy import stats

from pitprop.trials.interval import alike, bounds

REPEATS = 20_000
COUNTS = (4, 8, 16)


def multiplied(factor, common, own):
    """Treated is `factor` times as large; log-normal noise, partly common to a seed's arms, partly their own."""

    def draw(rng, size):
        shared, one, other = (np.exp(sd * rng.normal(size=size)) for sd in (common, own, own))
        return shared * (factor * one - other)

    return draw, (factor - 1) * np.exp((common**2 + own**2) / 2)


def shifted(noise):
    """Treated is control plus an effect; both have noise of their own, of one shape, however skewed."""
    return lambda rng, size: noise(rng, size) - noise(rng, size), 0.0


SHAPES = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "heavy-tailed: t, 5 degrees of freedom": (lambda rng, size: rng.standard_t(5, size=size), 0.0),
    "heavy-tailed: t, 3 degrees of freedom": (lambda rng, size: rng.standard_t(3, size=size), 0.0),
    "skewed: gamma of shape 4 (skewness 1)": (lambda rng, size: rng.gamma(4, size=size), 4.0),
    "skewed: log-normal, sd 0.5 (1.75)": (lambda rng, size: rng.lognormal(0, 0.5, size=size), np.exp(0.125)),
    "skewed: exponential (2)": (lambda rng, size: rng.exponential(size=size), 1.0),
    "very skewed: log-normal, sd 1 (6.2)": (lambda rng, size: rng.lognormal(size=size), np.exp(0.5)),
    "arms exponential, effect added": shifted(lambda rng, size: rng.exponential(size=size)),
    "arms log-normal, sd 1, effect added": shifted(lambda rng, size: rng.lognormal(size=size)),
    "arms log-normal, sd .3 common + .3 own, x 0.5": multiplied(0.5, 0.3, 0.3),
    "arms log-normal, sd .5 common + .2 own, x 0.5": multiplied(0.5, 0.5, 0.2),
    "arms log-normal, sd 1 common + .2 own, x 0.5": multiplied(0.5, 1.0, 0.2),
}

OUTSIDE = {
    ("heavy-tailed: t, 5 degrees of freedom", 4),
    ("heavy-tailed: t, 3 degrees of freedom", 4),
    ("arms exponential, effect added", 4),
    ("arms log-normal, sd 1, effect added", 4),
    ("arms log-normal, sd 1, effect added", 8),
    *((shape, count) for shape in ("very skewed: log-normal, sd 1 (6.2)",) for count in (4, 8)),
    *(("arms log-normal, sd 1 common + .2 own, x 0.5", count) for count in COUNTS),
}
"""Cells whose coverage is not within 93 to 97 %; the design note says why."""


def samples(shape, count):
    draw, mean = SHAPES[shape]
    return draw(np.random.default_rng(count), (REPEATS, count)) - mean


def coverage(low, high):
    return float(np.mean((low <= 0) & (high >= 0)))


def student(rows):
    half = stats.t.ppf(0.975, rows.shape[1] - 1) * stats.sem(rows, axis=1)
    return rows.mean(1) - half, rows.mean(1) + half


def bca(rows):
    found = stats.bootstrap((rows,), np.mean, axis=-1, method="BCa", n_resamples=999, rng=0).confidence_interval
    return found.low, found.high


# Three standard errors of 20 000 repeats are .0046.
@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_is_93_to_97_percent_but_in_the_cells_that_are_named(shape, count):
    covered = coverage(*bounds(samples(shape, count)))
    assert (0.93 <= covered <= 0.97) == ((shape, count) not in OUTSIDE)
    assert 0.875 < covered < 0.99


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_it_covers_more_than_student_and_far_more_where_differences_are_skewed(shape):
    rows = samples(shape, 8)
    gained = coverage(*bounds(rows)) - coverage(*student(rows))
    assert gained >= (0.03 if shape.startswith(("skewed: exp", "very")) else 0)


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_bca_covers_less_with_few_seeds(count):
    rows = samples("normal", count)[:2000]
    assert coverage(*bca(rows)) < coverage(*bounds(rows))


ROUNDED = {
    "normal, sd 1 unit": lambda rng, size: rng.normal(size=size).round(),
    "normal about .5, sd .5 unit": lambda rng, size: rng.normal(0.5, 0.5, size=size).round(),
    "right or wrong, by chance 1/2": lambda rng, size: rng.binomial(1, 0.5, size=size).astype(float),
    "10 items, 90 % right": lambda rng, size: rng.binomial(10, 0.9, size=size) / 10,
    "100 items, 90 % right": lambda rng, size: rng.binomial(100, 0.9, size=size) / 100,
}


def rounded_errors(metric, count, alpha, *, tied=True):
    """Share of null comparisons that are called better or worse; without `tied`, as if ties were a spread of 0."""
    one, other = ROUNDED[metric](np.random.default_rng(count), (2, REPEATS, count))
    low, high = bounds(other - one, 1 - alpha)
    equal = alike(other - one) & (other != one).any(-1)
    return float(np.mean((low > 0) | (high < 0) | (equal & (not tied))))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("metric", ROUNDED)
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 12])
def test_a_rounded_metric_errs_no_oftener_than_the_interval_may(metric, count, alpha):
    assert rounded_errors(metric, count, alpha) <= stats.binom.ppf(0.999, REPEATS, alpha) / REPEATS


if __name__ == "__main__":
    print("| metric | seeds | 95 %, a point | 95 % | 99.6 %, a point | 99.6 % |\n|---|---|---|---|---|---|")
    for metric in ROUNDED:
        for count in (2, 3, 4, 5, 8):
            found = [rounded_errors(metric, count, alpha, tied=t) for alpha in (0.05, 0.05 / 12) for t in (False, True)]
            print(f"| {metric} | {count} |", *(f"{share:.4f} |" for share in found))
    print("| differences | seeds | interval | Student t | BCa | width / Student's |\n|---|---|---|---|---|---|")
    for shape in SHAPES:
        for count in COUNTS:
            rows = samples(shape, count)
            ends, usual = bounds(rows), student(rows)
            parts = np.array_split(rows[:4000], 8)
            boot = np.mean([coverage(*bca(part)) for part in parts])
            wider = np.median((ends[1] - ends[0]) / (usual[1] - usual[0]))
            cells = f"{coverage(*ends):.3f} | {coverage(*usual):.3f} | {boot:.3f} | {wider:.2f}"
            print(f"| {shape} | {count} | {cells} |")
