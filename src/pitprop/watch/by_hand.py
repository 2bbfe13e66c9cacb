"""Measures that cost a pass of their own, so that the loop asks for them: `if watch.sampling: watch.log(...)`.

They leave the training as it is: no gradient is accumulated, buffers (running statistics) and random generators are put
back, and a copy is trained instead of the model. State that a model keeps elsewhere (a cache in an attribute) is not.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pitprop._errors import PitpropError
from pitprop.indicators import gradient_cosine
from pitprop.watch._quiet import quiet
from pitprop.watch.state import rng_state, set_rng_state


def paired_gap(model: nn.Module, plain: Callable[[], Any], changed: Callable[[], Any]) -> float:
    """(L_changed - L_plain) / |L_plain| of one batch, both losses on the same random numbers and without gradients.

    For `condition_gap` (a condition rolled over the batch) and `ablation_gap` (a branch zeroed or shuffled).

    Args:
        model: Whose buffers are put back.
        plain: Returns the loss as it is trained; a number or a tensor of one element.
        changed: Returns the loss of the same batch with the condition or branch changed.

    Returns:
        The relative gap: positive where the change hurts; NaN where the plain loss is 0 or not finite.
    """
    with torch.no_grad():
        losses = []
        for loss in (plain, changed):
            with untouched(model):
                losses.append(float(loss()))
    before, after = losses
    return (after - before) / abs(before) if math.isfinite(before) and before else math.nan


def loss_conflict(first: Tensor, second: Tensor, model: nn.Module | Iterable[nn.Parameter]) -> Float[Tensor, ""]:
    """Cosine of the gradients of two losses of one batch, over the parameters that both reach; for `gradient_cosine`.

    Ask before `backward()`: the graph is kept for it, and no `.grad` is touched.

    Args:
        first: One loss, a tensor with a graph.
        second: The other.
        model: The model, or the parameters that the two share.

    Returns:
        A scalar in [-1, 1]; NaN where a gradient is zero or no parameter is shared.

    Raises:
        PitpropError: A loss has no graph (computed without gradients, or already freed).
    """
    parameters = [p for p in (model.parameters() if isinstance(model, nn.Module) else model) if p.requires_grad]
    gradients = []
    for name, loss in (("first", first), ("second", second)):
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise PitpropError(
                f"`loss_conflict` got a `{name}` loss without a graph",
                means="Its gradient can't be taken.",
                do="Pass the tensors themselves, before `backward()`, not `.item()` or a detached copy.",
            )
        gradients.append(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))
    shared = [(a, b) for a, b in zip(*gradients, strict=True) if a is not None and b is not None]
    if not shared:
        return first.detach() * math.nan
    with quiet():
        return gradient_cosine(
            *(torch.cat([gradient.flatten() for gradient in side]) for side in zip(*shared, strict=True))
        )


def steps_to_fit(
    model: nn.Module, inputs: Any, *, size: float = 1.0, learning_rate: float = 1e-3, most: int = 500, seed: int = 0
) -> float:
    """Steps that a copy of the model needs to explain half of the variance of fresh noise added to its outputs.

    Fresh noise around the outputs as they are, of a size that stays: targets that forget the outputs or grow with them
    would measure how certain a network has become. Costs one forward and backward pass per step: ask rarely.

    Args:
        model: Copied, never trained; it should be in the mode in which it is trained.
        inputs: A batch: the argument of the model, or a tuple of its arguments.
        size: Standard deviation of the noise, in the unit of the outputs; 1 suits logits and normalised targets.
        learning_rate: Of the copy's Adam.
        most: Steps after which it is given up.
        seed: Of the noise.

    Returns:
        Number of steps; infinite where it was given up, NaN where the outputs are not finite.

    Raises:
        PitpropError: The model does not return one floating tensor, or `size` is not positive.
    """
    if not (math.isfinite(size) and size > 0):
        raise PitpropError(
            f"`steps_to_fit` got the size {size}",
            means="Noise of no size is fitted at once.",
            do="Pass the size of a change that matters in the outputs, such as the targets' standard deviation.",
        )
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with untouched(model), torch.enable_grad():
        learner = copy.deepcopy(model)
        optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], learning_rate)
        targets = None
        for step in range(most + 1):
            outputs = learner(*arguments)
            if targets is None:
                if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
                    raise PitpropError(
                        f"`steps_to_fit` got a {type(outputs).__name__} from the model",
                        means="A copy is fitted to noise of the outputs' shape.",
                        do="Pass a module that returns one tensor (wrap the model).",
                    )
                noise = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(seed))
                targets = outputs.detach().float() + size * noise.to(outputs.device)
            loss = (outputs.float() - targets).square().mean() / size**2
            if step == 0 and not loss.isfinite():
                return math.nan
            if loss.item() <= 0.5:
                return float(step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return math.inf


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put buffers and random generators back afterwards.

    The model works on copies of its buffers, because writing the old values back in place could spoil a graph.
    """
    state = rng_state()
    kept = [(module, dict(module._buffers)) for module in model.modules() if module._buffers]
    try:
        for module, buffers in kept:
            for name, buffer in buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)
        set_rng_state(state)
