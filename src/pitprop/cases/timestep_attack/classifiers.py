"""The classifiers: the surrogate that is attacked, and others of different kinds that the attack should transfer to."""

import sys
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn

from pitprop.cases._cache import cached
from pitprop.cases.timestep_attack import data

STEPS, BATCH_SIZE, LR = 600, 64, 3e-3
SURROGATE_WIDTH, TRANSFER_WIDTH = 16, 8
TRANSFER = ("small_cnn", "mlp", "svm", "logistic_regression")
"""What the attack transfers to, or not."""


class Labeller(Protocol):
    """Images in [-1, 1] to labels."""

    def __call__(self, images: Float[Tensor, "image channel 8 8"]) -> Int[Tensor, " image"]:
        """One label per image."""
        ...


class Classifiers(NamedTuple):
    """All frozen."""

    surrogate: nn.Module
    """White box: the attack follows its gradient."""
    transfer: dict[str, Labeller]
    """Never seen by the attack, by name."""
    features: nn.Module
    """The small CNN up to its last layer, for the Fréchet distance."""


def cnn(channels: int, width: int) -> nn.Sequential:
    """Two convolutions with pooling and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, data.NUM_LABELS),
    )


def mlp(channels: int) -> nn.Sequential:
    """One hidden layer of 64."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * data.SIDE**2, 64), nn.ReLU(), nn.Linear(64, data.NUM_LABELS)
    )


def load(source: data.Source = "digits", seed: int = 0) -> Classifiers:
    """All classifiers of a source, trained once: the networks lie in the cache, the other two fit in a moment."""
    known = data.load(source)[0]
    channels = known.images.shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = {
            "surrogate": cnn(channels, SURROGATE_WIDTH),
            "small_cnn": cnn(channels, TRANSFER_WIDTH),
            "mlp": mlp(channels),
        }

        def make() -> Mapping[str, Tensor]:
            return {
                f"{name}.{key}": value
                for name, network in networks.items()
                for key, value in _fit(network, known).state_dict().items()
            }

        state = cached("timestep_attack-classifiers", [source, seed], (sys.modules[__name__], data), make)
    for name, network in networks.items():
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        network.load_state_dict(own)
        network.eval().requires_grad_(False)
    flat, labels = known.images.flatten(1).numpy(), known.labels.numpy()
    svm = SVC().fit(flat, labels)
    logistic = LogisticRegression(max_iter=1000).fit(flat, labels)
    transfer: dict[str, Labeller] = {
        "small_cnn": _argmax(networks["small_cnn"]),
        "mlp": _argmax(networks["mlp"]),
        "svm": _sklearn(svm),
        "logistic_regression": _sklearn(logistic),
    }
    return Classifiers(networks["surrogate"], transfer, networks["small_cnn"][:-1])


def correct(
    classifiers: Classifiers, images: Float[Tensor, "image channel 8 8"], labels: Int[Tensor, " image"]
) -> Bool[Tensor, " image"]:
    """Which images the surrogate labels rightly: only these can be attacked."""
    return classifiers.surrogate(images).argmax(-1) == labels


def _fit(network: nn.Module, known: data.Images) -> nn.Module:
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
    for _ in range(STEPS):
        at = torch.randint(len(known.images), (BATCH_SIZE,))
        optimizer.zero_grad()
        F.cross_entropy(network(known.images[at]), known.labels[at]).backward()
        optimizer.step()
    return network


def _argmax(network: nn.Module) -> Labeller:
    @torch.no_grad()
    def label(images: Tensor) -> Tensor:
        return network(images).argmax(-1)

    return label


def _sklearn(model: SVC | LogisticRegression) -> Labeller:
    def label(images: Tensor) -> Tensor:
        return torch.from_numpy(model.predict(images.flatten(1).numpy()))

    return label
