"""Zero-initialised tensors that never wake up, and in which order the others do.

## What it detects
For every parameter its wake-up order: 0 when it has a gradient at once, 1 or 2 when one or two zero tensors must move
first (a note), infinity when no number of steps helps: each of two zero factors waits for the other (failure).

## Why it matters
Behind one zero factor a parameter starts a step later, and that is all: adaLN-Zero is 0/1/2 and healthy. Behind two
that wait for each other nothing ever moves, the loss falls by the rest of the model, and no curve shows it. LoRA with
A = B = 0 and ReZero whose branch ends in a zero projection are such.

## Reads
Up to three batches, with a backward pass each, per round; mostly two rounds. With optimizers given, a zero tensor that
none of them holds counts as one that can't move.

## Threshold
None: a gradient is exactly zero or it isn't. Dead is what stays without gradient when every zero tensor that gets one
has moved, and would have one if all zero tensors had moved. So a key bias under softmax, an embedding that is not
looked up and a module multiplied by a zero flag are never dead: no zero tensor stands in their way.

## When it is wrong
It looks at whole tensors: a zero half of a fused projection is not told apart. A zero factor that is set by hand later
on (a ramp over steps kept in a frozen parameter) is reported. In float16 a gradient may be zero by underflow.

## Remedies
Keep one zero factor per path: in LoRA zero B alone, in ReZero the scalar alone.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class LoRA(nn.Module):
...     def __init__(self, down):
...         super().__init__()
...         self.base = nn.Linear(8, 8).requires_grad_(False)
...         self.A, self.B = nn.Parameter(down), nn.Parameter(torch.zeros(2, 8))
...     def forward(self, x):
...         return self.base(x) + x @ self.A @ self.B
>>> x = torch.randn(5, 8)
>>> for down in (torch.zeros(8, 2), torch.randn(8, 2)):
...     [finding] = CHECK.run(Subject(model=LoRA(down), batches=(x,)))
...     print(finding.severity, finding.message)
failure 2 zero tensors (A, B) wait for each other: 2 of 2 trainable tensors never get a gradient.
note wake-up order 0: 1 tensors (B); 1: 1 tensors (A). Behind zero tensors learning starts that many steps late.

## References
Catalogue of failure modes, mode 10, and its derivation T3. ReZero, arXiv 2003.04887; LoRA, arXiv 2106.09685;
adaLN-Zero, arXiv 2212.09748; the FAQ of ControlNet on zero convolutions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pitprop.checks._check import ROOT, Subject, common, found, some
from pitprop.checks._forward import preserved
from pitprop.checks._wake import Waking, gradients_of, is_zero, nudge, wake
from pitprop.records import Finding

if TYPE_CHECKING:
    from pitprop.checks._jax import JaxSubject


@dataclass(frozen=True, kw_only=True)
class DeadZeroChain:
    """Zero factors that wait for each other."""

    name: ClassVar[str] = "dead-zero-chain"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        model = subject.model
        with preserved(model):
            waking = wake(subject)
            parameters = dict(model.named_parameters())
            stuck = [name for name in waking.zero if is_zero(parameters[name])]
            dead = []
            if stuck and waking.silent:
                nudge([parameters[name] for name in stuck])
                alive, _ = gradients_of(subject, waking.orders)
                dead = [name for name in waking.silent if name in alive]
        if dead:
            return [self._dead(dead, stuck, waking)]
        return [self._orders(waking)] if any(waking.orders.values()) else []

    def _dead(self, dead: list[str], stuck: list[str], waking: Waking) -> Finding:
        chain = [name for name in stuck if name in dead]
        still = [name for name in stuck if name not in dead]
        blamed = (
            f"{len(chain)} zero tensors ({some(chain)}) wait for each other"
            if len(chain) > 1
            else f"{some(still or chain)} is zero and nothing moves it"
        )
        total = len(waking.orders) + len(waking.silent) + len(waking.absent)
        return found(
            self.name,
            "failure",
            common(dead),
            f"{blamed}: {len(dead)} of {total} trainable tensors never get a gradient.",
            {"num_dead": len(dead), "num_zero": len(stuck), "num_trainable": total},
            ("Knob", "Reinitialise"),
        )

    def _orders(self, waking: Waking) -> Finding:
        by_order: dict[int, list[str]] = {}
        for name, order in waking.orders.items():
            by_order.setdefault(order, []).append(name)
        told = "; ".join(f"{order}: {len(by_order[order])} tensors ({some(by_order[order])})" for order in by_order)
        return found(
            self.name,
            "note",
            ROOT,
            f"wake-up order {told}. Behind zero tensors learning starts that many steps late.",
            {f"num_order_{order}": len(names) for order, names in by_order.items()},
        )


def of_jax(subject: "JaxSubject") -> list[Finding]:
    """The same question, of the parameters of a jax step."""
    from pitprop.checks import _jax

    waking, changed = _jax.wake(subject)
    stuck = [name for name in waking.zero if name not in changed]
    dead = []
    if stuck and waking.silent:
        alive = _jax.gradients_of(subject, changed | _jax.nudged(subject, stuck))
        dead = [name for name in waking.silent if name in alive]
    if dead:
        return [CHECK._dead(dead, stuck, waking)]
    return [CHECK._orders(waking)] if any(waking.orders.values()) else []


CHECK = DeadZeroChain()
