"""pitprop finds out why a network's training collapsed, by controlled experiment, and proves the fix.

The public names load when they are first used: `import pitprop` imports neither torch nor jax.
"""

import importlib

from pitprop._errors import PitpropError
from pitprop.records import RUN, Comparison, Finding, Row, RunInfo

__version__ = "0.1.0"

_LAZY = {
    "watch": "pitprop.watch",
    "check": "pitprop.checks",
    "detect": "pitprop.rules",
    "Recipe": "pitprop.trials.recipe",
    "bisect": "pitprop.trials",
    "diagnose": "pitprop.trials",
    "gradient_share": "pitprop.trials",
    "rescue": "pitprop.trials",
    "trial": "pitprop.trials",
}
"""Public name -> the module that holds it."""

_MODULES = ("optax",)
"""Public names that are modules themselves."""

__all__ = [
    "RUN",
    "Comparison",
    "Finding",
    "PitpropError",
    "Recipe",
    "Row",
    "RunInfo",
    "bisect",
    "check",
    "detect",
    "diagnose",
    "gradient_share",
    "optax",
    "rescue",
    "trial",
    "watch",
]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"pitprop.{name}")
    raise AttributeError(f"module 'pitprop' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_LAZY, *_MODULES})
