"""A stream of images attacked under many weights at once: one row of the batch per mode and seed.

Weights that learn carry over from image to image, so their images come one after another and the streams share the
batch. Weights that don't change know no order: their images share the batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pitprop.cases.timestep_attack import classifiers as classifying
from pitprop.cases.timestep_attack import data
from pitprop.cases.timestep_attack.attack import Prepared, attack, prepare
from pitprop.cases.timestep_attack.classifiers import Classifiers
from pitprop.cases.timestep_attack.denoiser import PixelBackbone
from pitprop.cases.timestep_attack.metrics import PER_IMAGE, frechet, per_image
from pitprop.cases.timestep_attack.settings import LAPTOP, AttackResult, Settings
from pitprop.cases.timestep_attack.weights import CONSTANT, LR, Stream, TimestepWeights
from pitprop.trials.progress import Meter

MEMORYLESS = CONSTANT | {"learnable_detached"}
"""Modes whose weights never change."""
CHUNK = 25
"""Images in a batch, where their order doesn't matter."""


class StreamResult(NamedTuple):
    """One stream over all images, on the host."""

    stream: Stream
    metrics: dict[str, Float[Tensor, " image"]]
    """See `metrics.per_image`."""
    weights: Float[Tensor, "iteration timestep"]
    """In use, over all images."""
    cross_weights: Float[Tensor, "iteration timestep"]
    losses: Float[Tensor, "iteration timestep"]
    """Unweighted self-attention losses."""
    attack_loss: Float[Tensor, " image"]
    """At the last iteration."""
    cross_loss: Float[Tensor, " image"]
    adversarial: Float[Tensor, "image channel 8 8"]
    frechet: float


def stream_of_images(source: data.Source, classifiers: Classifiers, num: int, seed: int = 0) -> data.Images:
    """`num` images that the surrogate labels rightly: test images first, training images when those are used up, then
    again from the start; shuffled by `seed`, the two parts each by itself.
    """
    images, labels = [], []
    for part in reversed(data.load(source)):
        right = classifying.correct(classifiers, part.images, part.labels).nonzero().squeeze(1)
        order = right[torch.randperm(len(right), generator=torch.Generator().manual_seed(seed))]
        images.append(part.images[order])
        labels.append(part.labels[order])
    at = torch.arange(num) % sum(map(len, labels))
    return data.Images(torch.cat(images)[at], torch.cat(labels)[at])


def run_streams(
    backbone: PixelBackbone,
    classifiers: Classifiers,
    chosen: data.Images,
    streams: Sequence[Stream],
    settings: Settings = LAPTOP,
    lr: float = LR,
    meter: Meter | None = None,
) -> list[StreamResult]:
    """Attacks every image under every stream's weights; results in the order of `streams`.

    Args:
        backbone: Frozen.
        classifiers: Frozen.
        chosen: Images in order.
        streams: Modes and seeds.
        settings: Numbers of the attack.
        lr: Of the weights' Adam.
        meter: Ticked once per image and kind of stream.
    """
    lasting = [s for s in streams if s.mode not in MEMORYLESS]
    parts: dict[Stream, list[AttackResult]] = {stream: [] for stream in streams}
    weights = _weights(backbone, lasting, settings, lr) if lasting else None
    for first in range(0, len(chosen.labels), CHUNK):
        images, labels = chosen.images[first : first + CHUNK], chosen.labels[first : first + CHUNK]
        prepared = prepare(backbone, images, labels, settings)
        for stream in parts.keys() - set(lasting):
            rows = _weights(backbone, [stream] * len(labels), settings, lr)
            found = attack(backbone, classifiers.surrogate, images, labels, rows, settings, prepared)
            parts[stream] += [_row(found, row) for row in range(len(labels))]
        for image in range(len(labels)):
            if weights is not None:
                found = _attack_one(backbone, classifiers, images, labels, prepared, image, weights, settings)
                for row, stream in enumerate(lasting):
                    parts[stream].append(_row(found, row))
            if meter is not None:
                meter.tick()
    return [_joined(classifiers, chosen, stream, parts[stream]) for stream in streams]


def _attack_one(
    backbone: PixelBackbone,
    classifiers: Classifiers,
    images: Tensor,
    labels: Int[Tensor, " image"],
    prepared: Prepared,
    image: int,
    weights: TimestepWeights,
    settings: Settings,
) -> AttackResult:
    index = torch.full((weights.num_streams,), image)
    return attack(
        backbone, classifiers.surrogate, images[index], labels[index], weights, settings, prepared.take(index)
    )


def _weights(backbone: PixelBackbone, streams: Sequence[Stream], settings: Settings, lr: float) -> TimestepWeights:
    active = backbone.timesteps(settings.num_steps)[settings.start_step :]
    return TimestepWeights(streams, alphas_cumprod=backbone.alphas_cumprod[active], lr=lr)


def _row(result: AttackResult, row: int) -> AttackResult:
    return AttackResult(result.images[row], *(part[:, row] for part in result[1:]))


def _joined(
    classifiers: Classifiers, chosen: data.Images, stream: Stream, parts: Sequence[AttackResult]
) -> StreamResult:
    adversarial = torch.stack([part.images for part in parts])
    measured = per_image(classifiers, adversarial, chosen.images, chosen.labels)
    return StreamResult(
        stream=stream,
        metrics={name: measured[name] for name in PER_IMAGE},
        weights=torch.cat([part.weights for part in parts]),
        cross_weights=torch.cat([part.cross_weights for part in parts]),
        losses=torch.cat([part.self_losses for part in parts]),
        attack_loss=torch.stack([part.attack_loss[-1] for part in parts]),
        cross_loss=torch.stack([part.cross_loss[-1] for part in parts]),
        adversarial=adversarial,
        frechet=frechet(classifiers, adversarial, chosen.images),
    )
