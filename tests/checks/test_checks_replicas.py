"""Replicas: two gloo workers that do or don't synchronise, and what the jaxpr of a step says."""

import socket

import jax
import jax.numpy as jnp
import pytest
import torch
from torch import nn

from pitprop.checks import Subject
from pitprop.checks.unsynchronised_replicas import CHECK, in_jax


def worker(rank: int, port: int, folder: str) -> None:
    """One of two; writes what it found of each way to train."""
    torch.set_num_threads(1)
    store = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    said = []
    for way in ("ddp", "none", "by hand", "other seed"):
        torch.manual_seed(rank if way == "other seed" else 0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
        called = nn.parallel.DistributedDataParallel(model) if way == "ddp" else model
        optimizer = torch.optim.Adam(model.parameters())

        def step(x, way=way, model=model, called=called, optimizer=optimizer):
            optimizer.zero_grad()
            called(x).square().mean().backward()
            if way == "by hand":
                for p in model.parameters():
                    torch.distributed.all_reduce(p.grad)
            optimizer.step()

        share = torch.randn(8, 4, generator=torch.Generator().manual_seed(rank))
        findings = CHECK.run(Subject(model=model, batches=(share,), optimizers=(optimizer,), step=step))
        said.append([way, *(f"{f.severity}: {f.message}" for f in findings)])
    torch.save(said, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_workers(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(worker, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first == second
    found = {way: messages for way, *messages in first}
    assert found["ddp"] == found["by hand"] == []
    named = "4 parameters (0.weight, 0.bias, 2.weight, ...) differ between 2 workers"
    assert found["none"] == [f"failure: {named} after 2 steps."]
    assert found["other seed"] == [f"failure: {named} before the first step."]


def test_one_process_is_not_asked():
    assert CHECK.run(Subject(model=nn.Linear(2, 1), batches=(torch.ones(1, 2),), step=lambda x: None)) == []


STATE = {"w": jnp.ones(4), "b": jnp.zeros(())}
X = jnp.ones((8, 4))


def loss(state, x):
    return jnp.mean((jnp.tanh(x @ state["w"]) + state["b"]) ** 2)


def descend(state, gradient):
    return jax.tree.map(lambda p, g: p - 0.1 * g, state, gradient)


def mean(tree):
    return jax.lax.pmean(tree, "data")


def plain(state, x):
    return descend(state, jax.grad(loss)(state, x))


def only_the_metric(state, x):
    value, gradient = jax.value_and_grad(loss)(state, x)
    return descend(state, gradient), {"loss": mean(value)}


def half(state, x):
    gradient = jax.grad(loss)(state, x)
    return descend(state, gradient | {"w": mean(gradient["w"])})


def synchronised(state, x):
    return descend(state, mean(jax.grad(loss)(state, x)))


@jax.jit
def jitted(state, x):
    value, gradient = jax.value_and_grad(loss)(state, x)
    return descend(state, mean(gradient)), value  # a metric may be a worker's own


def accumulated(state, x, *, mend=True):
    def one(carry, part):
        return jax.tree.map(jnp.add, carry, jax.grad(loss)(state, part)), None

    total, _ = jax.lax.scan(one, jax.tree.map(jnp.zeros_like, state), x.reshape(2, 4, 4))
    return descend(state, mean(total) if mend else total)


def unmended(state, x):
    return accumulated(state, x, mend=False)


def by_rank(state, x):
    return jax.tree.map(lambda p: p + jax.lax.axis_index("data"), synchronised(state, x))


def conditional(state, x):
    return jax.lax.cond(x.sum() > 0, synchronised, lambda state, x: state, state, x)


def other_axis(state, x):
    average = jax.vmap(lambda part: jax.lax.pmean(jax.grad(loss)(state, part), "model"), axis_name="model")
    return descend(state, average(x[None]))


@pytest.mark.parametrize("step", [synchronised, jitted, accumulated, jax.jit(accumulated)])
def test_jax_steps_that_synchronise(step):
    assert in_jax(step, STATE, X, axis="data") == []


@pytest.mark.parametrize("step", [plain, only_the_metric, unmended, by_rank, conditional, other_axis])
def test_jax_steps_that_do_not(step):
    [finding] = in_jax(step, STATE, X, axis="data")
    assert finding.severity == "failure" and finding.evidence["num_tensors"] == 2


def test_the_part_that_was_forgotten_is_named():
    [finding] = in_jax(half, STATE, X, axis="data")
    assert finding.site == "['b']" and finding.evidence["num_tensors"] == 1
