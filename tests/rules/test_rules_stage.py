"""A stage's switch is held against what had been learned, where the loss stays far from 0."""

import numpy as np
import pytest

from pitprop.records import RUN, Row
from pitprop.rules import detect
from pitprop.rules.stage_switch_shock import StageSwitchShock

SWITCH = 150


def told(undone: float, *, noise: float = 0.01, first: float = 2.3, switched: bool = True, trend: float = 0.0):
    """Of a loss that comes from `first` down to 1.4, and at the switch goes back by a share `undone` of that."""
    rng = np.random.default_rng(0)
    steps = np.arange(200)
    loss = 1.4 + (first - 1.4) * np.exp(-steps / 20) - trend * steps
    loss[SWITCH:] += undone * 0.9
    loss *= np.exp(noise * rng.standard_normal(len(steps)))
    counts = np.where((steps >= SWITCH) & switched, 14.0, 10.0)
    rows = [
        Row(step=int(t), site=RUN, values={"loss": x, "num_trained": n})
        for t, x, n in zip(steps, loss, counts, strict=True)
    ]
    return [(f.onset, f.evidence["share_undone"]) for f in detect(rows, rules=(StageSwitchShock(),))]


@pytest.mark.parametrize("undone", [0.25, 0.28])
def test_a_quarter_undone_is_found_although_the_loss_is_less_than_a_fifth_up(undone):
    [(onset, share)] = told(undone)
    assert onset == SWITCH and share == pytest.approx(undone, abs=0.05)
    assert undone * 0.9 / 1.4 < 0.2


@pytest.mark.parametrize(
    "given",
    [
        {"undone": 0.1},
        {"undone": 0.25, "switched": False},
        {"undone": 0.25, "noise": 0.1},  # within the noise
        {"undone": 0.25, "first": 1.4},  # nothing had been learned: only a fifth of the loss counts
        {"undone": 0.25, "trend": -0.01},  # was on its way up
    ],
)
def test_what_is_no_shock(given):
    assert told(**given) == []


def test_a_fifth_of_the_loss_counts_where_nothing_had_been_learned():
    [(onset, share)] = told(0.5, first=1.4, noise=0.0)
    assert onset == SWITCH and np.isnan(share)
