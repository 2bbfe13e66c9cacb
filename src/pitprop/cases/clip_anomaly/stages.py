"""The two stages, the base that they make, and the feedback loops that start from it.

As in the original (`train.py`, `train_cross_attention_feedback.py`): stage 1 trains the text side against frozen image
features, stage 2 the image side against fixed text features; every loop makes a new Adam and halves the learning
rates; a feedback run loads the base's adapters first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from pitprop.cases._cache import cached
from pitprop.cases.clip_anomaly import adapters, clip, cross_attention, losses, model, population, surfaces, towers
from pitprop.cases.clip_anomaly.clip import Pretraining, pretrained
from pitprop.cases.clip_anomaly.cross_attention import Injection
from pitprop.cases.clip_anomaly.losses import loss, text_loss
from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.population import PARTS, Log, fit, rows
from pitprop.cases.clip_anomaly.sample import Batch

LOOP_DECAY = 0.5
"""Factor of both learning rates from loop to loop."""
CONTEXT_IMAGES = 48
"""Images over which the context of the text cross-attention is averaged when the text is handed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast; in brackets: the original."""

    text_steps: int = 40
    """Steps of stage 1 (5, 3, 2 epochs)."""
    image_steps: int = 200
    """Steps of stage 2 in a feedback loop (20, 10, 5 epochs)."""
    text_batch_size: int = 8
    """(16)"""
    image_batch_size: int = 4
    """(2)"""
    text_lr: float = 5e-4
    """Adam's (1e-5, over thousands of steps)."""
    image_lr: float = 5e-4
    """Adam's (5e-4)."""
    num_feedback_loops: int = 1
    """(3)"""
    original: bool = False
    """Only the last level trains in stage 1, as in the original, see `losses.text_loss`."""


BASE = Schedule(text_steps=60, image_steps=1500, image_batch_size=8, text_lr=2e-3, image_lr=2e-3)
"""Of the base. Ten thousand images in the original, half a thousand here: fewer and longer steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """How many images."""

    num_train: int = 480
    num_held_out: int = 72
    pretraining: Pretraining = field(default_factory=Pretraining)
    base: Schedule = field(default=BASE, repr=False)
    """Of the base."""


@cache
def images(data: Data) -> tuple[Batch, Batch]:
    """Training and held-out images with what the frozen towers make of them. Don't write into them."""
    bare = blank(data)
    return tuple(  # type: ignore[return-value]
        _prepared(bare, surfaces.pool(part, num, data.pretraining.size.image_size))
        for part, num in (("train", data.num_train), ("held_out", data.num_held_out))
    )


@torch.no_grad()
def _prepared(bare: AdaptedCLIP, pool: Batch) -> Batch:
    features, context = bare.frozen(pool.image)
    return pool._replace(stream=bare.stream(pool.image), features=features, context=context)


def blank(data: Data, injection: Injection | None = None, context_norm: float | None = None) -> AdaptedCLIP:
    """Untrained adapters on the pre-trained towers; random weights from torch's global random state."""
    return AdaptedCLIP(
        _towers(data),
        injection,
        size=data.pretraining.size,
        class_names=surfaces.CLASSES,
        context_norm=context_norm,
    )


@cache
def _towers(data: Data):
    return pretrained(data.pretraining)


def base(data: Data) -> dict[str, Tensor]:
    """The base's adapters: both stages without cross-attention, made once and kept on disk."""
    settings = {"schedule": repr(data.base), "data": repr(data)}
    code = (adapters, clip, cross_attention, losses, model, population, surfaces, towers)
    return cached("clip-anomaly-base", settings, code, lambda: _train_base(data))


def _train_base(data: Data) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.pretraining.seed)
        fresh = blank(data)
    train(data.base, [fresh], images(data)[0], seeds=[data.pretraining.seed])
    return {name: value for name, value in fresh.state_dict().items() if name.split(".")[0] in ADAPTERS}


ADAPTERS = ("text_adapter", "image_adapter")


def loaded(data: Data, seed: int, injection: Injection | None, context_norm: float | None = None) -> AdaptedCLIP:
    """A model with the base's adapters and, where `injection` says so, a random cross-attention in front of them.

    Its text is handed over as the base left it.
    """
    torch.manual_seed(seed)
    found = blank(data, injection, context_norm)
    found.load_state_dict(base(data), strict=False)
    hand_over(found, images(data)[0])
    return found


def train(
    schedule: Schedule,
    models: Sequence[AdaptedCLIP],
    pool: Batch,
    seeds: Sequence[int],
    *,
    after_loop=None,
) -> list[tuple[Log | None, Log]]:
    """All feedback loops of all models, in place.

    Args:
        schedule: How long and how fast.
        models: Of one structure.
        pool: Training images, prepared.
        seeds: One per model: which images it sees.
        after_loop: Called with the number of each loop when it is done, to evaluate say.

    Returns:
        The logs of stage 1 (None where it has no steps) and stage 2 of each loop.
    """
    logs = []
    for loop in range(1, schedule.num_feedback_loops + 1):
        rate = LOOP_DECAY ** (loop - 1)
        contexts = None if loop == 1 else torch.stack([each.trained_context(pool) for each in models])
        text = None
        if schedule.text_steps > 0:
            text = fit(
                models,
                pool,
                rows(seeds, len(pool.label), schedule.text_batch_size, schedule.text_steps, 2 * loop),
                partial(text_loss, original=schedule.original),
                PARTS["text"],
                lr=rate * schedule.text_lr,
                contexts=contexts,
            )
        for index, each in enumerate(models):
            hand_over(each, pool, None if contexts is None else contexts[index])
        image = fit(
            models,
            pool,
            rows(seeds, len(pool.label), schedule.image_batch_size, schedule.image_steps, 2 * loop + 1),
            loss,
            PARTS["image"],
            lr=rate * schedule.image_lr,
        )
        logs.append((text, image))
        if after_loop is not None:
            after_loop(loop)
    return logs


def hand_over(model: AdaptedCLIP, pool: Batch, context: Tensor | None = None) -> None:
    """Stage 1's outcome goes to stage 2; `context` is the model's own image context, by default the frozen towers'."""
    context = pool.context if context is None else context
    assert pool.stream is not None and context is not None  # narrows the types: prepared pools have both
    model.set_text(pool.stream, context[:CONTEXT_IMAGES])
