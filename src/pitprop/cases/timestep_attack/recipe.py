"""The recipe: timestep weights trained over a stream of images, one step being one attack iteration.

The metric is the effective number of timesteps, exp(entropy of the weights): 1 when one timestep has everything, 3.69
for the seed's schedule, 5 for equal weights. It says what the seed complains of and has no scale of its own. Not
training the weights at all keeps it too, which is the seed's fallacy ("stable" weights that nothing trains), so
`motion`, their total variation to the start, stands beside it, with what the attack is for: success, transfer and the
size of the change. Those are of the images that are finished, and NaN before the first.

`weight_lr` is thirty times the original's: Adam moves a logit by about its learning rate per step, whatever the loss,
so that 12 images go as far as 360 (`case timestep_attack` keeps the original's 1e-4). The path may go through equal
weights, where the schedule falls against the losses, so a shorter run can end with *more* effective timesteps.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pitprop.cases.timestep_attack import classifiers, denoiser
from pitprop.cases.timestep_attack.attack import Attack, Prepared, prepare
from pitprop.cases.timestep_attack.metrics import per_image
from pitprop.cases.timestep_attack.settings import LAPTOP, CrossWeights, Settings
from pitprop.cases.timestep_attack.streams import stream_of_images
from pitprop.cases.timestep_attack.weights import INITIAL, Mode, Stream, TimestepWeights
from pitprop.trials.recipe import Recipe

GUARDS = ("motion", "success", "transfer", "l2", "worst_loss")


@dataclass(frozen=True)
class Knobs:
    """Everything that may be chosen. Fields with declared alternatives are what `diagnose` tries by itself."""

    mode: Mode = "learnable"
    """What trains the timestep weights; see `weights.py`."""
    cross_weights: CrossWeights = "dead"
    """Whether anything reads the weights of cross-attention; nothing does in the original."""
    cross_gradient: bool = False
    """Whether the variance of cross-attention reaches the latent; not in the original's fork."""
    alpha: float = LAPTOP.alpha
    beta: float = LAPTOP.beta
    gamma: float = LAPTOP.gamma
    weight_lr: float = 3e-3
    """Of Adam on the weights; 1e-4 in the original."""
    latent_lr: float = LAPTOP.latent_lr
    schedule: str = " ".join(map(str, INITIAL))
    """Initial weights, or those of the mode `fixed`."""
    iterations: int = LAPTOP.iterations
    """Per image; the first two are made in one step, for in the first nothing can reach the weights."""
    denoiser_steps: int = denoiser.DenoiserSettings.steps
    """Training steps of the denoiser, which is kept in a cache."""


class Batch(NamedTuple):
    """What one step sees."""

    image: Float[Tensor, "1 channel 8 8"]
    label: Float[Tensor, " 1"]
    iteration: int
    """Of this image; 0 begins it."""


