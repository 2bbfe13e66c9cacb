"""Dotted names: which modules stand for blocks and attention, and who owns a parameter.

Everything here is read from the model once, before the first step, by structure and names alone; nothing is called.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROOT = "<model>"
"""Site of the model itself, whose dotted name is empty."""

PROJECTIONS = (
    ("q", "k", "v"),
    ("q_proj", "k_proj", "v_proj"),
    ("to_q", "to_k", "to_v"),
    ("to_q", "to_kv"),
    ("query", "key", "value"),
    ("wq", "wk", "wv"),
    ("qkv",),
    ("to_qkv",),
    ("qkv_proj",),
    ("Wqkv",),
    ("c_attn",),
    ("in_proj_weight",),
)
"""Attributes by which attention is known when its class name doesn't say so."""

CONTAINERS = ("ModuleList", "Sequential", "ModuleDict")
COMPILED = "_orig_mod"


@dataclass(frozen=True, kw_only=True)
class Sites:
    """What a model is made of, as far as watching needs to know."""

    names: Mapping[Any, str]
    """Module -> dotted name (the first one, where a module has several)."""
    attention: frozenset[str]
    """Sites where attention is expected: the innermost modules that look like it."""
    blocks: frozenset[str]
    """Sites that should hand on a `[batch, token, width]` stream: parents of attention, and elements of containers."""
    owners: Mapping[Any, str]
    """Parameter, frozen ones too (they may be unfrozen later) -> dotted name of the module that owns it."""
    compiled: frozenset[str] = field(default_factory=frozenset)
    """Sites of modules that run compiled: their insides can't be told apart."""
    inside_compiled: frozenset[Any] = field(default_factory=frozenset)
    """Modules that run inside compiled code, where hooks must not be put."""


def read_sites(model: Any) -> Sites:
    """Read the sites of a torch module.

    `torch.compile`'s wrapper does not show in names: `_orig_mod.` is cut out.
    """
    names: dict[Any, str] = {}
    compiled: set[str] = set()
    inside: set[Any] = set()
    for path, module in model.named_modules():
        names[module] = dotted(path)
        if hasattr(module, COMPILED):
            compiled.add(names[module])
            inside.update(module._orig_mod.modules())
        elif getattr(module, "_compiled_call_impl", None) is not None:
            compiled.add(names[module])
            inside.update(module.modules())
    attention = {module for module in names if looks_like_attention(module)}
    innermost = {m for m in attention if not any(child in attention for child in m.modules() if child is not m)}
    blocks = set()
    for module in names:
        children = list(module.children())
        if type(module).__name__ in CONTAINERS:
            blocks.update(child for child in children if any(True for _ in child.children()))
        elif module not in attention and any(child in attention for child in children):
            blocks.add(module)
    owners = {}
    for module, name in names.items():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(parameter, name)
    return Sites(
        names=names,
        attention=frozenset(names[m] for m in innermost),
        blocks=frozenset(names[m] for m in blocks if type(m).__name__ not in CONTAINERS),
        owners=owners,
        compiled=frozenset(compiled),
        inside_compiled=frozenset(inside),
    )


def looks_like_attention(module: Any) -> bool:
    """By class name, or by its query, key and value projections."""
    return "attention" in type(module).__name__.lower() or any(
        all(name in module._modules or name in module._parameters for name in group) for group in PROJECTIONS
    )


def dotted(path: str) -> str:
    """Dotted name without the compiler's wrapper; the model itself is `<model>`."""
    return ".".join(part for part in path.split(".") if part and part != COMPILED) or ROOT


def is_below(site: str, ancestor: str) -> bool:
    """Whether `site` lies strictly inside `ancestor`."""
    return site != ancestor and (ancestor == ROOT or site.startswith(ancestor + "."))


def child_towards(site: str, ancestor: str) -> str:
    """The direct child of `ancestor` on the way to `site`, which lies below it."""
    skip = 0 if ancestor == ROOT else ancestor.count(".") + 1
    return ".".join(site.split(".")[: skip + 1])
