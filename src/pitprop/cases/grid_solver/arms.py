"""The arms of the case: the seed's configurations, each accused change alone against OLD, and controls."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent / "configs"
THREE = {"use_hyperlora": True, "use_solver_context": True, "use_cross_attention_context": True}
"""What the seed calls the root cause."""
SMALL = {"batch_size": 16}


def configuration(name: str) -> dict[str, Any]:
    """One of the seed's configurations: `old`, `new`, `option_a`, `option_b` or `option_c`."""
    return tomllib.loads((CONFIGS / f"{name}.toml").read_text())


def arms() -> Mapping[str, dict[str, Any]]:
    """Knobs of each arm, as changes to the recipe's defaults, which are OLD."""
    return {
        "OLD": configuration("old"),
        "+ HyperLoRA": {"use_hyperlora": True},
        "+ SolverCrossAttention": {"use_solver_context": True},
        "+ CrossAttentionInjector": {"use_cross_attention_context": True},
        "+ HPM": {"use_hpm": True},
        "+ all three": THREE,
        "NEW": configuration("new"),
        "option A": configuration("option_a"),
        "option C": configuration("option_c"),
        "bias -0.5": {"bg_bias": -0.5},
        "bias prior": {"bg_bias": "prior"},
        "softmax": {"loss_mode": "softmax"},
        "half batch": SMALL,
        "half batch, all three": SMALL | THREE,
        "HyperLoRA, B = 0": {"use_hyperlora": True, "hyperlora_zero_b": True},
        "HyperLoRA, learning rate x 1": {"use_hyperlora": True, "hyperlora_lr_multiplier": 1.0},
        "HyperLoRA, clamped at 1": {"use_hyperlora": True, "hyperlora_largest_norm": 1.0},
        "option B": configuration("option_b"),
    }


MODULES = ("+ HyperLoRA", "+ SolverCrossAttention", "+ CrossAttentionInjector", "+ HPM")
VARIANTS = ("HyperLoRA, B = 0", "HyperLoRA, learning rate x 1", "HyperLoRA, clamped at 1")
"""HyperLoRA with one thing changed."""
FIRST = ("OLD", *MODULES, "+ all three", "half batch", "half batch, all three", "NEW", "option C", *VARIANTS)
"""What runs on all seeds; the others on the first three."""
NEXT = ("bias -0.5", "bias prior", "softmax")
"""What a claim is judged on, after those; the rest adds to the picture."""
ON_ARC = ("OLD", "+ HyperLoRA")
"""What runs on real tasks too, on all seeds."""
ON_ARC_TOO = ("+ all three", "NEW")
"""And on the first three."""
