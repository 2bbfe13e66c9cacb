"""How good the solver is: exact grids, foreground and background, voting over augmentations, and signs of collapse."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pitprop.cases.grid_solver.augment import Change, changed, draw, identity
from pitprop.cases.grid_solver.canvas import IGNORED, Batch, collate
from pitprop.cases.grid_solver.tasks import NUM_COLOURS, Grid, Pair, Task

Predict = Callable[[Batch], Float[Tensor, "task colour row column"]]
"""Logits of a batch, in evaluation mode and without gradients."""
BACKGROUND = 0


def accuracies(
    logits: Float[Tensor, "task colour row column"], targets: Int[Tensor, "task row column"]
) -> dict[str, float]:
    """What the seed reports, over the cells inside the wanted grids.

    Returns:
        `exact`: share of grids that are right in every cell; `fg_accuracy` and `bg_accuracy`: right cells among the
        wanted ones that are, and aren't, foreground, per grid and then averaged over the grids that have any (NaN where
        none has); `bg_excess`: predicted minus wanted share of background; `marginal_entropy`: of the predicted colours
        over all cells, relative to the wanted colours' (1: as mixed as wanted, 0: one colour everywhere).
    """
    predicted, valid = logits.argmax(1), targets != IGNORED
    right = (predicted == targets) & valid
    foreground, background = valid & (targets != BACKGROUND), valid & (targets == BACKGROUND)
    said, wanted = (
        torch.bincount(grid[valid], minlength=NUM_COLOURS).double() / valid.sum() for grid in (predicted, targets)
    )
    return {
        "exact": float((right | ~valid).flatten(1).all(1).float().mean()),
        "fg_accuracy": _per_grid(right, foreground),
        "bg_accuracy": _per_grid(right, background),
        "bg_excess": float(said[BACKGROUND] - wanted[BACKGROUND]),
        "marginal_entropy": float(torch.special.entr(said).sum() / torch.special.entr(wanted).sum()),
    }


def vote(
    predict: Predict, task: Task, asked: Pair, *, size: int, max_pairs: int, num_changes: int, rng: np.random.Generator
) -> list[Grid]:
    """Different predictions of one asked pair, most votes first, each from a changed copy of the task.

    The size of the predicted grid is taken from the wanted one, as in the original's training metric: the solver says
    colours, not sizes.

    Args:
        predict: See `Predict`.
        task, asked: The pair must be one of the task's.
        size, max_pairs: Of the canvas.
        num_changes: Copies, the unchanged one among them.
        rng: Draws the changes.
    """
    changes = [identity(), *(draw(rng) for _ in range(num_changes - 1))]
    logits = predict(collate([_asked(task, asked, change) for change in changes], size, max_pairs))
    rows, columns = asked.output.shape
    votes: Counter[bytes] = Counter()
    for change, colours in zip(changes, logits.argmax(1).cpu().numpy(), strict=True):
        turned = change.apply(asked.output).shape
        votes[np.ascontiguousarray(change.undo(colours[: turned[0], : turned[1]])).tobytes()] += 1
    return [np.frombuffer(grid, dtype=np.int64).reshape(rows, columns) for grid, _ in votes.most_common()]


def pass_at(
    predict: Predict,
    tasks: Sequence[Task],
    *,
    size: int,
    max_pairs: int,
    num_changes: int = 8,
    ks: Sequence[int] = (1, 2, 3),
    seed: int = 0,
) -> Mapping[str, float]:
    """Share of test pairs whose wanted grid is among the first k of `vote`; keys `pass@k`."""
    hits, num = dict.fromkeys(ks, 0), 0
    for i, task in enumerate(tasks):
        for asked in task.test:
            rng = np.random.default_rng((seed, i))
            found = vote(predict, task, asked, size=size, max_pairs=max_pairs, num_changes=num_changes, rng=rng)
            num += 1
            for k in ks:
                hits[k] += any(np.array_equal(grid, asked.output) for grid in found[:k])
    return {f"pass@{k}": hits[k] / num for k in ks}


def _asked(task: Task, asked: Pair, change: Change) -> tuple[Task, Pair]:
    return changed(task, change), Pair(change.apply(asked.input), change.apply(asked.output))


def _per_grid(right: Tensor, among: Tensor) -> float:
    num = among.flatten(1).sum(1)
    share = (right & among).flatten(1).sum(1)[num > 0] / num[num > 0]
    return float(share.mean()) if len(share) else float("nan")
