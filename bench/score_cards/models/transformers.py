"""Pre-LN transformers: a language model on characters of our licence, and a ViT on digits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from score_cards.models.classifiers import classify
from score_cards.task import Task, prior_entropy, text

WIDTH, HEADS, CONTEXT = 32, 4, 32


class Attention(nn.Module):
    """Attention whose ways to fail are fields: `gain` of the logits, `sink` on the first key, `tied` heads."""

    def __init__(self, width: int = WIDTH, causal: bool = False):
        super().__init__()
        self.query, self.keys, self.values, self.out = (nn.Linear(width, width) for _ in range(4))
        self.causal, self.gain, self.sink, self.tied = causal, 1.0, 0.0, False

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        other = x if context is None else context
        q, k, v = (
            layer(s).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer, s in ((self.query, x), (self.keys, other), (self.values, other))
        )
        if self.tied:
            q, k = (t[:, :1].expand_as(t) for t in (q, k))
        mask = None
        if self.sink:
            mask = q.new_zeros(HEADS, q.shape[-2], k.shape[-2])
            mask[0, :, 0] = self.sink
            if self.causal:
                mask = mask + torch.full_like(mask, -torch.inf).triu(1)
        attended = F.scaled_dot_product_attention(
            self.gain * q, k, v, attn_mask=mask, is_causal=self.causal and mask is None
        )
        return self.out(attended.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Pre-LN, with attention and an MLP; `scale` multiplies what it hands on, `loud` what attention adds."""

    def __init__(self, width: int = WIDTH, causal: bool = False):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.scale = self.loud = 1.0

    def forward(self, x: Tensor) -> Tensor:
        added = self.attention(self.norm1(x))
        x = x + (added if self.loud == 1 else self.loud * added)
        x = x + self.mlp(self.norm2(x))
        return x if self.scale == 1 else self.scale * x


class Language(nn.Module):
    def __init__(self, letters: int, layers: int):
        super().__init__()
        self.token, self.position = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(causal=True) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, letters)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.token(codes) + self.position.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def gpt(*, learning_rate: float = 3e-3, warm_up: int = 20, steps: int = 300) -> Task:
    train, held_out, letters = text()
    model = Language(letters, layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warm_up)))
    window = torch.arange(CONTEXT + 1)
    floor = prior_entropy(train)

    def draw() -> tuple[Tensor, ...]:
        return (train[torch.randint(len(train) - CONTEXT, (16, 1)) + window],)

    def loss(codes: Tensor) -> tuple[Tensor, dict[str, Any]]:
        logits, labels = model(codes[:, :-1]).flatten(0, 1), codes[:, 1:].flatten()
        value = F.cross_entropy(logits, labels)
        return value, {"loss_floor": floor, "logits": logits, "labels": labels}

    def score() -> float:
        starts = torch.arange(0, len(held_out) - CONTEXT, CONTEXT)[:, None]
        return 1 - loss(held_out[starts + window])[0].item() / floor

    return Task(model=model, optimizer=optimizer, batch=draw, loss=loss, score=score, after=schedule.step, steps=steps)


class Vision(nn.Module):
    """16 patches of 2 x 2 pixels, mean pooled."""

    def __init__(self, layers: int):
        super().__init__()
        self.patch, self.position = nn.Linear(4, WIDTH), nn.Parameter(0.1 * torch.randn(16, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(patches(images)) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def patches(images: Tensor) -> Tensor:
    """`[sample, 16, 4]` of `[sample, 64]`."""
    return images.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)


def unpatch(tokens: Tensor) -> Tensor:
    """The inverse of `patches`."""
    return tokens.view(-1, 4, 4, 2, 2).transpose(2, 3).reshape(-1, 64)


def vit(*, learning_rate: float = 2e-3, steps: int = 300) -> Task:
    model = Vision(layers=3)
    return classify(model, torch.optim.AdamW(model.parameters(), learning_rate), steps=steps)
