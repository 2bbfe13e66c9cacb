"""What looks at the attention maps: the store, the comparison with the original image's, and the cross variance."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Maps = Float[Tensor, "stream head query key"]


class AttentionStore:
    """Keeps attention maps by step and layer.

    Args:
        cross_queries: Only cross-attention maps with as many queries are kept, and none of the middle block, because
            the original averages over down and up blocks alone.
        keep_self: Whether self-attention maps are kept.
    """

    def __init__(self, cross_queries: int, keep_self: bool = False):
        self.cross_queries, self.keep_self = cross_queries, keep_self
        self.self_maps: list[list[Maps]] = []
        self.cross_maps: list[list[Maps]] = []

    def next_step(self) -> None:
        """A denoising step begins."""
        self.self_maps.append([])
        self.cross_maps.append([])

    def __call__(self, attention: Maps, is_cross: bool, place: str) -> Maps:
        """Keeps the map and hands it on unchanged."""
        if is_cross:
            if place != "mid" and attention.shape[2] == self.cross_queries:
                self.cross_maps[-1].append(attention)
        elif self.keep_self:
            self.self_maps[-1].append(attention)
        return attention


class AttentionControlEdit:
    """Compares the self-attention of an adversarial pass with that of the original image.

    As in the original, the maps go on unchanged: `replace_self_attention` names the target of the loss.

    Args:
        store: Keeps the cross-attention.
        originals: Self-attention maps of the original image by step and layer; a first axis of 1 serves all streams.
        num_self_replace: Number of steps, from the first active one, whose maps are compared.
    """

    def __init__(self, store: AttentionStore, originals: list[list[Maps]], num_self_replace: int):
        self.store, self.originals, self.num_self_replace = store, originals, num_self_replace
        self._sums: list[list[Float[Tensor, " stream"]]] = []

    def next_step(self) -> None:
        """A denoising step begins."""
        self.store.next_step()
        self._sums.append([])

    def __call__(self, attention: Maps, is_cross: bool, place: str) -> Maps:
        """Adds this layer's loss and hands the map on unchanged."""
        self.store(attention, is_cross, place)
        if not is_cross:
            target = self.replace_self_attention(self.originals[len(self._sums) - 1][len(self._sums[-1])], attention)
            self._sums[-1].append((attention - target).square().mean((1, 2, 3)))
        return attention

    def replace_self_attention(self, base: Maps, replaced: Maps) -> Maps:
        """What the map should be: the original's inside of `self_replace_steps`, itself outside."""
        return base if len(self._sums) <= self.num_self_replace else replaced

    def losses(self) -> Float[Tensor, "stream timestep"]:
        """Mean squared differences, summed over the layers."""
        return torch.stack([torch.stack(step).sum(0) for step in self._sums], 1)


def cross_variance(
    maps: list[list[Maps]],
    label_tokens: Bool[Tensor, "stream token"],
    weights: Float[Tensor, "stream timestep"] | None = None,
) -> Float[Tensor, " stream"]:
    """Variance, over queries and label tokens, of the cross-attention averaged over steps, layers and heads.

    Args:
        maps: By step and layer, all with the same number of queries.
        label_tokens: Tokens that count, in the original those of the class's name.
        weights: Of the timesteps, in place of a plain average.
    """
    steps = torch.stack([torch.stack(layers).mean((0, 2)) for layers in maps], 1)
    average = steps.mean(1) if weights is None else (weights[:, :, None, None] * steps).sum(1)
    counts = label_tokens[:, None].to(average)
    number = counts.sum((1, 2)) * average.shape[1]
    mean = (average * counts).sum((1, 2)) / number
    return ((average - mean[:, None, None]).square() * counts).sum((1, 2)) / (number - 1)
