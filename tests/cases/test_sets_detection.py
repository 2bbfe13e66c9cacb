"""What checks and rules say of the set diffusion before and after its training."""

from dataclasses import replace

import numpy as np
import pytest

from pitprop.cases.set_diffusion import recipe
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.checks import dead_zero_chain, unsynchronised_replicas
from pitprop.checks._jax import JaxSubject
from pitprop.records import RUN, Row
from pitprop.rules import detect
from pitprop.rules.condition_ignored import ConditionIgnored

TINY = Knobs(hidden=8, heads=2, dim_head=4, depth=1, encoder_depth=1, batch_size=2, replicas=2, diffusion_steps=50)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PITPROP_CACHE", str(tmp_path))


def subject(knobs):
    training = recipe.build(100, knobs)
    data = training.batches(0)
    return JaxSubject(step=training.pure_step, state=training.tree, tx=training.tx, batches=(next(data), next(data)))


@pytest.mark.slow
def test_replicas_that_do_not_hear_of_each_other_are_found_before_the_first_step():
    [finding] = unsynchronised_replicas.of_jax(subject(TINY))
    assert finding.severity == "failure" and "computed by each worker from its own batch" in finding.message
    assert unsynchronised_replicas.of_jax(subject(replace(TINY, synchronised=True))) == []


@pytest.mark.slow
def test_adaln_zero_is_of_order_0_1_2_and_not_alarmed():
    [finding] = dead_zero_chain.of_jax(subject(TINY))
    assert finding.severity == "note"
    assert "wake-up order 0: 2 tensors (dit.final.out.bias, dit.final.out.kernel)" in finding.message
    assert {"num_order_0", "num_order_1", "num_order_2"} == set(finding.evidence)
    assert dead_zero_chain.of_jax(subject(replace(TINY, adaln="normal"))) == []


def test_a_context_whose_shuffling_costs_nothing_is_found_and_one_that_is_used_is_not():
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.normal(size=400)

    def fired(gap):
        rows = [Row(step=t, site=RUN, values={"condition_gap": float(v)}) for t, v in enumerate(gap + noise)]
        return [f.rule for f in detect(rows, rules=(ConditionIgnored(),))]

    assert fired(0.0) == ["condition-ignored"]
    assert fired(0.03) == []
