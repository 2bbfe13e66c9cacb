"""Workers that train one model each and believe that it is the same.

## What it detects
In a run of several workers (torch.distributed), parameters that differ between them before the first step, or after two
(failure). For jax, `in_jax` reads the step itself: parts of the new state that depend on a worker's own batch without a
sum over the data axis.

## Why it matters
Without the all-reduce each worker learns from its own share alone. The loss of every worker falls, the checkpoint is
that of worker 0, and the others' work is lost; or averages of weights hide it until they diverge.

## Reads
torch: two steps of the training, which are undone; each worker must ask at the same time, with its own batch.
Parameters that are sharded (FSDP) are left out. jax: the jaxpr; nothing is computed.

## Threshold
None: the same bits, or not.

## When it is wrong
Training that is local on purpose (federated, local SGD between two averages, an ensemble with a share each). In jax,
arrays that the compiler distributes by itself (`jit` with shardings) need no sum, so only steps that are mapped over an
axis are to be asked. Missed there: what was moved by `ppermute` or summed over some groups of workers only (a ring may
be a sum, so it is not judged); what a sum or a product outside of the mapping made of the batch, which counts as
everybody's; parameters in one array, side by side, that differ by the worker's number alone; and a `vmap` with an axis
name, which leaves no trace of its workers. Workers' results in one array that are brought together by other means
than a sum, a product or an extreme (by indexing and adding) are reported though they are right.

## Remedies
`DistributedDataParallel`, or `all_reduce` of the gradients; in jax `jax.lax.pmean(gradients, "data")`.

## Example
>>> import jax, jax.numpy as jnp
>>> def step(weights, x, mean=lambda g: g):
...     gradient = jax.grad(lambda w: jnp.mean((x @ w) ** 2))(weights)
...     return weights - 0.1 * mean(gradient)
>>> weights, x = jnp.ones(4), jnp.ones((8, 4))
>>> [finding] = in_jax(step, weights, x, axis="data")
>>> finding.severity, finding.message
('failure', 'the new state depends on each worker\\'s own batch, with no psum or pmean over "data" between.')
>>> in_jax(lambda w, x: step(w, x, lambda g: jax.lax.pmean(g, "data")), weights, x, axis="data")
[]

## References
Documentation of `torch.nn.parallel.DistributedDataParallel` and of `jax.lax.pmean`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import distributed

from pitprop.checks._check import Subject, common, found, some
from pitprop.checks._forward import preserved
from pitprop.records import Finding

if TYPE_CHECKING:
    from pitprop.checks._jax import JaxSubject

NAME = "unsynchronised-replicas"
NUM_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class UnsynchronisedReplicas:
    """Parameters that differ between workers."""

    name: ClassVar[str] = NAME
    needs: ClassVar[tuple[str, ...]] = ("batches", "step")

    def run(self, subject: Subject) -> list[Finding]:
        if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
            return []
        assert subject.step is not None  # `needs` has it
        differ = _differing(subject.model)
        when = "before the first step"
        if not differ:
            when = f"after {NUM_STEPS} steps"
            with subject.kept(), preserved(subject.model):
                for i in range(NUM_STEPS):
                    subject.step(subject.batches[i % len(subject.batches)])
                differ = _differing(subject.model)
        if not differ:
            return []
        workers = distributed.get_world_size()
        message = f"{len(differ)} parameters ({some(differ)}) differ between {workers} workers {when}."
        return [found(NAME, "failure", common(differ), message, {"num_tensors": len(differ), "num_workers": workers})]


def _differing(model: torch.nn.Module) -> list[str]:
    """Names of the parameters that are not the same bits on every worker."""
    whole = {name: p for name, p in model.named_parameters() if not hasattr(p, "to_local")}
    digests = {
        name: hashlib.sha256(p.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, p in whole.items()
    }
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, digests)
    return [name for name in digests if any(other.get(name) != digests[name] for other in everyone)]


def in_jax(step: Callable[..., Any], state: Any, *batch: Any, axis: str) -> list[Finding]:
    """Whether the state that `step(state, *batch)` returns is the same on all workers along `axis`.

    Args:
        step: What each worker does, as given to `pmap` or `shard_map`; returns the new state, or a tuple that begins
            with it.
        state: The state, equal on all workers.
        batch: A worker's own share.
        axis: Name of the data axis.
    """
    from pitprop.checks._jaxpr import own_parts

    own = own_parts(step, state, batch, axis)
    if not own:
        return []
    parts = f" at {some(own)}" if any(own) else ""
    message = f'the new state{parts} depends on each worker\'s own batch, with no psum or pmean over "{axis}" between.'
    return [found(NAME, "failure", own[0] or "<model>", message, {"num_tensors": len(own)})]


def of_jax(subject: "JaxSubject") -> list[Finding]:
    """The same question, of a whole jax step that maps over workers inside (`shard_map`, `pmap`)."""
    from pitprop.checks._jaxpr import differing_parts

    own = differing_parts(
        lambda state, batch: subject.step(state, batch, subject.tx)[0], subject.state, subject.batches[0]
    )
    parts = sorted(part for part in own if part.startswith("params"))
    if not parts:
        return []
    message = (
        f"{len(parts)} parameters ({some(parts)}) are computed by each worker from its own batch (or its number), with "
        "no psum or pmean between."
    )
    return [found(NAME, "failure", common(parts), message, {"num_tensors": len(parts)})]


CHECK = UnsynchronisedReplicas()
