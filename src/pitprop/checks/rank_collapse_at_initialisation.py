"""All tokens are the same vector before anything was learned.

## What it detects
Along a stack of blocks the tokens of one sample draw together: at a block's exit two of them differ by less than 1 % of
their length (failure), or by less than a tenth of what they did at the stack's entrance (warning).

## Why it matters
Attention mixes tokens. Without a residual connection beside it, a stack of attention makes them all equal within a few
layers, doubly exponentially in depth, and attention above can select nothing. Its two symptoms, uniform attention and
equal outputs, are taken for what training did.

## Reads
One batch; what every block takes and hands on as `[batch, token, width]`.

## Threshold
Distance between two tokens as a share of their length, sqrt(2 (1 - cosine)). Failure under 0.01, the level of the rule
`token-uniformity`; warning at a tenth of the entrance. Both are conventions; the model's own entrance is the reference,
so tokens that come in equal are no finding.

## When it is wrong
A stack that pools its tokens on purpose. Streams with a common direction that dominates (a large bias) keep small
differences that a normalisation brings back. Padding that was not cut off counts as equal tokens.

## Remedies
Residual connections are what prevents it. Gates on the attention output don't.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Layer(nn.Module):
...     def __init__(self, residual):
...         super().__init__()
...         self.attention, self.residual = nn.MultiheadAttention(16, 2, batch_first=True), residual
...     def forward(self, x):
...         return self.residual * x + self.attention(x, x, x, need_weights=False)[0]
>>> x = torch.randn(4, 12, 16)
>>> for residual in (0, 1):
...     model = nn.Sequential(*(Layer(residual) for _ in range(4)))
...     print([f.severity for f in CHECK.run(Subject(model=model, batches=(x,)))])
['failure']
[]

## References
Dong, Cordonnier and Loukas, arXiv 2103.03404; Noci et al., arXiv 2206.03126. Catalogue of failure modes, mode 3.
"""

from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, found
from pitprop.checks._measure import Block, measure
from pitprop.records import Finding, Severity


@dataclass(frozen=True, kw_only=True)
class RankCollapseAtInitialisation:
    """Tokens that draw together with depth."""

    name: ClassVar[str] = "rank-collapse-at-initialisation"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    distance: float = 0.01
    """Distance between two tokens, as a share of their length, under which they are the same."""
    fall: float = 0.1
    """Share of the entrance's distance under which it is a warning."""

    def run(self, subject: Subject) -> list[Finding]:
        return [finding for stack in measure(subject).stacks() for finding in self._judge(stack)]

    def _judge(self, stack: list[Block]) -> list[Finding]:
        entrance = stack[0].distance_in
        # NaN (tokens of length zero) compares false: undefined is no collapse.
        fallen = [block for block in stack if block.distance_out < self.fall * entrance]
        same = [block for block in fallen if block.distance_out < self.distance]
        if not fallen:
            return []
        severity: Severity = "failure" if same else "warning"
        first = (same or fallen)[0]
        path = " -> ".join(f"{d:.2g}" for d in (entrance, *(block.distance_out for block in stack)))
        message = (
            f"two tokens differ by {first.distance_out:.1%} of their length behind {first.site}, "
            f"by {entrance:.0%} at the entrance of the stack (by depth {path})."
        )
        evidence = {"token_distance": first.distance_out, "token_distance_entrance": entrance}
        return [found(self.name, severity, first.site, message, evidence, ("Replace", "layer-scale"))]


CHECK = RankCollapseAtInitialisation()
