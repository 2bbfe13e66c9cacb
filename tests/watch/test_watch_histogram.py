"""Histograms of gradients: counted like a slow twin counts, inert, and in the trace where they were asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pitprop
from pitprop.trace import Reader
from pitprop.watch.histogram import EDGES, NAME, NUM_BUCKETS, magnitudes


def twin(values):
    counts = [0] * NUM_BUCKETS
    for value in values:
        if np.isfinite(value):
            size = abs(float(value))
            inner = sum(size >= 10.0**edge for edge in EDGES[1:-1])
            counts[inner] += 1
    return counts


def off_the_edges(value):
    # At an edge, float32 and float64 may round to either side.
    return value == 0 or not np.isfinite(value) or np.abs(np.log10(abs(value)) - EDGES).min() > 1e-4


numbers = st.floats(width=32, allow_subnormal=False).filter(off_the_edges)


@settings(deadline=None, max_examples=60)
@given(st.lists(numbers, min_size=4, max_size=4))
@pytest.mark.parametrize("make", [np.float32, lambda v: jnp.asarray(v, jnp.float32), torch.tensor])
def test_entries_are_counted_as_in_a_loop(make, values):
    assert magnitudes(np.asarray(values, np.float32)).tolist() == twin(values)
    assert np.asarray(magnitudes(make(values))).tolist() == twin(values)


def test_zeros_and_what_is_too_small_or_too_large_is_at_the_ends():
    counts = magnitudes(np.float32([0, 1e-20, 1e30, np.nan, np.inf]))
    assert counts[0] == 2 and counts[-1] == 1 and counts.sum() == 3


def trained(tx, steps, take=lambda state: None):
    def loss_of(p):
        return jnp.sum((X @ p["enc"]["w"] + p["enc"]["b"] - 1) ** 2)

    @jax.jit
    def step(p, state):
        updates, state = tx.update(jax.grad(loss_of)(p), state, p)
        return optax.apply_updates(p, updates), state

    p = {"enc": {"w": jnp.asarray(X[:4].T), "b": jnp.zeros(4)}}
    state = tx.init(p)
    for _ in range(steps):
        p, state = step(p, state)
        take(state)
    return p


X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)


def test_a_session_writes_them_at_a_few_steps_and_the_training_does_not_notice(tmp_path):
    tx = optax.adamw(1e-2)
    with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        watched = trained(pitprop.optax.watch(tx, histograms=True), 12, watch.take)
    plain = trained(tx, 12)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(watched), jax.tree.leaves(plain), strict=True))
    with Reader(tmp_path / "run") as trace:
        assert trace.arrays(NAME) == [(0, "enc"), (1, "enc"), (3, "enc"), (9, "enc")]
        found = trace.array(NAME, 0, "enc")
        p = {"w": X[:4].T.astype(np.float64), "b": np.zeros(4)}
        residual = 2 * (X @ p["w"] + p["b"] - 1)
        expected = magnitudes(np.concatenate([(X.T @ residual).ravel(), residual.sum(0)]))
        assert found.sum() == 36 and np.abs(found - expected).sum() <= 2
        assert len(trace.series("gradient_norm", "enc")[0]) == 12


def test_without_being_asked_none_are_kept(tmp_path):
    with pitprop.optax.session(run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        trained(pitprop.optax.watch(optax.sgd(0.1)), 2, watch.take)
    with Reader(tmp_path / "run") as trace:
        assert trace.arrays(NAME) == []
