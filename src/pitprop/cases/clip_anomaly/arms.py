"""The arms of the experiment: how the cross-attention is put in, at which context norm, and what is changed besides."""

from dataclasses import dataclass

from pitprop.cases.clip_anomaly.cross_attention import VARIANTS, Injection
from pitprop.cases.clip_anomaly.options import VariantName

BASE = "none"
"""Name of the arm that continues the base."""
FROZEN = "adapters frozen"
"""Name of the arm that loads the base and trains nothing."""
NORMS = (1.0, 10.0, 50.0)
"""Context norms over feature norm; the seed's header gives 17 for a token, its features' norm isn't known."""
SCALES = (1.0, 0.3, 0.1, 0.03)
"""`image_cross_attn_weight` without norm matching."""
LADDER: tuple[VariantName, ...] = ("A", "B", "C", "D", "E", "layer_scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to run stage 2 from the loaded base."""

    injection: Injection | None
    context_norm: float = 1.0
    adapter_gradient: float = 1.0
    """Factor of the adapters' gradients; at 0 Adam leaves them where they are, to the bit."""
    branch_gradient: float = 1.0
    """Factor of the image cross-attention's gradients; 0: it stays random."""
    loss_factor: float = 1.0
    """Factor of the loss."""
    loops: int = 0
    """Feedback loops with both stages; 0: one stage 2 alone, on the text that the base left."""


def at(name: str, norm: float) -> str:
    """An arm's name."""
    return f"{name}, context x{norm:g}"


def scale_arm(scale: float, norm: float) -> str:
    """Name of the arm that has the branch at this scale, without norm matching."""
    return at({1.0: "A", 0.1: "B"}.get(scale, f"scale {scale:g}"), norm)


def story(norm: float, only: VariantName | None = None) -> dict[str, Arm]:
    """The base and the ladder at one context norm."""
    names = LADDER if only in (None, "none") else (only,)
    return {
        BASE: Arm(injection=None),
        **{at(name, norm): Arm(injection=VARIANTS[name], context_norm=norm) for name in names},
    }


def claim_arms(norm: float) -> dict[str, Arm]:
    """What the claims need besides the story."""
    found: dict[str, Arm] = {}
    for other in NORMS:
        for name in ("A", "B", "C"):
            found[at(name, other)] = Arm(injection=VARIANTS[name], context_norm=other)
        for scale in SCALES[1:]:
            if scale != 0.1:  # that is B
                found[scale_arm(scale, other)] = Arm(injection=Injection(weight=scale), context_norm=other)
    found[at("C at full scale", norm)] = Arm(injection=Injection(normalise=True, norm_match=True), context_norm=norm)
    found[at("only normalised, 0.1", norm)] = Arm(injection=Injection(weight=0.1, normalise=True), context_norm=norm)
    found["adapter gradients x0.375"] = Arm(injection=None, adapter_gradient=0.3748)
    found["loss x10"] = Arm(injection=None, loss_factor=10.0)
    found["loops: none"] = Arm(injection=None, loops=3)
    for name in ("A", "C"):
        found[at(f"loops: {name}", norm)] = Arm(injection=VARIANTS[name], context_norm=norm, loops=3)
    return {name: arm for name, arm in found.items() if name not in story(norm)}


def learning_arms(norm: float) -> dict[str, Arm]:
    """What tells a stage that learns from a slow one and from one that stalls, see `learning`."""
    low, middle, _ = NORMS
    found = {**story(norm), FROZEN: Arm(injection=None, adapter_gradient=0.0)}
    chosen: tuple[tuple[VariantName, float], ...] = (("A", low), ("B", low), ("B", middle))
    for name, other in chosen:
        found[at(name, other)] = Arm(injection=VARIANTS[name], context_norm=other)
    for name in ("A", "C"):
        found[at(f"{name}, cross-attention frozen", norm)] = Arm(
            injection=VARIANTS[name], context_norm=norm, branch_gradient=0.0
        )
    for name in ("adapter gradients x0.375", "loss x10", "loops: none", at("loops: C", norm)):
        found[name] = claim_arms(norm)[name]
    return found
