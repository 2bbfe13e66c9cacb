"""LoRA on a classifier of digits that was trained upright, fine-tuned to digits on their side."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from score_cards.models.classifiers import classify
from score_cards.task import Task, batches, digits, prior_entropy


class LoRALinear(nn.Linear):
    """A frozen layer with a low-rank correction that begins at zero; fields are named as in loralib."""

    def __init__(self, base: nn.Linear, rank: int = 4):
        super().__init__(base.in_features, base.out_features)
        self.load_state_dict(base.state_dict())
        self.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scaling = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)


def turned(images: Tensor) -> Tensor:
    return images.view(-1, 8, 8).rot90(1, (1, 2)).flatten(1)


def lora() -> Task:
    x, y, test_x, test_y = digits()
    layers = [nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)]
    base = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    optimizer, draw = torch.optim.Adam(base.parameters(), 3e-3), batches(x, y)
    for _ in range(200):  # what a user downloads
        images, labels = draw()
        optimizer.zero_grad()
        F.cross_entropy(base(images), labels).backward()
        optimizer.step()
    a, b, c = (LoRALinear(layer) for layer in layers)
    model = nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c)
    trained = [p for p in model.parameters() if p.requires_grad]
    task = classify(model, torch.optim.AdamW(trained, 3e-3, weight_decay=0.0))
    task.draw_as(lambda images, labels: (turned(images), labels))
    task.score = lambda: 1 - F.cross_entropy(model(turned(test_x)), test_y).item() / prior_entropy(y)
    return task
