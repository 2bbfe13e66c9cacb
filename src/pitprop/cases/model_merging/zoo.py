"""The zoo: one CNN per subset of the digit classes, and the pairs that are to be merged.

As in the original, every member starts from one common initialisation and is trained on its own classes only (a
federated, non-IID setting), and the target of a pair (A, B) of disjoint subsets is the member that was trained on A and
B together.

The stored zoo was made by

    python -m pitprop.cases.model_merging.zoo --out src/pitprop/cases/model_merging/zoo.safetensors

and carries its own provenance (`metadata()`). Differences to the original: 1232 weights for 8x8 digits instead of 2464
for MNIST, ReLU only, one snapshot per member instead of six.
"""

import argparse
import itertools
import json
import sys
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.func import grad, vmap

from pitprop._errors import PitpropError
from pitprop.cases._digits import digits
from pitprop.cases.model_merging import cnn

PATH = Path(__file__).with_name("zoo.safetensors")
NUM_CLASSES = 8
"""Subsets are drawn from the classes 0 to 7; 8 and 9 never occur."""
Split = Literal["train", "validation", "test"]


class Zoo(NamedTuple):
    """Trained CNNs and the classes each one was trained on."""

    weights: Float[Tensor, "member 1232"]
    classes: Bool[Tensor, "member 10"]
    accuracy: Float[Tensor, " member"]
    """On the test images of the member's own classes."""


class Pairs(NamedTuple):
    """Index triples into a zoo: two parents of disjoint classes, and the member of their union."""

    first: Int[Tensor, " pair"]
    second: Int[Tensor, " pair"]
    union: Int[Tensor, " pair"]


def subsets() -> Bool[Tensor, "member 10"]:
    """All 247 subsets of the classes 0 to 7 with at least two classes, small ones first."""
    chosen = [c for size in range(2, NUM_CLASSES + 1) for c in itertools.combinations(range(NUM_CLASSES), size)]
    table = torch.zeros(len(chosen), 10, dtype=torch.bool)
    for row, classes in zip(table, chosen, strict=True):
        row[list(classes)] = True
    return table


def build(*, steps: int = 400, batch_size: int = 32, lr: float = 5e-3, seed: int = cnn.SEED) -> Zoo:
    """Trains all members side by side with Adam, each on images of its own classes.

    Args:
        steps: Optimizer steps of every member.
        batch_size: Images per member and step.
        lr: Learning rate.
        seed: Seed of the common initialisation and of the image order.
    """
    classes = subsets()
    train, test = digits()
    rng = np.random.default_rng(seed)
    own = [row[train.labels].nonzero().squeeze(1).numpy() for row in classes]
    weights = cnn.initial(seed).repeat(len(classes), 1)

    def loss(w, images, labels):
        return F.cross_entropy(cnn.forward(w, images), labels)

    gradient = vmap(grad(loss))
    parameter = torch.nn.Parameter(weights)
    # Adam is elementwise, so one optimizer over the stacked weights is one Adam per member.
    optimizer = torch.optim.Adam([parameter], lr=lr)
    for _ in range(steps):
        picked = torch.from_numpy(np.stack([rng.choice(indices, batch_size) for indices in own]))
        parameter.grad = gradient(parameter.detach(), train.images[picked], train.labels[picked])
        optimizer.step()
    weights = parameter.detach()
    return Zoo(weights, classes, cnn.accuracy(weights, test.images, test.labels, classes))


def write(zoo: Zoo, path: Path, command: list[str]) -> None:
    """Stores a zoo as safetensors with its provenance beside the numbers."""
    provenance = {
        "command": command,
        "seed": cnn.SEED,
        "members": len(zoo.weights),
        "mean_accuracy": round(float(zoo.accuracy.mean()), 4),
        "lowest_accuracy": round(float(zoo.accuracy.min()), 4),
        "data": "sklearn.datasets.load_digits, first 1400 of a permutation by numpy default_rng(0)",
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
    save_file(zoo._asdict(), path, metadata={"provenance": json.dumps(provenance)})


@cache
def load(path: Path = PATH) -> Zoo:
    """The stored zoo. Raises `PitpropError` where the file is missing or is not a zoo."""
    try:
        with safe_open(path, "pt") as file:
            return Zoo(*(file.get_tensor(name) for name in Zoo._fields))
    except (OSError, SafetensorError) as error:
        raise PitpropError(
            f"{path} can't be read as a zoo: {error}",
            means="the case model_merging has no CNNs to merge.",
            do=f"build it again: python -m pitprop.cases.model_merging.zoo --out {path}",
        ) from error


def metadata(path: Path = PATH) -> dict[str, object]:
    """Where the stored zoo comes from: command, seed, versions, mean accuracy."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["provenance"])


@cache
def pairs(split: Split) -> Pairs:
    """All ordered pairs of disjoint subsets, split as the original does it.

    `test` holds every pair in which class 0 occurs (its members are never seen in training), `validation` the pairs of
    equally large subsets among the rest, `train` everything else.
    """
    classes = subsets()
    disjoint = (classes.float() @ classes.float().T) == 0
    first, second = disjoint.nonzero(as_tuple=True)
    position = {tuple(row.tolist()): i for i, row in enumerate(classes)}
    union = torch.tensor([position[tuple(row.tolist())] for row in classes[first] | classes[second]])
    with_zero = classes[union, 0]
    equal = classes[first].sum(1) == classes[second].sum(1)
    keep = {"test": with_zero, "validation": ~with_zero & equal, "train": ~with_zero & ~equal}[split]
    return Pairs(first[keep], second[keep], union[keep])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pitprop.cases.model_merging.zoo", description="Train and store the zoo of CNNs."
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write, .safetensors")
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps of every member")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    zoo = build(steps=options.steps)
    command = ["python", "-m", "pitprop.cases.model_merging.zoo", *(sys.argv[1:] if arguments is None else arguments)]
    write(zoo, options.out, command)
    print(
        f"{len(zoo.weights)} members, mean accuracy {zoo.accuracy.mean():.3f}, lowest {zoo.accuracy.min():.3f} -> "
        f"{options.out}"
    )


if __name__ == "__main__":
    main()
