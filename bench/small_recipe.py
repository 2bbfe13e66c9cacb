"""The training that `bench/trials.py` times: as a recipe for the engine, and as the script that it is without pitprop.

python bench/small_recipe.py --seed 3 --width 64 --steps 1000     # prints the metrics as JSON
"""

import argparse
import json
import time
from dataclasses import dataclass

import torch
from torch import nn

from pitprop.trials import Recipe

STEPS = 1000
WIDTHS = (16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Knobs:
    width: int = 20


class Digits:
    """A two-layer perceptron on scattered blobs."""

    def __init__(self, seed: int, knobs: Knobs):
        torch.manual_seed(seed)
        self.seed = seed
        self.centres = torch.randn(10, 64)
        self.model = nn.Sequential(nn.Linear(64, knobs.width), nn.ReLU(), nn.Linear(knobs.width, 10))
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.held_out = self.make(10**6, 1000)

    def make(self, index: int, count: int = 128):
        generator = torch.Generator().manual_seed(10**7 * self.seed + index)
        y = torch.randint(0, 10, (count,), generator=generator)
        return self.centres[y] + 2 * torch.randn(count, 64, generator=generator), y

    def batches(self, cursor: int):
        while True:
            yield self.make(cursor)
            cursor += 1

    def step(self, batch):
        x, y = batch
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def evaluate(self):
        x, y = self.held_out
        with torch.no_grad():
            return {"accuracy": float((self.model(x).argmax(1) == y).float().mean())}


recipe = Recipe(build=Digits, knobs=Knobs, metric="accuracy", margin=0.01, steps=STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=Knobs().width)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    training = Digits(options.seed, Knobs(options.width))
    for step, batch in enumerate(training.batches(0)):
        if step == options.steps:
            break
        training.step(batch)
    print(json.dumps({"metrics": training.evaluate(), "training_s": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
