"""A watched data-parallel step on four forced host devices; run by test_watch_jax in a process of its own."""

import os
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import pitprop
from pitprop.trace import Reader

assert jax.device_count() == 4
PARAMS = {"dense": {"w": jnp.linspace(-1, 1, 6).reshape(3, 2)}}
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)


def step(tx, p, state, x, inside=lambda loss: loss, outside=lambda tree: tree):
    loss_of = lambda p: inside(jnp.mean(jnp.tanh(x @ p["dense"]["w"]) ** 2))  # noqa: E731
    loss, gradients = outside(jax.value_and_grad(loss_of)(p))
    updates, state = tx.update(gradients, state, p)
    return optax.apply_updates(p, updates), state, loss


def mean(tree):
    return jax.lax.pmean(tree, "data")


def with_pmap(tx):
    run = jax.pmap(lambda p, s, x: step(tx, p, s, x, outside=mean), axis_name="data")
    p, state = (jax.tree.map(lambda a: jnp.stack([a] * 4), tree) for tree in (PARAMS, tx.init(PARAMS)))
    return run, p, state, X.reshape(4, 2, 3)


def with_shard_map(tx):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    run = jax.jit(
        jax.shard_map(
            lambda p, s, x: step(tx, p, s, x, inside=mean),
            mesh=mesh,
            in_specs=(P(), P(), P("data")),
            out_specs=P(),
        )
    )
    return run, PARAMS, tx.init(PARAMS), X


def with_jit(tx):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    run = jax.jit(lambda p, s, x: step(tx, p, s, x))
    replicated = jax.device_put((PARAMS, tx.init(PARAMS)), NamedSharding(mesh, P()))
    return run, *replicated, jax.device_put(X, NamedSharding(mesh, P("data")))


def trained(make, tx, folder=None):
    run, p, state, x = make(tx)
    if folder is None:
        for _ in range(3):
            p, state, _ = run(p, state, x)
        return p
    with pitprop.optax.session(run=folder, every=2, budget=None, quiet=True) as watch:
        for _ in range(3):
            p, state, loss = run(p, state, x)
            watch.take(state, loss=jnp.ravel(loss)[0])
    return p


for name, make in (("pmap", with_pmap), ("shard_map", with_shard_map), ("jit", with_jit)):
    with tempfile.TemporaryDirectory() as folder:
        watched = trained(make, pitprop.optax.watch(optax.adam(1e-2)), Path(folder) / "run")
        assert np.array_equal(trained(make, optax.adam(1e-2))["dense"]["w"], watched["dense"]["w"]), name
        with Reader(Path(folder) / "run") as trace:
            steps, values = trace.series("gradient_norm", "dense")
        expected = jax.grad(lambda p: jnp.mean(jnp.tanh(X @ p["dense"]["w"]) ** 2))(PARAMS)["dense"]["w"]
        assert steps.tolist() == [0, 2]
        np.testing.assert_allclose(values[0], np.linalg.norm(expected), rtol=1e-5)
    print(name)
print("done")
