"""Autoencoders of digits: variational, and with a codebook."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from score_cards.task import Task, batches, digits


class Variational(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if self.training else mean
        return self.decoder(z), mean, log_variance


def vae(*, kl_weight: float = 1.0, warm_up: int = 50) -> Task:
    x, _, test_x, _ = digits()
    model = Variational()
    task = Task(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), 3e-3),
        batch=batches(x),
        loss=lambda x: (x.sum(), {}),
        score=lambda: 1 - ((model(test_x)[0] - test_x).square().mean() / (test_x - x.mean(0)).square().mean()).item(),
        parts={"kl_weight": kl_weight, "step": 0},
    )

    def loss(images: Tensor) -> tuple[Tensor, dict[str, Any]]:
        decoded, mean, log_variance = model(images)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        weight = task.parts["kl_weight"] * min(1.0, (task.parts["step"] + 1) / max(1, warm_up))
        value = (decoded - images).square().sum(-1).mean() / (2 * 0.1) + weight * kl
        told = {"latent_mean": mean, "latent_log_variance": log_variance, "outputs": decoded, "targets": images}
        return value, told

    def after() -> None:
        task.parts["step"] += 1

    task.loss, task.after = loss, after
    return task


class Quantised(nn.Module):
    """16 patches, each one of 32 codes, with a straight-through gradient; codes start among the data."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 8), nn.Linear(8, 4)
        self.codes = nn.Parameter(torch.randn(32, 8) * 0.3)
        self.offset = 0.0

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z = self.encoder(patches) + self.offset
        chosen = torch.cdist(z, self.codes).argmin(1)
        q = self.codes[chosen]
        return self.decoder(z + (q - z).detach()), z, q, chosen


def vq() -> Task:
    x, _, test_x, _ = digits()
    patches, test = x.view(-1, 4), test_x.view(-1, 4)
    model = Quantised()
    with torch.no_grad():  # the usual start: codes are encodings of data
        model.codes.copy_(model.encoder(patches[torch.randint(len(patches), (32,))]))

    def loss(patches: Tensor) -> tuple[Tensor, dict[str, Any]]:
        decoded, z, q, chosen = model(patches)
        value = F.mse_loss(decoded, patches) + F.mse_loss(q, z.detach()) + F.mse_loss(z, q.detach()) / 4
        return value, {"codes": chosen, "num_codes": 32, "outputs": decoded, "targets": patches}

    def score() -> float:
        return 1 - (F.mse_loss(model(test)[0], test) / (test - patches.mean(0)).square().mean()).item()

    return Task(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), 3e-3),
        batch=batches(patches, size=512),
        loss=loss,
        score=score,
        parts={"test": test},
    )
