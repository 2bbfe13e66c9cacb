"""What the solver is trained on: the task, held-out shown pairs, and equal changes for turned grids."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
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


def leave_one_out(batch: Batch, turn: int) -> tuple[Batch, Bool[Tensor, " task"]]:
    """One shown pair of each task as the asked one, the others shown; which pair goes round with `turn`.

    Returns:
        The tasks that show two pairs or more, and which of the batch's they are.
    """
    some = batch.shown.sum(1) > 1
    own, every = batch.shown[some], torch.arange(int(some.sum()), device=some.device)
    # The (turn mod number)-th of the pairs that are there.
    nth = torch.remainder(turn + every, own.sum(1))
    held = ((own.cumsum(1) - 1 == nth[:, None]) & own).int().argmax(1)
    wanted = batch.shown_outputs[some][every, held]
    left = own.clone()
    left[every, held] = False
    return Batch(
        inputs=batch.shown_inputs[some][every, held],
        targets=wanted.masked_fill(wanted == PAD, IGNORED),
        shown_inputs=batch.shown_inputs[some],
        shown_outputs=batch.shown_outputs[some],
        shown=left,
    ), some


def leave_one_out_loss(
    model: GridSolver, batch: Batch, tokens: Float[Tensor, "task pair place width"], turn: int
) -> Float[Tensor, ""]:
    """Softmax cross-entropy on a held-out shown pair of each task; 0 where no task shows two.

    The original holds out every pair in turn and adds N passes to a step; here one at a time, whose expectation is the
    same. As there, what was read of the pairs (`tokens`) gets no gradient from this.
    """
    held_out, some = leave_one_out(batch, turn)
    if not len(held_out.inputs):
        return tokens.new_zeros(())
    read = tokens.detach()[some] * held_out.shown[..., None, None]
    return task_loss(model(held_out, read).logits, held_out.targets, stablemax=False)


def equivariance_loss(
    model: GridSolver,
    batch: Batch,
    tokens: Float[Tensor, "task pair place width"],
    *,
    turn: int,
    of_features: bool = False,
) -> Float[Tensor, ""]:
    """How much HyperLoRA's changes differ when all grids are turned: squared distance over squared size.

    Args:
        model: Its HyperLoRA must be on; otherwise 0.
        batch: Shown pairs are turned, with their padding.
        tokens: What the model reads of them as they are.
        turn: Quarter turns, 1 to 3.
        of_features: As the original does it: turn the feature maps instead of the grids. Their mean over the places,
            which is all that HyperLoRA sees, can't change by that: the loss is 0 whatever the model does.
    """
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
