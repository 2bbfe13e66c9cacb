"""What the solver is trained on: the task, held-out shown pairs, and equal changes for turned grids."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pitprop.cases.grid_solver.canvas import IGNORED, PAD, Batch
from pitprop.cases.grid_solver.encoders import pooled
from pitprop.cases.grid_solver.model import GridSolver
from pitprop.remedies.torch.stablemax_cross_entropy import stablemax_cross_entropy


def task_loss(
    logits: Float[Tensor, "task colour row column"],
    targets: Int[Tensor, "task row column"],
    *,
    stablemax: bool = True,
    over_canvas: bool = False,
) -> Float[Tensor, ""]:
    """Cross-entropy per cell, averaged over the cells of each task and then over the tasks.

    Args:
        logits, targets: Targets outside of the grid are `IGNORED`.
        stablemax: Stablemax in the place of softmax.
        over_canvas: As the original does it: average over the whole canvas, ignored cells counting as 0, so that a task
            of 3 x 3 weighs a hundredth of one of 30 x 30.
    """
    last = logits.movedim(1, -1)
    if stablemax:
        cells = stablemax_cross_entropy(last, targets, ignore_index=IGNORED, reduction="none")
    else:
        cells = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    if over_canvas:
        return cells.mean()
    return (cells.flatten(1).sum(1) / (targets != IGNORED).flatten(1).sum(1).clamp(min=1)).mean()


def leave_one_out(batch: Batch) -> Batch:
    """Every shown pair as the asked one of a task that shows the others; tasks with fewer than two are left out."""
    num_pairs = batch.shown.shape[1]
    tasks, pairs = (batch.shown & (batch.shown.sum(1, keepdim=True) > 1)).nonzero(as_tuple=True)
    others = torch.tensor([[j for j in range(num_pairs) if j != i] for i in range(num_pairs)], device=tasks.device)
    rest = others[pairs]
    wanted = batch.shown_outputs[tasks, pairs]
    return Batch(
        inputs=batch.shown_inputs[tasks, pairs],
        targets=wanted.masked_fill(wanted == PAD, IGNORED),
        shown_inputs=batch.shown_inputs[tasks[:, None], rest],
        shown_outputs=batch.shown_outputs[tasks[:, None], rest],
        shown=batch.shown[tasks[:, None], rest],
    )


def leave_one_out_loss(model: GridSolver, batch: Batch) -> Float[Tensor, ""]:
    """Softmax cross-entropy on held-out shown pairs; 0 where no task shows two."""
    held_out = leave_one_out(batch)
    if not len(held_out.inputs):
        return batch.inputs.new_zeros((), dtype=torch.float32)
    return task_loss(model(held_out).logits, held_out.targets, stablemax=False)


def equivariance_loss(model: GridSolver, batch: Batch, *, turn: int, of_features: bool = False) -> Float[Tensor, ""]:
    """How much HyperLoRA's changes differ when all grids are turned: squared distance over squared size.

    Args:
        model: Its HyperLoRA must be on; otherwise 0.
        batch: Shown pairs are turned, with their padding.
        turn: Quarter turns, 1 to 3.
        of_features: As the original does it: turn the feature maps instead of the grids. Their mean over the places,
            which is all that HyperLoRA sees, can't change by that: the loss is 0 whatever the model does.
    """
    tokens = model.context(batch.shown_inputs, batch.shown_outputs, batch.shown)
    plain = model.deltas_of(pooled(tokens, batch.shown))
    if plain is None:
        return tokens.new_zeros(())
    if of_features:
        side = model.context.places
        turned_tokens = tokens.unflatten(2, (side, side)).rot90(turn, (2, 3)).flatten(2, 3)
    else:
        turned = (grids.rot90(turn, (-2, -1)) for grids in (batch.shown_inputs, batch.shown_outputs))
        turned_tokens = model.context(*turned, batch.shown)
    other = model.deltas_of(pooled(turned_tokens, batch.shown)) or {}
    apart = sum((plain[place] - other[place]).square().sum() for place in plain)
    return apart / sum(delta.detach().square().sum() for delta in plain.values()).clamp(min=1e-12)  # type: ignore[union-attr]
