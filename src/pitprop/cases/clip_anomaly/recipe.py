"""The recipe: stage 2 of the feedback run from the loaded base, and which number says whether it learns.

The metric is the pixel AUROC on held-out parts of the photographs, with the cross-attention that was trained: the
number that the seed itself asks for ("match or beat base model on pixel AUC"). Its margin of two points is a
convention of this case, derived from nothing: choose your own, and judge the effects' intervals by it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from pitprop.cases.clip_anomaly.cross_attention import VARIANTS, Injection
from pitprop.cases.clip_anomaly.losses import loss
from pitprop.cases.clip_anomaly.metrics import detect, pixel_auroc, score
from pitprop.cases.clip_anomaly.options import VariantName
from pitprop.cases.clip_anomaly.population import BETAS, PARTS, rows
from pitprop.cases.clip_anomaly.sample import Batch, take
from pitprop.cases.clip_anomaly.stages import Data, hand_over, images, loaded
from pitprop.indicators import branch_ratio
from pitprop.trials.recipe import Recipe

CHUNK = 64
"""Batches drawn at once."""


@dataclass(frozen=True)
class Knobs:
    """Everything that may be chosen. Fields with declared alternatives are what `diagnose` tries by itself."""

    variant: VariantName = "A"
    """How the cross-attention is put in; see `cross_attention.VARIANTS`."""
    context_norm: Literal[1, 10, 50] = 50
    """Norm of the text context over that of the image stream."""
    normalise: bool = False
    """Normalise the text context, whatever the variant."""
    norm_match: bool = False
    """Give the branch the stream's norm before the factor, whatever the variant."""
    cross_attention_weight: float | None = None
    """`image_cross_attn_weight`; None: the variant's."""
    learned: Literal["fixed", "scalar", "channels"] | None = None
    """How the factor is learned; None: as in the variant."""
    evaluate_without: bool | None = None
    """True: evaluate as the original's test script does, with the cross-attention off. No alternative is declared (it
    isn't a plain `bool`), because it changes the number and not the training.
    """
    lr: float = 5e-4
    """Of Adam."""
    batch_size: int = 4
    """Images per step."""
    num_train: int = 480
    """Different training images."""
    num_held_out: int = 72
    """Images of the evaluation."""


def injection(knobs: Knobs) -> Injection | None:
    """The variant with the knobs' changes."""
    found = VARIANTS[knobs.variant]
    if found is None:
        return None
    weight = found.weight if knobs.cross_attention_weight is None else knobs.cross_attention_weight
    return replace(
        found,
        weight=weight,
        learned=knobs.learned or found.learned,
        normalise=found.normalise or knobs.normalise,
        norm_match=found.norm_match or knobs.norm_match,
    )


def data_of(knobs: Knobs) -> Data:
    """The images, the towers and the base."""
    return Data(num_train=knobs.num_train, num_held_out=knobs.num_held_out)


class StageTwo:
    """Stage 2 of one feedback loop.

    Args:
        seed: Of the cross-attention's initialisation and of the order of the images. The base is the same for all.
        knobs: See `Knobs`.
        model: A model to train in place of a fresh one (a collapsed checkpoint, say).
    """

    def __init__(self, seed: int, knobs: Knobs, model: nn.Module | None = None):
        self.seed, self.knobs = seed, knobs
        data = data_of(knobs)
        self._train, self._held_out = images(data)
        self.model = loaded(data, seed, injection(knobs), knobs.context_norm) if model is None else model
        hand_over(self.model, self._train)  # type: ignore[arg-type]
        self.model.eval()  # as the original does: nothing here differs in training mode
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in PARTS["image"])
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=knobs.lr, betas=BETAS)

    def batches(self, cursor: int) -> Iterator[Batch]:
        """Training images; number `n` is a function of the seed and `n` alone."""
        while True:
            block, at = divmod(cursor, CHUNK)
            drawn = rows([self.seed], len(self._train.label), self.knobs.batch_size, CHUNK, block)[:, 0]
            for row in drawn[at:]:
                yield take(self._train, row)
                cursor += 1

    def step(self, batch: Batch) -> Mapping[str, Any]:
        """One optimizer step; the gradients stay readable until the next."""
        value = loss(self.model, batch)  # type: ignore[arg-type]
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        return {"loss": value.detach()}

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Metrics on the held-out images, with the cross-attention and, as the original's test script, without it."""
        on = not self.knobs.evaluate_without
        return evaluate(self.model, self._held_out, cross_attention=on)  # type: ignore[arg-type]


@torch.no_grad()
def evaluate(model, held_out: Batch, *, cross_attention: bool = True) -> dict[str, float]:
    """`metrics.score`, with cross-attention unless it is switched off; `pixel_auroc_without`: without it; `loss`;
    `branch_ratio`: what the image cross-attention adds, over the stream (0 where it has none).
    """
    found = score(detect(model, held_out, cross_attention=cross_attention), held_out.mask, held_out.label)
    ratio, without = 0.0, found["pixel_auroc"]
    if cross_attention and model.image_cross_attn is not None:
        context = model.text_context[held_out.class_index]
        ratio = float(branch_ratio(model.image_cross_attn(held_out.stream, context), held_out.stream).mean())
        without = pixel_auroc(detect(model, held_out, cross_attention=False), held_out.mask)
    return {
        **found,
        "pixel_auroc_without": without,
        "loss": float(loss(model, held_out, cross_attention=cross_attention)),
        "branch_ratio": ratio,
    }


def known(data: Data | None = None) -> dict[str, dict[str, float]]:
    """The loaded base, untouched."""
    data = data or Data()
    measured = evaluate(loaded(data, 0, None), images(data)[1])
    return {"loaded base": {name: measured[name] for name in ("pixel_auroc", "image_auroc", "loss")}}


recipe = Recipe(
    build=StageTwo,
    knobs=Knobs,
    metric="pixel_auroc",
    higher_is_better=True,
    margin=0.02,
    steps=100,
    guards=("loss=lower", "image_auroc=higher", "aupro=higher", "pixel_auroc_without=higher", "branch_ratio"),
    references=known,
    keeps="loaded base",
)
