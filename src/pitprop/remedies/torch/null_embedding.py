"""A learned null condition: with some probability a sample's condition is replaced by one vector that is trained too.

Paper: Ho and Salimans, Classifier-free diffusion guidance, arXiv 2207.12598 (2022).
Source: written from the idea; `LabelEmbedder` of facebookresearch/DiT (CC-BY-NC, only read) has it as a row of a table.
Differences: a vector of its own, so that continuous conditions (a set's context) have one as well.
Cost: width parameters and one selection.
Facts: a learned vector behind a layer with a bias is nearly the same as zeros there: the bias learns it.
Insertion: keeps the function where nothing is dropped; a dropped sample is told nothing of its condition.
Does not help: a model that ignores its condition is not made to use it by losing it now and then; it makes guidance
possible and the gap between condition and null measurable.
"""

import torch
from torch import Tensor, nn


class NullEmbedding(nn.Module):
    """Replaces the condition of some samples by a learned vector.

    Args:
        width: Channels of the condition.
        probability: Share of the samples that lose it in training.
        init: Standard deviation of the vector at the start; 0 for zeros.

    Shapes: `condition` is `[batch, *, width]`; `dropped` is boolean `[batch]`, drawn in training where it is absent.
    """

    def __init__(self, width: int, *, probability: float = 0.1, init: float = 0.02):
        super().__init__()
        self.probability = probability
        self.vector = nn.Parameter(init * torch.randn(width))

    def forward(self, condition: Tensor, *, dropped: Tensor | None = None) -> Tensor:
        if dropped is None:
            if not self.training:
                return condition
            dropped = torch.rand(len(condition), device=condition.device) < self.probability
        where = dropped.reshape(-1, *(1,) * (condition.dim() - 1))
        return torch.where(where, self.vector.to(condition.dtype), condition)
