"""The recipe: what is trained, on what, and which number says whether the merged CNN depends on its parents.

The metric is `output_spread` on held-out pairs: how far the merged CNNs lie apart, relative to how far their targets
do. It separates collapse from health by more than the margin (`results/claims.json`), it can't be had by not training
(the untrained model is inside the margin), and unlike a count of distinct rows it doesn't hang on a tolerance. Merged
accuracy can't serve: the mean of the training targets, one constant CNN, has more of it than many a healthy run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pitprop.cases._digits import digits
from pitprop.cases.model_merging import cnn
from pitprop.cases.model_merging.evaluation import evaluate, references
from pitprop.cases.model_merging.layers import AttentionKind, Gate
from pitprop.cases.model_merging.model import Bottleneck, TransformerAE
from pitprop.cases.model_merging.zoo import load, pairs
from pitprop.remedies.torch.gradient_stabiliser import GradientStabiliser
from pitprop.trials.recipe import Recipe

Objective = Literal["imitate", "task"]


@dataclass(frozen=True)
class Knobs:
    """Everything that may be chosen. Fields with declared alternatives are what `diagnose` tries by itself."""

    bottleneck: Bottleneck = "sum_tanh"
    """Pool by the sum and squash by tanh, as the original does; or pool by the mean and don't squash."""
    gate: Gate = "none"
    """Gate on the attention output: none, the seed's, or one of arXiv 2505.06708."""
    objective: Objective = "imitate"
    """`imitate`: squared error to the CNN trained on both parents' classes; `task`: cross-entropy of the merged CNN
    itself.
    """
    attention: AttentionKind = "learned"
    """`uniform` is a control: every attention weight is 1/50."""
    clip: float | None = None
    """Bound on the gradient's norm in the seed's stabiliser, which then bounds values by 0.5; 1.0 in the seed. No
    alternative is declared, because every diagnosis tries clipping at 1.0 anyway.
    """
    d_model: int = 100
    """Token width, 100 to 960 in the original."""
    num_heads: int = 4
    num_layers: int = 1
    """Layers in the encoder, and as many in the decoder; 4 in the original's large runs."""
    dropout: float = 0.07
    lr: float = 1e-3
    """Of Adam."""
    batch_size: int = 16
    num_images: int = 16
    """Images per pair and step, for the `task` objective."""


class Batch(NamedTuple):
    """What one step sees."""

    parents: Float[Tensor, "pair 2464"]
    target: Float[Tensor, "pair 1232"]
    images: Float[Tensor, "pair image 1 8 8"]
    labels: Int[Tensor, "pair image"]


def build_model(knobs: Knobs) -> TransformerAE:
    """A fresh model from torch's global random state."""
    return TransformerAE(
        d_model=knobs.d_model,
        num_heads=knobs.num_heads,
        num_layers=knobs.num_layers,
        bottleneck=knobs.bottleneck,
        gate=knobs.gate,
        attention=knobs.attention,
        dropout=knobs.dropout,
    )


class Merging:
    """One training of the merging transformer.

    Args:
        seed: Of the model's initialisation, the dropout and the order of the pairs.
        knobs: See `Knobs`.
        model: A model to train in place of a fresh one (a collapsed checkpoint, say).
    """

    def __init__(self, seed: int, knobs: Knobs, model: nn.Module | None = None):
        torch.manual_seed(seed)
        self.seed, self.knobs = seed, knobs
        self.model = build_model(knobs) if model is None else model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=knobs.lr, fused=True)
        self._stabiliser = None if knobs.clip is None else GradientStabiliser(max_norm=knobs.clip)
        self._own = [row[digits()[0].labels].nonzero().squeeze(1).numpy() for row in load().classes]

    def batches(self, cursor: int) -> Iterator[Batch]:
        """Training pairs with images of their classes; number `n` is a function of the seed and `n` alone."""
        zoo, chosen, train = load(), pairs("train"), digits()[0]
        while True:
            rng = np.random.default_rng((self.seed, cursor))
            at = torch.from_numpy(rng.integers(len(chosen.union), size=self.knobs.batch_size))
            union = chosen.union[at]
            picked = torch.from_numpy(
                np.stack([rng.choice(self._own[i], self.knobs.num_images) for i in union.tolist()])
            )
            parents = torch.cat([zoo.weights[chosen.first[at]], zoo.weights[chosen.second[at]]], 1)
            yield Batch(parents, zoo.weights[union], train.images[picked], train.labels[picked])
            cursor += 1

    def step(self, batch: Batch) -> Mapping[str, Any]:
        """One optimizer step; the gradients stay readable until the next."""
        merged = self.model(batch.parents)
        if self.knobs.objective == "imitate":
            loss = F.mse_loss(merged, batch.target)
        else:
            logits = cnn.forward_each(merged, batch.images)
            loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        if self._stabiliser is not None:
            self._stabiliser.clip_gradients(self.model.parameters())
        self.optimizer.step()
        return {"loss": loss.detach(), "outputs": merged.detach(), "targets": batch.target}

    def evaluate(self) -> Mapping[str, float]:
        """Measures on 64 held-out pairs; see `evaluation.evaluate`."""
        return evaluate(self.model)


def known() -> dict[str, dict[str, float]]:
    """Metric and accuracy of what needs no transformer; see `evaluation.references`."""
    return {
        name: {metric: values[metric] for metric in ("output_spread", "merged_accuracy")}
        for name, values in references().items()
    }


recipe = Recipe(
    build=Merging,
    knobs=Knobs,
    metric="output_spread",
    higher_is_better=True,
    margin=0.05,
    steps=100,
    guards=(
        "output_uniqueness",
        "merged_accuracy",
        "mse",
        "attention_entropy",
        "saturated_share",
        "within_vector_uniqueness",
        "wasserstein",
    ),
    references=known,
)
