"""Trains several models of one structure at once: same towers, each its own adapters, context and batches.

The towers are frozen and shared, so all models' tokens go through them as one batch. Adam works element by element, so
stacked parameters are trained as they would be alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.sample import Batch, take

BETAS = (0.5, 0.999)
"""Of Adam, in both stages."""
PARTS = {"text": ("text_adapter", "text_cross_attn"), "image": ("image_adapter", "image_cross_attn")}
"""What each stage trains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What one stage logs."""

    loss: Float[Tensor, "step model"]
    gradient_norms: dict[str, Float[Tensor, "step model"]]
    """Per trained part."""


class _Objective(nn.Module):
    """A loss as a module, which is what `functional_call` takes."""

    def __init__(self, model: AdaptedCLIP, loss: Callable[[AdaptedCLIP, Batch], Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(self.model, batch)


def rows(
    seeds: Sequence[int], num: int, batch_size: int, steps: int, stage: int = 0
) -> Int[Tensor, "step model image"]:
    """Which images each model sees at each step: a function of its seed and the stage."""
    drawn = [
        torch.randint(num, (steps, batch_size), generator=torch.Generator().manual_seed(1009 * seed + stage))
        for seed in seeds
    ]
    return torch.stack(drawn, 1)


def fit(
    models: Sequence[AdaptedCLIP],
    pool: Batch,
    which: Int[Tensor, "step model image"],
    loss: Callable[[AdaptedCLIP, Batch], Tensor],
    parts: Sequence[str],
    *,
    lr: float,
    contexts: Float[Tensor, "model image patch embed"] | None = None,
    gradient_factors: Mapping[str, float] | None = None,
    milestones: Sequence[float] = (0.5, 0.8),
) -> Log:
    """Trains every model's `parts` with a new Adam, in place.

    Args:
        models: Of one structure, with the same towers.
        pool: Images, with what was computed before.
        which: Rows of the pool, see `rows`.
        loss: Of one model and batch.
        parts: Submodules by name that are trained; those that a model hasn't are left out.
        lr: Learning rate; halved at each milestone.
        contexts: Each model's own image context for stage 1, in place of the pool's.
        gradient_factors: Factor of a part's gradients before Adam sees them.
        milestones: Shares of the steps.
    """
    trained = {
        f"model.{name}": torch.stack([model.get_parameter(name).detach() for model in models]).requires_grad_()
        for name, _ in models[0].named_parameters()
        if name.split(".")[0] in parts
    }
    buffers = {f"model.{name}": torch.stack([model.get_buffer(name) for model in models]) for name in CONTEXT}
    objective = _Objective(models[0], loss)

    def of_one(parameters: dict[str, Tensor], own: dict[str, Tensor], context: Tensor | None, images: Tensor) -> Tensor:
        seen = pool if context is None else pool._replace(context=context)
        return functional_call(objective, {**parameters, **own}, (take(seen, images),))

    gradient = vmap(grad_and_value(of_one), in_dims=(0, 0, None if contexts is None else 0, 0))
    optimizer = torch.optim.Adam(trained.values(), lr=lr, betas=BETAS)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(m * len(which)) for m in milestones], gamma=0.5)
    losses, norms = [], {part: [] for part in parts}
    for images in which:
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule on the CPU
            values_now = {name: parameter.detach() for name, parameter in trained.items()}
            gradients, losses_now = gradient(values_now, buffers, contexts, images)
        for name, parameter in trained.items():
            parameter.grad = gradients[name] * (gradient_factors or {}).get(name.split(".")[1], 1.0)
        optimizer.step()
        schedule.step()
        losses.append(losses_now)
        for part in parts:
            squares = [
                g.reshape(len(g), -1).square().sum(1) for name, g in gradients.items() if name.split(".")[1] == part
            ]
            norms[part].append(
                torch.stack(squares).sum(0).sqrt() if squares else torch.full_like(losses_now, torch.nan)
            )
    with torch.no_grad():
        for name, parameter in trained.items():
            for model, value in zip(models, parameter, strict=True):
                model.get_parameter(name.removeprefix("model.")).copy_(value)
    return Log(loss=torch.stack(losses), gradient_norms={part: torch.stack(found) for part, found in norms.items()})


CONTEXT = ("text_features", "text_context")
"""Buffers that differ from model to model."""
