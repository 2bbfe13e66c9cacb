"""Thirteen small models on real data; each is a function from knobs to a `Task`, drawn from torch's generator."""

from collections.abc import Callable

from score_cards.models.adapters import lora
from score_cards.models.classifiers import cnn, gru, mlp
from score_cards.models.diffusion import dit
from score_cards.models.embeddings import contrastive, distilled
from score_cards.models.generative import vae, vq
from score_cards.models.joint import experts, fusion, weighted
from score_cards.models.sets import detr
from score_cards.models.transformers import gpt, vit
from score_cards.task import Task

MODELS: dict[str, Callable[..., Task]] = {
    make.__name__: make
    for make in (
        mlp, cnn, gru, gpt, vit, dit, vae, vq, lora, detr, contrastive, distilled, experts, fusion, weighted
    )
}  # fmt: skip
"""By name. All have defaults; only benign variants and faults pass knobs."""
