"""A few whole training steps: in which order gradients came, were clipped and were used, and what was returned."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import torch
from torch.nn.utils import clip_grad

from pitprop.checks._check import Subject, once
from pitprop.checks._forward import preserved

NUM_STEPS = 8
"""Steps that are watched: enough for an accumulation over four batches to update twice."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Gradients came from a backward pass."""


@dataclass(frozen=True, slots=True)
class Clipped:
    """One of torch's three functions that clip gradients was called."""

    norm: float
    """Norm of the gradients it was given, or their largest entry where entries are clipped; 0 where there were none."""
    bound: float


@dataclass(slots=True)
class Updated:
    """An optimizer made one step."""

    optimizer: Any
    gradients: dict[str, bool | None] = field(default_factory=dict)
    """Parameter -> whether its gradient had any non-zero element; None where there was no gradient."""
    moving: dict[str, int] = field(default_factory=dict)
    """Parameter -> elements with a gradient; only of groups whose learning rate isn't zero."""
    stuck: dict[str, int] = field(default_factory=dict)
    """Parameter -> those of them that the step left as they were."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A step is done."""

    numbers: dict[str, float]
    """What it returned of single numbers, by name; empty where it returned no mapping."""


Event = Arrived | Clipped | Updated | Returned


@once
def watch_steps(subject: Subject) -> list[Event]:
    """Make `NUM_STEPS` training steps on the subject's batches, which are then undone; the events in their order."""
    step = subject.step
    assert step is not None  # the checks that call this need it
    events: list[Event] = []
    with subject.kept(), preserved(subject.model), _recording(subject, events):
        for batch in islice(cycle(subject.batches), NUM_STEPS):
            events.append(Returned(_numbers(step(batch))))
    return events


def updates(subject: Subject) -> dict[int, list[Updated]]:
    """The updates that each optimizer made, by its number."""
    rows: dict[int, list[Updated]] = {i: [] for i in range(len(subject.optimizers))}
    for event in watch_steps(subject):
        if isinstance(event, Updated):
            rows[subject.optimizers.index(event.optimizer)].append(event)
    return rows


@contextlib.contextmanager
def _recording(subject: Subject, events: list[Event]) -> Iterator[None]:
    names = {p: name for name, p in subject.model.named_parameters()}

    def arrived(_parameter) -> None:
        if not events or not isinstance(events[-1], Arrived):
            events.append(Arrived())

    def by_norm(parameters, max_norm, total_norm, *args, **kwargs):
        events.append(Clipped(float(total_norm), float(max_norm)))
        return plain_by_norm(parameters, max_norm, total_norm, *args, **kwargs)

    def by_value(parameters, clip_value, *args, **kwargs):
        parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        largest = [float(p.grad.abs().max()) for p in parameters if p.grad is not None and p.grad.numel()]
        events.append(Clipped(max(largest, default=0.0), float(clip_value)))
        return plain_by_value(parameters, clip_value, *args, **kwargs)

    before: dict[torch.Tensor, torch.Tensor] = {}

    def about_to_step(optimizer, _args, _kwargs) -> None:
        event = Updated(optimizer)
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p in names:
                    event.gradients[names[p]] = None if p.grad is None else bool((p.grad != 0).any())
                    before[p] = p.detach().clone()
        events.append(event)

    def stepped(optimizer, _args, _kwargs) -> None:
        event = events[-1]
        for group in optimizer.param_groups:
            for p in group["params"]:
                if isinstance(event, Updated) and p in names and p.grad is not None and float(group["lr"]) != 0:
                    asked = p.grad != 0
                    event.moving[names[p]] = int(asked.sum())
                    event.stuck[names[p]] = int((asked & (p.detach() == before[p])).sum())
        before.clear()

    # Both are closures of torch's own wrapper; what they close over is exchanged, so that imports by name are seen too.
    # `clip_grad_norm_` calls the first one.
    norm_cell, value_cell = _cell(clip_grad._clip_grads_with_norm_), _cell(clip_grad.clip_grad_value_)
    plain_by_norm, plain_by_value = norm_cell.cell_contents, value_cell.cell_contents
    handles = [p.register_post_accumulate_grad_hook(arrived) for p in names if p.requires_grad]
    for optimizer in subject.optimizers:
        handles.append(optimizer.register_step_pre_hook(about_to_step))
        handles.append(optimizer.register_step_post_hook(stepped))
    norm_cell.cell_contents, value_cell.cell_contents = by_norm, by_value
    try:
        yield
    finally:
        norm_cell.cell_contents, value_cell.cell_contents = plain_by_norm, plain_by_value
        for handle in handles:
            handle.remove()


def _numbers(returned: Any) -> dict[str, float]:
    if not isinstance(returned, Mapping):
        return {}
    numbers = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in returned.items()}
    return {
        str(k): float(v)
        for k, v in numbers.items()
        if isinstance(v, int | float) or (isinstance(v, torch.Tensor) and v.numel() == 1 and not v.is_complex())
    }


def _cell(function: Any) -> Any:
    [cell] = function.__closure__
    return cell
