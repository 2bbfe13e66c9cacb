"""What is measured on held-out pairs, and the references that every result must be read against."""

import math
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pitprop.cases._digits import digits
from pitprop.cases.model_merging import cnn
from pitprop.cases.model_merging.layers import Attention
from pitprop.cases.model_merging.zoo import load, pairs
from pitprop.indicators import (
    attention_entropy_qk,
    output_spread,
    output_uniqueness,
    saturated_share,
    token_cosine,
    wasserstein_distance,
)

NUM_PAIRS = 64


class HeldOut(NamedTuple):
    """Pairs that training never sees."""

    parents: Float[Tensor, "pair 2464"]
    target: Float[Tensor, "pair 1232"]
    classes: Bool[Tensor, "pair 10"]


@cache
def held_out(split: Literal["validation", "test"] = "validation", num_pairs: int = NUM_PAIRS) -> HeldOut:
    """`num_pairs` pairs, evenly spaced over a split. `test` pairs hold class 0, which no training pair does."""
    zoo, chosen = load(), pairs(split)
    at = torch.linspace(0, len(chosen.union) - 1, num_pairs).long()
    parents = torch.cat([zoo.weights[chosen.first[at]], zoo.weights[chosen.second[at]]], 1)
    return HeldOut(parents, zoo.weights[chosen.union[at]], zoo.classes[chosen.union[at]])


@torch.no_grad()
def look(model: nn.Module, parents: Float[Tensor, "pair 2464"]) -> tuple[Float[Tensor, "pair 1232"], dict[str, float]]:
    """The model's outputs in evaluation mode, and what goes on inside it; the model is left as it was.

    Returns:
        The merged CNNs, and `attention_entropy` (normalised, mean over layers and heads; 1 is uniform),
        `saturated_share` of the neck (NaN without a tanh), `token_cosine` of the encoder's output. What a model doesn't
        have is NaN.
    """
    inputs: dict[Attention, Tensor] = {}
    seen: dict[str, Tensor] = {}
    named = dict(model.named_modules())

    def keep_input(module: Any, args: tuple[Tensor, ...]) -> None:
        inputs[module] = args[0]

    def keep_output(name: str) -> Any:
        return lambda _module, _args, output: seen.__setitem__(name, output)

    handles = [m.register_forward_pre_hook(keep_input) for m in named.values() if isinstance(m, Attention)]
    squash = named.get("neck.squash", nn.Identity())
    if any(isinstance(module, nn.Tanh) for module in squash.modules()):
        handles.append(squash.register_forward_hook(keep_output("code")))
    if "encoder" in named:
        handles.append(named["encoder"].register_forward_hook(keep_output("tokens")))
    was_training = model.training
    model.eval()
    try:
        outputs = model(parents)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    entropies = [attention_entropy_qk(*module.query_key(x)).mean() for module, x in inputs.items()]
    return outputs, {
        "attention_entropy": float(torch.stack(entropies).mean()) if entropies else math.nan,
        "saturated_share": float(saturated_share(seen["code"], "tanh")) if "code" in seen else math.nan,
        "token_cosine": float(token_cosine(seen["tokens"]).mean()) if "tokens" in seen else math.nan,
    }


def score(outputs: Float[Tensor, "pair 1232"], held: HeldOut) -> dict[str, float]:
    """How good merged CNNs are, and how much they differ from pair to pair.

    Returns:
        `output_spread` and `output_uniqueness` (of the indicators of that name), `merged_accuracy` on the union's
        classes, `mse` to the CNN of the union, `within_vector_uniqueness` (the original author's metric: distinct
        values inside one vector; it can't see that all vectors are the same), `wasserstein` (distance between the
        weight distributions of output and target).
    """
    test = digits()[1]
    within = [len(row.unique()) / len(row) for row in outputs]
    return {
        "output_spread": float(output_spread(outputs, held.target)),
        "output_uniqueness": float(output_uniqueness(outputs)),
        "merged_accuracy": float(cnn.accuracy(outputs, test.images, test.labels, held.classes).mean()),
        "mse": float(torch.nn.functional.mse_loss(outputs, held.target)),
        "within_vector_uniqueness": sum(within) / len(within),
        "wasserstein": float(wasserstein_distance(outputs, held.target).mean()),
    }


def evaluate(model: nn.Module, held: HeldOut | None = None) -> dict[str, float]:
    """All measures of a model on held-out pairs; draws no random numbers and leaves the model as it was."""
    held = held or held_out()
    outputs, inside = look(model, held.parents)
    return {**score(outputs, held), **inside}


@cache
def references(split: Literal["validation", "test"] = "validation") -> dict[str, dict[str, float]]:
    """What needs no transformer: the constant mean of the training targets, the parents' average, the CNN of the
    union.
    """
    held, zoo = held_out(split), load()
    constant = zoo.weights[pairs("train").union.unique()].mean(0).expand(len(held.target), -1)
    first, second = held.parents.chunk(2, dim=1)
    return {
        "constant mean": score(constant, held),
        "parents' average": score((first + second) / 2, held),
        "CNN of the union": score(held.target, held),
    }
