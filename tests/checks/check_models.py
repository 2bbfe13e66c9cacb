"""The models of the checks' acceptance: two that frighten and are fine, three that are dead or collapsed at birth."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, TOKENS, VOCABULARY = 32, 4, 16, 23


class Attention(nn.Module):
    def __init__(self, causal=False):
        super().__init__()
        self.qkv, self.out, self.causal = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), causal

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(b, t, WIDTH))


def mlp():
    return nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))


class GPTBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn, self.mlp = Attention(causal=True), mlp()

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """GPT-2's initialisation at toy size."""

    def __init__(self, layers=3):
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.ModuleList(GPTBlock() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        for name, parameter in self.named_parameters():
            if "norm" not in name:
                deep = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if deep else 0.02)
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def next_token(model, ids):
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def ids(size=8):
    return torch.randint(0, VOCABULARY, (size, TOKENS))


class DiTBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.attn, self.mlp = Attention(), mlp()
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 6 * WIDTH))

    def forward(self, x, c):
        b1, s1, g1, b2, s2, g2 = self.modulation(c)[:, None].chunk(6, -1)
        x = x + g1 * self.attn(self.norm1(x) * (1 + s1) + b1)
        return x + g2 * self.mlp(self.norm2(x) * (1 + s2) + b2)


class DiT(nn.Module):
    """adaLN-Zero."""

    def __init__(self, layers=2):
        super().__init__()
        self.embed, self.encoder = (
            nn.Linear(4, WIDTH),
            nn.Sequential(nn.Linear(6, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)),
        )
        self.position = nn.Parameter(0.5 * torch.randn(1, TOKENS, WIDTH), requires_grad=False)
        self.blocks = nn.ModuleList(DiTBlock() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.modulation, self.out = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, 4)
        for layer in (*(b.modulation[1] for b in self.blocks), self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x, condition):
        c = self.encoder(condition)
        x = self.embed(x) + self.position
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.modulation(c)[:, None].chunk(2, -1)
        return self.out(self.norm(x) * (1 + scale) + shift)


def denoising(model, batch):
    x, condition, target = batch
    return F.mse_loss(model(x, condition), target)


def noisy(size=8):
    return torch.randn(size, TOKENS, 4), torch.randn(size, 6), torch.randn(size, TOKENS, 4)


class LoRA(nn.Module):
    """A frozen layer and its low-rank change."""

    def __init__(self, dead):
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.A = nn.Parameter(torch.zeros(WIDTH, 2) if dead else torch.randn(WIDTH, 2))
        self.B = nn.Parameter(torch.zeros(2, WIDTH))

    def forward(self, x):
        return self.base(x) + x @ self.A @ self.B


class ReZero(nn.Module):
    def __init__(self, dead, layers=2):
        super().__init__()
        self.blocks = nn.ModuleList(mlp() for _ in range(layers))
        self.alpha = nn.Parameter(torch.zeros(layers))
        self.head = nn.Linear(WIDTH, 3)
        if dead:
            for block in self.blocks:
                nn.init.zeros_(block[2].weight)
                nn.init.zeros_(block[2].bias)

    def forward(self, x):
        for alpha, block in zip(self.alpha, self.blocks, strict=True):
            x = x + alpha * block(x)
        return self.head(x)


class AttentionOnly(nn.Module):
    """Attention upon attention, and nothing beside it."""

    def __init__(self, layers=4):
        super().__init__()
        self.layers = nn.ModuleList(Attention() for _ in range(layers))
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def squares(model, x):
    return (model(x) - 1).square().mean()


def tokens(size=8):
    return torch.randn(size, TOKENS, WIDTH)


ACCEPTANCE = {
    "adaLN-Zero DiT": (DiT, noisy, denoising),
    "LoRA A=B=0": (lambda: LoRA(dead=True), tokens, squares),
    "ReZero, zero projection": (lambda: ReZero(dead=True), tokens, squares),
    "attention only": (AttentionOnly, tokens, squares),
    "GPT": (GPT, ids, next_token),
}
"""Name -> model, batch and loss."""
