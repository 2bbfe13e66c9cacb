"""Small models for the watch's tests, and a loop that trains them."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, TOKENS, VOCABULARY = 16, 2, 8, 11


class FusedAttention(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.dropout = dropout

    def heads(self, x):
        b, t, _ = x.shape
        return self.qkv(x).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)

    def forward(self, x):
        return self.out(self.attend(*self.heads(x)).transpose(1, 2).reshape(x.shape))


class SoftmaxAttention(FusedAttention):
    """Hand-written, with a causal mask."""

    def attend(self, q, k, v):
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        mask = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(1)
        return F.dropout(scores.masked_fill(mask, float("-inf")).softmax(-1), self.dropout, self.training) @ v


class EinsumAttention(FusedAttention):
    def attend(self, q, k, v):
        scores = torch.einsum("bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k)
        mask = torch.full((q.shape[-2], q.shape[-2]), -1e9).triu(1)
        return torch.einsum("bhqk,bhkd->bhqd", (scores + mask).softmax(-1), v)


class TorchAttention(nn.Module):
    def __init__(self, need_weights):
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.inner(x, x, x, need_weights=self.need_weights, attn_mask=mask)[0]


class Block(nn.Module):
    def __init__(self, attention, dropout=0.0):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(WIDTH), attention
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.Tanh(), nn.Linear(2 * WIDTH, WIDTH))
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class Language(nn.Module):
    """A causal transformer over any attention module."""

    def __init__(self, make_attention=FusedAttention, *, layers=2, dropout=0.0, checkpoint=False):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Parameter(0.1 * torch.randn(TOKENS, WIDTH))
        self.blocks = nn.ModuleList(Block(make_attention(), dropout) for _ in range(layers))
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.checkpoint = checkpoint

    def forward(self, ids):
        x = self.token(ids) + self.position
        for block in self.blocks:
            if self.checkpoint:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.head(x)


class TorchEncoder(nn.Module):
    """`nn.TransformerEncoder` with its dropout, as most people use it."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids):
        return self.head(self.encoder(self.token(ids)))


class Convolutions(nn.Module):
    """A small residual CNN with batch norm, on ids shown as pictures."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Sigmoid())
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(4 * TOKENS, VOCABULARY * TOKENS)

    def forward(self, ids):
        x = self.stem(ids.float()[:, None, None, :])
        x = x + self.body(x)
        return self.head(self.drop(x.flatten(1))).view(-1, TOKENS, VOCABULARY)


class Everything(Language):
    """Something of all that a watch measures: ReLU, weights in half precision, and an adapter."""

    def __init__(self):
        super().__init__()
        self.low = nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16)
        self.head.lora_A, self.head.lora_B = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, VOCABULARY, bias=False)
        nn.init.zeros_(self.head.lora_B.weight)

    def forward(self, ids):
        x = self.low(torch.relu(self.token(ids) + self.position).bfloat16()).float()
        for block in self.blocks:
            x = block(x)
        return self.head(x) + self.head.lora_B(self.head.lora_A(x))


def batch(size=4):
    return torch.randint(0, VOCABULARY, (size, TOKENS))


def loss_of(model, ids):
    return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())


def train(model, optimizer, steps, *, watch=None, size=4):
    """A plain loop with clipping; returns its losses."""
    losses = []
    for _ in range(steps):
        loss = loss_of(model, batch(size))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if watch is not None:
            watch.log(loss=loss)
        losses.append(loss.item())
    return losses


def every_array() -> dict:
    """One call of `log` with every array that it takes, but `outputs` and `targets`."""
    positive = torch.rand(16, 4) + 0.1
    return {
        "logits": torch.randn(16, 4),
        "labels": torch.arange(16) % 4,
        "embeddings": torch.randn(16, 8),
        "codes": torch.arange(16) % 4,
        "num_codes": 4,
        "latent_mean": torch.randn(16, 3),
        "latent_log_variance": torch.randn(16, 3),
        "teacher": positive,
        "routing": positive,
        "weights": torch.tensor([0.2, 0.3, 0.5]),
        "losses": torch.tensor([3.0, 2.0, 1.0]),
    }
