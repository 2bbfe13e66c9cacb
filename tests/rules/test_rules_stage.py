"""A stage's switch is read at its own row too, where the loss stays far from 0 and comes down again."""

import numpy as np
import pytest

from pitprop.records import RUN, Row
from pitprop.rules import detect
from pitprop.rules.stage_switch_shock import StageSwitchShock

NUM, SWITCH, LEVEL, NOISE = 400, 300, 1.5, 0.05


def told(*after: float, switched: bool = True, every: int = 1):
    """Of a noisy loss, times `after` from the switch on (the last for all that follow); counts come every few rows."""
    rng = np.random.default_rng(0)
    factors = np.ones(NUM)
    factors[SWITCH:] = after[-1]
    factors[SWITCH : SWITCH + len(after)] = after
    loss = LEVEL * factors * np.exp(NOISE * rng.standard_normal(NUM))
    rows = []
    for t, x in enumerate(loss):
        counts = {"num_trained": 14.0 if switched and t >= SWITCH else 10.0} if t % every == 0 else {}
        rows.append(Row(step=t, site=RUN, values={"loss": float(x), **counts}))
    return detect(rows, rules=(StageSwitchShock(),))


def test_a_jump_at_the_switch_is_found_although_most_of_it_is_gone_after_ten_rows():
    [finding] = told(1.6, 1.4, 1.2, 1.1)
    assert (finding.onset, finding.detected) == (SWITCH, SWITCH + 9)
    assert finding.evidence["loss_growth_at_once"] > 1.4 and finding.evidence["loss_growth"] < 1.2


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"after": [1.6, 1.4, 1.2, 1.0]}, id="back within four rows"),
        pytest.param({"after": [1.0, 1.6, 1.4, 1.1]}, id="the identity at the switch"),
        pytest.param({"after": [1.15, 1.1]}, id="within the noise"),
        pytest.param({"after": [1.6, 1.4, 1.2, 1.1], "switched": False}, id="no switch"),
        pytest.param({"after": [1.6, 1.4, 1.2, 1.1], "every": 7}, id="which row was the switch isn't known"),
    ],
)
def test_what_is_no_shock(given):
    assert told(*given.pop("after"), **given) == []
