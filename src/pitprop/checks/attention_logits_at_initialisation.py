"""Attention that has made its choice before it has learned anything.

## What it detects
At initialisation, on one batch, the logits of an attention head spread so far along the keys that a few keys carry the
mass.

## Why it matters
A softmax in that state passes little gradient to its queries and keys, and what it selects is an accident of the seed.
A forgotten 1/sqrt(d), a scale applied twice or queries of unnormalised features are enough.

## Reads
One batch. The spread comes from queries and keys, or from the scores before the softmax; no attention matrix is kept.

## Threshold
sigma over sqrt(2 ln n), the spread at which the softmax over n Gaussian logits condenses: a constant of the problem.
Near-uniform attention at initialisation (a ratio of 0.01 to 0.4) is how it should be and is never reported.

## When it is wrong
Pretrained weights and cosine attention with a large learned temperature select on purpose. With a handful of keys the
constant is rough. Biases that order the keys by position (ALiBi) spread the logits by design where they pass a softmax
of one's own.

## Remedies
Normalise queries and keys, or mend the scale.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> class Attention(nn.Module):
...     def __init__(self, scale):
...         super().__init__()
...         self.qkv, self.scale = nn.Linear(32, 96), scale
...     def forward(self, x):
...         q, k, v = self.qkv(x)[:, None].chunk(3, -1)
...         return nn.functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
>>> x = torch.randn(4, 16, 32)
>>> [[f.severity for f in CHECK.run(Subject(model=Attention(s), batches=(x,)))] for s in (32**-0.5, 5.0)]
[[], ['warning']]

## References
Derivation T5 and modes 1, 2 and 5 of the catalogue. Giorlandino and Goldt, arXiv 2505.24333. The rule
`attention-concentration` sees the same over time.
"""

from dataclasses import dataclass
from typing import ClassVar

from pitprop.checks._check import Subject, found
from pitprop.checks._measure import measure
from pitprop.records import Finding


@dataclass(frozen=True, kw_only=True)
class AttentionLogitsAtInitialisation:
    """Attention logits past condensation."""

    name: ClassVar[str] = "attention-logits-at-initialisation"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    def run(self, subject: Subject) -> list[Finding]:
        measured = measure(subject)
        entropy = measured.means("attention_entropy")
        return [
            found(
                self.name,
                "warning",
                site,
                f"attention logits at {site} spread {scale:.2f} times as far as where attention condenses onto few "
                f"keys, before the first step (normalised entropy {entropy[site]:.2f}).",
                {"attention_logit_scale": scale, "attention_entropy": entropy[site]},
                ("qk-norm", "Knob"),
            )
            for site, scale in measured.means("attention_logit_scale").items()
            if scale > 1
        ]


CHECK = AttentionLogitsAtInitialisation()
