"""Prior bias: the output layer starts at the classes' frequencies, so that no step is spent on learning them.

Paper: Lin et al., Focal Loss for Dense Object Detection (RetinaNet), arXiv 1708.02002 (2017), section 4.1: b =
-log((1 - p) / p) for a sigmoid; b = log p for a softmax.
Source: written from the formula; no code copied.
Differences: for a softmax, all classes at once.
Cost: none after the start.
Facts: with zero or small weights the first loss is the prior's entropy, and not ln(number of classes).
Insertion: changes the function on purpose, at the start of a training; not for a trained model.
Does not help: where training has found the prior anyway, which takes tens of steps; it can't make up for inputs that
say nothing.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def prior_bias(layer: nn.Module, prior: Tensor, *, sigmoid: bool = False) -> nn.Module:
    """Sets the bias of an output layer to the prior, in place.

    Args:
        layer: Anything with a `bias` of one number per class (`nn.Linear`, `nn.Conv2d`).
        prior: `[class]`, frequencies above 0 (and below 1 for a sigmoid); a softmax's are normalised.
        sigmoid: The classes are independent yes-or-no outputs.

    Returns:
        The layer. Raises `ValueError` where the bias is missing, has another shape, or a frequency is out of range.
    """
    bias = getattr(layer, "bias", None)
    if not isinstance(bias, Tensor) or bias.shape != prior.shape:
        raise ValueError(f"{type(layer).__name__} has no bias of shape {tuple(prior.shape)}")
    prior = prior.to(torch.float64)
    if not bool((prior > 0).all()) or (sigmoid and not bool((prior < 1).all())):
        raise ValueError("every frequency must be above 0 (and below 1 for a sigmoid): smooth the counts first")
    bias.copy_(torch.logit(prior) if sigmoid else torch.log(prior / prior.sum()))
    return layer
