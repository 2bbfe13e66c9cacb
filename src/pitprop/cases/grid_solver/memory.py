"""HPM: memory banks of learned primitives, and buffers of what was seen, that a router mixes into the context."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

BANKS = ("compositional", "pattern", "relational")
NUM_PRIMITIVES, NUM_LEVELS, NUM_NEAREST = 32, 3, 5


class MemoryBanks(nn.Module):
    """Reads learned banks and two buffers of past contexts, and adds what a router picks.

    Args:
        width: Channels of the pooled context.
        capacity: Entries of each buffer (instance, procedural); 10 000 in the original, 0 for none.
        adds_context: As in the original: the pooled context itself is added too, whatever the gate is, so that the
            module isn't the identity at the start that its comments claim.
    """

    seen: Tensor
    num_seen: Tensor

    def __init__(self, width: int, *, capacity: int = 0, adds_context: bool = False):
        super().__init__()
        self.adds_context, self.capacity = adds_context, capacity
        self.banks = nn.Parameter(torch.randn(len(BANKS), NUM_LEVELS * NUM_PRIMITIVES, width) * 0.02)
        num_sources = len(BANKS) + (2 if capacity else 0)
        self.router = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, num_sources))
        self.mixer, self.norm = nn.MultiheadAttention(width, 4, batch_first=True), nn.LayerNorm(width)
        self.out = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.out.weight.copy_(0.1 * torch.eye(width))
        self.gate = nn.Parameter(torch.zeros(()))
        # Instances (contexts as they were) and procedures (what was read for them), newest over oldest.
        self.register_buffer("seen", torch.zeros(2, capacity, width))
        self.register_buffer("num_seen", torch.zeros((), dtype=torch.int64))

    def forward(self, context: Float[Tensor, "task width"]) -> Float[Tensor, "task width"]:
        """What is to be added to the features of every cell."""
        reads = torch.stack([_read(context, bank) for bank in self.banks], 1)
        if self.capacity:
            filled = self.seen[:, : min(int(self.num_seen), self.capacity)]
            reads = torch.cat([reads, torch.stack([_nearest(context, kept) for kept in filled], 1)], 1)
        weights = self.router(context)
        kept = weights.topk(2, dim=-1)
        share = torch.zeros_like(weights).scatter(-1, kept.indices, kept.values.softmax(-1))
        mixed = 0.5 * reads + 0.5 * self.norm(reads + self.mixer(reads, reads, reads, need_weights=False)[0])
        read = (share[..., None] * mixed).sum(1)
        if self.training and self.capacity:
            self._keep(context, read)
        added = torch.tanh(self.gate) * self.out(read)
        return context + added if self.adds_context else added

    @torch.no_grad()
    def _keep(self, context: Tensor, read: Tensor) -> None:
        at = (self.num_seen + torch.arange(len(context), device=context.device)) % self.capacity
        # Out of place: what was read from the buffer in this step is still needed by the backward pass.
        self.seen = self.seen.index_copy(1, at, torch.stack([context, read]).to(self.seen))
        self.num_seen += len(context)


def _read(query: Float[Tensor, "task width"], keys: Float[Tensor, "key width"]) -> Float[Tensor, "task width"]:
    return (query @ keys.T / keys.shape[-1] ** 0.5).softmax(-1) @ keys


def _nearest(query: Float[Tensor, "task width"], kept: Float[Tensor, "key width"]) -> Float[Tensor, "task width"]:
    """Mean of the nearest kept vectors; zeros where none was kept yet."""
    if not len(kept):
        return torch.zeros_like(query)
    near = torch.cdist(query.detach(), kept).topk(min(NUM_NEAREST, len(kept)), largest=False).indices
    return kept[near].mean(1)
