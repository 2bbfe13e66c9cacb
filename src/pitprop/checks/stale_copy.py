"""A second copy of the model whose weights follow the training, and whose buffers or flags don't.

## What it detects
Eight training steps are made. Where a copy of the model in the training (an EMA, a teacher, a target network) has moved
its parameters, and a buffer or a plain attribute (flag, counter, text) that has changed in the model is still what it
was in the copy, the copy is another model than the one it averages (warning).

## Why it matters
An average by hand goes over `parameters()`. Batch statistics, a stage counter and an `active` flag are none: what is
evaluated, or teaches, stays in the state it was copied in, and every number that is reported is that of a model nobody
trains. In one project it never had the new modules on.

## Reads
The recipe's training before and after eight whole steps, which are undone.

## Threshold
None: equal to the bit, or not. A copy whose parameters didn't move in these steps (a frozen teacher, a target that is
replaced every 1000 steps) is not judged.

## When it is wrong
Buffers that belong to the training and not to the model, such as a queue of negatives that only the student reads; an
attribute that only counts calls. A flag that a schedule switches later doesn't change in eight steps:
`train-eval-activity` compares what is there now, in a checkpoint too. Only copies with the same modules as the model
are known as such.

## Remedies
`ema` takes the buffers over at each update; so do `AveragedModel` and any average over the whole state dict. Flags
belong into buffers (`staged`).

## Example
>>> import copy, torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
>>> average = copy.deepcopy(model)
>>> def step(x):
...     with torch.no_grad():
...         for ours, theirs in zip(model.parameters(), average.parameters()):
...             ours.add_(0.1)
...             theirs.lerp_(ours, 0.1)
...     return {"loss": model(x).mean()}
>>> [finding] = CHECK.run(Subject(model=model, batches=(torch.randn(8, 4),), step=step, copies={"average": average}))
>>> finding.site, finding.message[:64]
('1', '1.num_batches_tracked, 1.running_mean, 1.running_var stayed as i')

## References
Catalogue of failure modes, modes 23 and 38; the average of the system behind the case `grid_solver`. Batch statistics
of averages: Izmailov et al., arXiv 1803.05407, section 3.2.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pitprop.checks._check import Subject, common, found, some
from pitprop.checks._forward import PLAIN, preserved, twin
from pitprop.checks._steps import NUM_STEPS
from pitprop.records import Finding

State = dict[tuple[str, str], Any]
"""By module and name."""


@dataclass(frozen=True, kw_only=True)
class StaleCopy:
    """Buffers and flags that stay behind."""

    name: ClassVar[str] = "stale-copy"
    needs: ClassVar[tuple[str, ...]] = ("batches", "step")

    def run(self, subject: Subject) -> list[Finding]:
        pairs = {name: there for name, copy in subject.copies.items() if (there := twin(subject.model, copy))}
        if not pairs:
            return []
        known = {"": subject.model, **pairs}
        with subject.kept(), contextlib.ExitStack() as stack:
            for module in known.values():
                stack.enter_context(preserved(module))
            before = {name: (_weights(module), _state(module)) for name, module in known.items()}
            for batch in islice(cycle(subject.batches), NUM_STEPS):
                subject.step(batch)  # type: ignore[misc]  # `needs` has it
            after = {name: (_weights(module), _state(module)) for name, module in known.items()}
        moved = {key for key, value in before[""][1].items() if not _equal(value, after[""][1].get(key))}
        findings = []
        for name in pairs:
            (weights, state), (weights_after, state_after) = before[name], after[name]
            if _same(weights, weights_after):
                continue
            stale = [key for key in sorted(moved & state.keys()) if _equal(state[key], state_after.get(key))]
            if stale:
                names = [".".join(filter(None, key)) for key in stale]
                message = (
                    f"{some(names)} stayed as it was in the copy `{name}`, whose weights follow the model, and "
                    "changed in the model: the copy is another one."
                )
                evidence = {"num_stale": len(stale)}
                findings.append(found(self.name, "warning", common(names), message, evidence, ("ema", "staged")))
        return findings


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def _state(module: nn.Module) -> State:
    """Buffers and plain attributes, but for the mode."""
    return {
        (path, key): value.clone() if isinstance(value, Tensor) else value
        for path, part in module.named_modules()
        for key, value in ({**vars(part), **part._buffers}).items()
        if key != "training" and (isinstance(value, Tensor) or type(value) in PLAIN)
    }


def _same(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    return all(_equal(value, after[name]) for name, value in before.items())


def _equal(one: Any, other: Any) -> bool:
    return (
        torch.equal(one, other)
        if isinstance(one, Tensor) and isinstance(other, Tensor)
        else one is other or one == other
    )


CHECK = StaleCopy()