class WeightTraining:
    """Weights of one stream, trained over images.

    Args:
        seed: Of the network's initialisation and of the order of the images.
        knobs: See `Knobs`.
    """

    def __init__(self, seed: int, knobs: Knobs):
        torch.manual_seed(seed)
        self.seed, self.knobs = seed, knobs
        self.settings = settings_of(knobs)
        self._backbone, self._classifiers = known(knobs.denoiser_steps)
        self._images = stream_of_images("digits", self._classifiers, 1000, seed)
        schedule = tuple(float(part) for part in knobs.schedule.split())
        active = self._backbone.timesteps(self.settings.num_steps)[self.settings.start_step :]
        self.model = TimestepWeights(
            [Stream(mode=knobs.mode, seed=seed, schedule=schedule)],
            alphas_cumprod=self._backbone.alphas_cumprod[active],
            lr=knobs.weight_lr,
        )
        self.optimizer = self.model.optimizer
        self.start = self._weights()
        self._attack: Attack | None = None
        self._batch: Batch | None = None
        self._sums: dict[str, list[float]] = {name: [] for name in ("success", "transfer", "l2")}
        self._worst = math.nan

    @property
    def steps_per_image(self) -> int:
        """The first step makes two iterations."""
        return self.knobs.iterations - 1

    def batches(self, cursor: int) -> Iterator[Batch]:
        """Iterations in order; number `n` is a function of the seed and `n` alone."""
        while True:
            image, iteration = divmod(cursor, self.steps_per_image)
            at = image % len(self._images.labels)
            yield Batch(self._images.images[at : at + 1], self._images.labels[at : at + 1], iteration)
            cursor += 1

    def step(self, batch: Batch) -> Mapping[str, Any]:
        """One attack iteration, which is one step of the weights; a new image is prepared first."""
        if batch.iteration == 0 or self._attack is None:
            prepared = prepare(self._backbone, batch.image, batch.label, self.settings)
            self._attack = self._begin(batch, prepared)
            self.model.start_image()
            # The latent is the original's still, all self-attention losses are 0, and so is the weights' gradient.
            self._attack.iterate()
        self._batch = batch
        seen = self._attack.iterate()
        self._worst = float(seen.self_losses.max())
        if batch.iteration == self.steps_per_image - 1:
            self._finish(batch)
        loss = float(
            self.settings.alpha * seen.attack_loss + self.settings.gamma * (seen.weights * seen.self_losses).sum()
        )
        return {"loss": loss, "weights": seen.weights[0], "losses": seen.self_losses[0]}

    def evaluate(self) -> Mapping[str, float]:
        """The weights now, and the finished images; see the module's docstring."""
        weights = self._weights()
        return {
            "effective_timesteps": float(torch.special.entr(weights).sum().exp()),
            "motion": float((weights - self.start).abs().sum() / 2),
            **{name: sum(values) / len(values) if values else math.nan for name, values in self._sums.items()},
            "worst_loss": self._worst,
        }

    def state(self) -> dict[str, Any]:
        """Everything that decides how it goes on, the image under attack included."""
        running = None
        if self._attack is not None and self._batch is not None:
            running = {
                "image": self._batch.image,
                "label": self._batch.label,
                "latents": self._attack.latents.detach().clone(),
                "optimizer": self._attack.optimizer.state_dict(),
            }
        return {
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "running": running,
            "sums": self._sums,
            "worst": self._worst,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse; the image's preparation is made anew, which gives the same."""
        self.model.load_state_dict(state["model"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self._sums = {name: list(values) for name, values in state["sums"].items()}
        self._worst, self._attack, self._batch = state["worst"], None, None
        if (running := state["running"]) is not None:
            self._batch = Batch(running["image"], running["label"], -1)
            prepared = prepare(self._backbone, self._batch.image, self._batch.label, self.settings)
            self._attack = self._begin(self._batch, prepared)
            with torch.no_grad():
                self._attack.latents.copy_(running["latents"])
            self._attack.optimizer.load_state_dict(running["optimizer"])

    def _begin(self, batch: Batch, prepared: Prepared) -> Attack:
        return Attack(self._backbone, self._classifiers.surrogate, batch.label, prepared, self.model, self.settings)

    def _finish(self, batch: Batch) -> None:
        assert self._attack is not None
        measured = per_image(self._classifiers, self._attack.images(), batch.image, batch.label)
        for name, values in self._sums.items():
            values.append(float(measured[name]))

    @torch.no_grad()
    def _weights(self) -> Float[Tensor, " timestep"]:
        return self.model(torch.zeros(1, self.settings.num_active))[0].clone()


def settings_of(knobs: Knobs) -> Settings:
    """The attack's numbers under these knobs."""
    return replace(
        LAPTOP,
        alpha=knobs.alpha,
        beta=knobs.beta,
        gamma=knobs.gamma,
        latent_lr=knobs.latent_lr,
        iterations=knobs.iterations,
        cross_weights=knobs.cross_weights,
        cross_gradient=knobs.cross_gradient,
    )


@cache
def known(denoiser_steps: int) -> tuple[denoiser.PixelBackbone, classifiers.Classifiers]:
    """Denoiser and classifiers, once per process."""
    return denoiser.load(denoiser.DenoiserSettings(steps=denoiser_steps)), classifiers.load()


def references() -> dict[str, dict[str, float]]:
    """Schedules that nothing trains."""
    initial = torch.tensor(INITIAL)
    return {
        "the seed's schedule": {"effective_timesteps": float(torch.special.entr(initial).sum().exp())},
        "equal weights": {"effective_timesteps": float(len(INITIAL))},
        "one timestep": {"effective_timesteps": 1.0},
    }


recipe = Recipe(
    build=WeightTraining,
    knobs=Knobs,
    metric="effective_timesteps",
    higher_is_better=True,
    margin=0.3,
    steps=12 * (LAPTOP.iterations - 1),
    guards=GUARDS,
    references=references,
)
