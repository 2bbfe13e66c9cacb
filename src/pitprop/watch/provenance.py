"""Where the tensors of one forward pass come from: enough to know attention scores and residual branches by descent.

Tags are kept per storage, under weak references: views share their tag for free, no activation is kept alive, and an
address that is used again can't be mistaken for the old one while its weak reference is held.
"""

from typing import NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

PARAMETER, EMBEDDING, SCORES, WEIGHTS = 1, 2, 4, 8
"""What a tensor is made of: parameters only; an embedding; attention scores (q k^T); attention weights (softmax)."""

MAX_OPERATIONS = 20_000
"""Operations followed in one forward pass; ancestry is a bit per operation, so memory grows with the square."""

aten = torch.ops.aten
BATCHED_PRODUCT, PRODUCT, SOFTMAX, LOOKUP, SAME_ORIGIN, SHAPE_ONLY = range(6)
ROLES = {
    **dict.fromkeys((aten.bmm.default, aten.baddbmm.default), BATCHED_PRODUCT),
    **dict.fromkeys((aten.mm.default, aten.addmm.default, aten.convolution.default), PRODUCT),
    **dict.fromkeys((aten._softmax.default, aten._safe_softmax.default), SOFTMAX),
    aten.embedding.default: LOOKUP,
    **dict.fromkeys(
        (
            aten.mul.Tensor,
            aten.mul.Scalar,
            aten.mul_.Tensor,
            aten.div.Tensor,
            aten.div_.Tensor,
            aten.native_dropout.default,
            aten._to_copy.default,
            aten.clone.default,
            aten._unsafe_view.default,
        ),
        SAME_ORIGIN,
    ),
    **dict.fromkeys(
        (
            aten.full_like.default,
            aten.zeros_like.default,
            aten.ones_like.default,
            aten.new_full.default,
            aten.new_zeros.default,
            aten.new_ones.default,
            aten.rand_like.default,
            aten.randn_like.default,
        ),
        SHAPE_ONLY,
    ),
}
"""Operations that mean something here. Products end what went in; those of `SAME_ORIGIN` (scaling, dropout, casts,
copies) hand on what another module made; those of `SHAPE_ONLY` take no value over (a mask isn't computed from what it
is as large as)."""


class Tag(NamedTuple):
    """What is known of one tensor."""

    bit: int
    """Bit of the operation that made it."""
    ancestors: int
    """Bits of everything it was computed from, itself included."""
    origin: str | None
    """Site whose code made it, through scaling and dropout; None for inputs, buffers and parameters."""
    kind: int
    """PARAMETER, EMBEDDING, SCORES and WEIGHTS, or'ed."""


class Provenance:
    """Tags of the tensors of one forward pass, by storage.

    Args:
        parameters: Storages of the model's parameters, as `storage_key` gives them.
    """

    def __init__(self, parameters: frozenset[int]):
        self._parameters = parameters
        self._tags: dict[int, tuple[StorageWeakRef, Tag]] = {}
        self._next = 0

    @property
    def full(self) -> bool:
        """No further operation is followed in this forward pass."""
        return self._next >= MAX_OPERATIONS

    def tag(self, tensor: torch.Tensor) -> Tag:
        """Tag of a tensor; one that was not made in this forward pass gets one as an input."""
        key = storage_key(tensor)
        found = self._tags.get(key)
        if found is not None:
            return found[1]
        bit = self._bit()
        return self._keep(tensor, Tag(bit, bit, None, PARAMETER if key in self._parameters else 0))

    def follow(self, func, inputs: list[torch.Tensor], outputs: list[torch.Tensor], site: str | None) -> None:
        """Tag what `func` made of `inputs` while the code of `site` ran."""
        role = ROLES.get(func)
        if role == SHAPE_ONLY:
            inputs = []
        tags = [self.tag(tensor) for tensor in inputs]
        storages = {storage_key(tensor) for tensor in inputs}
        bit = self._bit()
        ancestors = bit
        for tag in tags:
            ancestors |= tag.ancestors
        origin = site
        if role == SAME_ORIGIN and tags:
            origin = _made_by(inputs, tags) or site
        for output in outputs:
            if storage_key(output) in storages and not func._schema.is_mutable:
                continue  # a view keeps the tag of what it shows
            self._keep(output, Tag(bit, ancestors, origin, _kind(role, inputs, tags, output)))

    def _bit(self) -> int:
        self._next += 1
        return 1 << self._next

    def _keep(self, tensor: torch.Tensor, tag: Tag) -> Tag:
        self._tags[storage_key(tensor)] = (StorageWeakRef(tensor.untyped_storage()), tag)
        return tag


def storage_key(tensor: torch.Tensor) -> int:
    """Address of the storage behind a tensor; the same for all of its views."""
    return tensor.untyped_storage()._cdata


def _made_by(inputs: list[torch.Tensor], tags: list[Tag]) -> str | None:
    """Origin of the largest input that has one: the one that is scaled, rather than the factor."""
    made = [
        (tensor.numel(), -i, tag.origin) for i, (tensor, tag) in enumerate(zip(inputs, tags, strict=True)) if tag.origin
    ]
    return max(made)[2] if made else None


def _kind(role: int | None, inputs: list[torch.Tensor], tags: list[Tag], output: torch.Tensor) -> int:
    kind = PARAMETER if tags and all(tag.kind & PARAMETER for tag in tags) else 0
    if role == LOOKUP:
        return EMBEDDING
    if role == BATCHED_PRODUCT:
        return kind if any(tag.kind & (PARAMETER | WEIGHTS) for tag in tags[-2:]) else SCORES
    if role == PRODUCT:
        return kind
    if role == SOFTMAX:
        return kind | (WEIGHTS if tags[0].kind & SCORES else 0)
    handed_on = EMBEDDING | SCORES | WEIGHTS if role == SAME_ORIGIN else SCORES | WEIGHTS
    for tensor, tag in zip(inputs, tags, strict=True):
        if tag.kind & handed_on and tensor.numel() == output.numel():
            kind |= tag.kind & handed_on
    return kind
