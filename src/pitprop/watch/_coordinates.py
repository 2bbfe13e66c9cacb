"""From entries of tensors to numbers of modules: the measures of `indicators`, for all modules at once."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pitprop._array import NAN

SMALLEST = 16
"""Entries under which a direction says nothing: a single number always points along itself."""


class Facts(NamedTuple):
    """What is known of a tensor whose entries were looked at, and of the step that its optimizer took."""

    lr: float
    weight_decay: float
    decoupled: bool
    """Whether the decay acts on the weight itself, beside the update."""
    eps: float
    beta: float
    """Decay of a second moment whose bias is to be corrected; 0 where there is none."""
    site: str = ""
    num_entries: int = 0
    num_looked_at: int = 0
    half: bool = False
    has_second: bool = False
    has_momentum: bool = False
    steps: float = NAN
    """Steps that the optimizer has taken with it."""


def by_site(facts: Sequence[Facts], numbers: Float[np.ndarray, "5 entry"]) -> dict[str, dict[str, float]]:
    """`{indicator: {site: value}}`; a measure that no tensor of a site allows is absent there.

    Args:
        facts: Of each tensor, those of one site together.
        numbers: Weight before the step, its change, gradient, momentum before the step and second moment after it, of
            the entries of all tensors in turn.
    """
    counts = [one.num_looked_at for one in facts]
    sites = [(site, sum(one.num_looked_at for one in of)) for site, of in groupby(facts, lambda one: one.site)]
    starts = np.cumsum([0, *(count for _, count in sites[:-1])])
    weight, change, gradient, momentum, second = numbers

    def spread(values: Sequence[float]) -> np.ndarray:
        return np.repeat(np.asarray(values, dtype=np.float64), counts)

    # An entry stands for as many as it was picked from.
    stands_for = spread([one.num_entries / one.num_looked_at for one in facts])

    def total(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.where(keep, stands_for * values, 0.0), starts)

    def mean(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
        return total(values, keep) / total(np.ones_like(values), keep)

    def cosine(a: np.ndarray, b: np.ndarray, keep: np.ndarray) -> np.ndarray:
        return total(a * b, keep) / np.sqrt(total(a * a, keep) * total(b * b, keep))

    lr, decay = spread([one.lr for one in facts]), spread([one.weight_decay for one in facts])
    eps = spread([one.eps for one in facts])
    adaptive = spread([one.has_second for one in facts]) > 0
    moving, decaying = lr > 0, (decay > 0) & (lr > 0)
    directed = decaying & np.repeat([num >= SMALLEST for num in _entries(facts)], counts)
    with np.errstate(all="ignore"):  # 0 / 0 is NaN here, and NaN is what it means
        bias = spread([1 - one.beta**one.steps if one.beta > 0 else 1.0 for one in facts])
        second = second / bias
        used = adaptive & (second != 0)
        own = np.where(spread([one.decoupled for one in facts]) > 0, change + lr * decay * weight, change)
        length, after = total(weight * weight, directed), total((weight + change) ** 2, directed)
        chord = (total(change * change, directed) - (np.sqrt(after) - np.sqrt(length)) ** 2) / np.sqrt(after * length)
        angle = 2 * np.arcsin(np.clip(np.sqrt(np.maximum(chord, 0)) / 2, 0, 1))
        everywhere = np.ones_like(moving)
        half = spread([one.half for one in facts]) > 0
        found = {
            "weight_rms": (np.sqrt(mean(weight * weight, everywhere)), everywhere),
            "step_scale": (np.sqrt(mean((own / lr) ** 2, adaptive & moving)), adaptive & moving),
            "starved_share": (mean(np.sqrt(second) < 10 * eps, used), adaptive),
            "second_moment_ratio": (np.sqrt(mean(gradient * gradient / second, used)), adaptive),
            "momentum_alignment": (
                cosine(gradient, momentum, everywhere),
                spread([one.has_momentum for one in facts]) > 0,
            ),
            "shrinkage": (-cosine(change, weight, directed), directed),
            "rotation_ratio": (angle / np.sqrt(2 * mean(lr * decay, directed)), directed),
            "lost_update_share": (mean(change == 0, half & moving & (gradient != 0)), half & moving),
        }
    measured = {}
    for indicator, (values, possible) in found.items():
        there = np.logical_or.reduceat(possible, starts)
        at = {site: float(value) for (site, _), value, yes in zip(sites, values, there, strict=True) if yes}
        if at:
            measured[indicator] = at
    return measured


def _entries(facts: Sequence[Facts]) -> list[int]:
    """Entries of the site that each tensor belongs to, those of tensors that decay."""
    total: dict[str, int] = {}
    for one in facts:
        total[one.site] = total.get(one.site, 0) + (one.num_entries if one.weight_decay > 0 else 0)
    return [total[one.site] for one in facts]
