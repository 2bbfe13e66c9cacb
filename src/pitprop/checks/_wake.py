"""In which step each parameter first gets a gradient, found without training: the fixpoint of T3.

Round r: run backward; tensors that got a gradient for the first time are of order r; those of them that are all zero
are nudged, as a first step of any optimizer would. Nothing is assumed about learning rate or loss.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pitprop.checks._check import Subject
from pitprop.checks._forward import one_pass

ROUNDS = 16
"""Most zero factors in a row that are followed."""
NUDGE = 1e-2
"""Standard deviation of what a zero tensor is nudged by."""


@dataclass(frozen=True, slots=True)
class Waking:
    """Wake-up orders of a model's trainable parameters, by name."""

    orders: dict[str, int]
    """Rounds before the first gradient: 0 for most, 1 behind one zero factor, 2 behind two."""
    zero: list[str]
    """Parameters that were all zero, trainable or not."""
    silent: list[str]
    """Parameters whose gradient was exactly zero in every round."""
    absent: list[str]
    """Parameters that got none (None) in any round: outside the graph, behind a flag, or frozen out."""


def wake(subject: Subject) -> Waking:
    """Find the orders; leaves the zero tensors nudged, so call it within `preserved`."""
    parameters = dict(subject.model.named_parameters())
    zero = [name for name, p in parameters.items() if is_zero(p)]
    held = {id(p) for one in subject.optimizers for group in one.param_groups for p in group["params"]}
    orders: dict[str, int] = {}
    came: set[str] = set()
    for order in range(ROUNDS):
        alive, there = gradients_of(subject, orders)
        came |= there
        new = [name for name in parameters if name in alive and name not in orders]
        orders.update(dict.fromkeys(new, order))
        # A zero tensor that no optimizer holds stays zero, whatever its gradient.
        moving = [n for n in new if n in zero and (not held or id(parameters[n]) in held)]
        if not moving:
            break
        nudge([parameters[name] for name in moving])
    asking = [name for name, p in parameters.items() if p.requires_grad and name not in orders]
    return Waking(orders, zero, [n for n in asking if n in came], [n for n in asking if n not in came])


def gradients_of(subject: Subject, known=()) -> tuple[set[str], set[str]]:
    """Parameters with a non-zero gradient, and those with any at all, over the batches (stops when all have one)."""
    alive: set[str] = set(known)
    there: set[str] = set()
    batches = subject.batches if len(subject.batches) > 1 else subject.batches * 3  # dropout and noise differ
    for seed, batch in enumerate(batches):
        gradients = one_pass(subject, batch, seed=seed).gradients
        there |= {name for name, g in gradients.items() if g is not None}
        alive |= {name for name, g in gradients.items() if g is not None and bool((g != 0).any())}
        if alive >= gradients.keys():
            break
    return alive, there


def nudge(parameters: list[nn.Parameter]) -> None:
    """Add small noise to `parameters`."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(NUDGE * torch.randn_like(parameter))


def is_zero(parameter: torch.Tensor) -> bool:
    """Whether every element is exactly zero."""
    return parameter.numel() > 0 and not bool((parameter != 0).any())
