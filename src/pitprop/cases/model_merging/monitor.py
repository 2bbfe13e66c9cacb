"""The seed's attention monitor, with its thresholds and the correct reading of the same number side by side."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from pitprop.indicators import attention_entropy
from pitprop.rules.attention_uniformity import AttentionUniformity

WARNING, CRITICAL = 0.5, 0.2
"""The seed's thresholds: "warning" under 0.5, "critical (near-uniform)" under 0.2."""


class Reading(NamedTuple):
    """One entropy, read twice."""

    entropy: float
    """Normalised: 1 is uniform, 0 one-hot."""
    seed: str
    """What the seed's thresholds call it."""
    correct: str
    """What it is. Neither end is a verdict on the outputs."""


def seed_reading(entropy: float) -> str:
    """The seed's rule, word for word: a low entropy is taken for uniformity, so that uniform attention is "healthy"."""
    return "healthy" if entropy > WARNING else "warning" if entropy > CRITICAL else "critical"


def correct_reading(entropy: float) -> str:
    """Uniform where the entropy is maximal up to 0.001 (as the rule attention-uniformity has it), one-hot where it
    is minimal.
    """
    gap = AttentionUniformity().gap
    return "uniform" if entropy > 1 - gap else "one-hot" if entropy < gap else "selective"


class AttentionEntropyMonitor:
    """Follows attention over training, as the seed's class of that name does, and reads it both ways."""

    def __init__(self):
        self.readings: list[tuple[int, Reading]] = []

    def compute_entropy(self, attention_weights: Float[Tensor, "*batch query key"]) -> float:
        """Mean entropy of the rows over ln(keys)."""
        return float(attention_entropy(attention_weights).mean())

    def update(self, step: int, entropy: float) -> Reading:
        """Adds one measurement and returns its two readings."""
        reading = Reading(entropy, seed_reading(entropy), correct_reading(entropy))
        self.readings.append((step, reading))
        return reading
