"""The recipe: one training of the solver, with every change between the seed's OLD and NEW as a knob.

The metric is the accuracy on foreground cells of held-out tasks. It is what the seed lost; a solver that says
background everywhere has none of it, and the share of background alone can't be told from a task that has much.
Sizes are scaled down by reason, not by outcome: 32 x 1 and 18 x 2 tasks per optimizer step stand for the seed's 75 x 4
and 55 x 6, an epoch is `STEPS_PER_EPOCH` steps, and HyperLoRA's initial deviation is the one at which its change
relative to the hidden state is that of the original at width 256 (`hyperlora.py`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pitprop._errors import PitpropError
from pitprop.cases.grid_solver.augment import changed, draw
from pitprop.cases.grid_solver.canvas import Batch, collate
from pitprop.cases.grid_solver.clues import clue_penalty
from pitprop.cases.grid_solver.evaluation import accuracies
from pitprop.cases.grid_solver.hyperlora import gain, init_for, ratio_at_start
from pitprop.cases.grid_solver.kinds import generate
from pitprop.cases.grid_solver.losses import equivariance_loss, leave_one_out_loss, task_loss
from pitprop.cases.grid_solver.model import Architecture, GridSolver, original
from pitprop.cases.grid_solver.tasks import NUM_COLOURS, Task, read_folder
from pitprop.remedies.torch.ema import EMA
from pitprop.remedies.torch.stablemax_cross_entropy import log_stablemax
from pitprop.trials.recipe import Recipe

STEPS_PER_EPOCH = 30
MAX_PAIRS = 3
NUM_TRAIN, NUM_HELD_OUT = 500, 75
HELD_OUT_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class Knobs(Architecture):
    """Everything that may be chosen: the architecture's fields, and the training's."""

    size: int = 6
    """Side of the canvas; generated tasks have 6 to 10, of a folder those that fit are taken."""
    hidden_dim: int = 32
    num_solver_steps: int = 3
    places: int = 3
    max_clues: int = 6
    hyperlora_init: float = round(init_for(ratio_at_start(256, 0.1), 32), 3)
    """0.1 at width 256: the change is as large beside the hidden state as there."""
    batch_size: int = 32
    grad_accumulation_steps: int = 1
    lr: float = 1e-3
    hyperlora_lr_multiplier: float = 3.0
    weight_decay: float = 0.01
    clip: float = 1.0
    loss_mode: Literal["stablemax", "softmax"] = "stablemax"
    use_ema: bool = True
    ema_decay: float = 0.95
    """0.999 in the original, whose epochs have 44 times as many steps."""
    loo_training: bool = False
    equivariance_training: bool = False
    meta_learning_start_epoch: int = 3
    """Epoch from which the two losses above count."""
    min_clues: float = 2.5
    original: bool = False
    """The original's defects that change what is computed: columns encoded as rows, unmasked missing pairs, memory that
    adds the context past its gate, a loss over the whole canvas, an equivariance loss that is zero, and an average that
    keeps the stage it was copied at.
    """
    data: str = ""
    """Folder of ARC tasks; by default generated ones."""


@cache
def tasks(data: str, size: int) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    """Training and held-out tasks: generated with different seeds, or every eighth file of a folder held out."""
    if not data:
        return (
            tuple(generate(NUM_TRAIN, seed=0, largest=size)),
            tuple(generate(NUM_HELD_OUT, seed=HELD_OUT_SEED, largest=size)),
        )
    found = read_folder(Path(data), largest=size)
    if len(found) < 2:
        raise PitpropError(
            f"{data} has one task with grids of at most {size} x {size}",
            means="every eighth is held out, so that none is left to train on.",
            do="give a folder with more tasks, or a larger size.",
        )
    return tuple(t for i, t in enumerate(found) if i % 8), tuple(found[::8])


@cache
def prior(data: str, size: int) -> Float[Tensor, " colour"]:
    """Frequencies of the colours in the training outputs, every colour counted once more, so that none is 0.

    Colours but background are permuted in training, so that all of them have one frequency.
    """
    counts = sum(
        np.bincount(pair.output.ravel(), minlength=NUM_COLOURS) for task in tasks(data, size)[0] for pair in task.train
    )
    counts = torch.as_tensor(counts, dtype=torch.float32) + 1
    return torch.cat([counts[:1], counts[1:].mean().expand(NUM_COLOURS - 1)]) / counts.sum()


class Solving:
    """One training of the solver.

    Args:
        seed: Of the initialisation, the dropout, the order of the tasks and their augmentation.
        knobs: See `Knobs`; raises `PitpropError` where the width is no multiple of 8.
    """

    def __init__(self, seed: int, knobs: Knobs):
        if knobs.hidden_dim < 8 or knobs.hidden_dim % 8:
            raise PitpropError(f"`hidden_dim` is {knobs.hidden_dim}", do="choose a multiple of 8.")
        torch.manual_seed(seed)
        self.seed, self.knobs = seed, knobs
        architecture = Architecture(**{f.name: getattr(knobs, f.name) for f in fields(Architecture)})
        if knobs.original:
            architecture = original(architecture)
        self.model = GridSolver(architecture, size=knobs.size, prior=prior(knobs.data, knobs.size))
        adapters = list(self.model.hyperlora.parameters()) if self.model.hyperlora is not None else []
        rest = [p for name, p in self.model.named_parameters() if not name.startswith("hyperlora.")]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if adapters:
            groups.append({"params": adapters, "lr": knobs.lr * knobs.hyperlora_lr_multiplier})
        self.optimizer = torch.optim.AdamW(
            groups, lr=knobs.lr, betas=(0.9, 0.95), weight_decay=knobs.weight_decay, fused=True
        )
        self.ema = EMA(self.model, knobs.ema_decay, keeps_buffers=knobs.original) if knobs.use_ema else None

    def batches(self, cursor: int) -> Iterator[list[Batch]]:
        """The micro-batches of one optimizer step, augmented; number `n` is a function of the seed and `n` alone."""
        pool = tasks(self.knobs.data, self.knobs.size)[0]
        while True:
            rng = np.random.default_rng((self.seed, cursor))
            yield [self._draw(pool, rng) for _ in range(self.knobs.grad_accumulation_steps)]
            cursor += 1

    def _draw(self, pool: tuple[Task, ...], rng: np.random.Generator) -> Batch:
        asked = []
        for i in rng.integers(len(pool), size=self.knobs.batch_size):
            task = changed(pool[i], draw(rng))
            every = task.train + task.test
            asked.append((task, every[rng.integers(len(every))]))
        return collate(asked, self.knobs.size, MAX_PAIRS, rng if rng.random() < 0.3 else None)

    @property
    def steps_done(self) -> int:
        """From the model's state dict, so that a checkpoint carries it on."""
        return int(self.model.stages["hyperlora_active"].step)  # type: ignore[arg-type]

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.steps_done // STEPS_PER_EPOCH

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Loss of a micro-batch, what was read of its shown pairs, and what the loop knows of it."""
        knobs, model = self.knobs, self.model
        out = model(batch)
        task = task_loss(
            out.logits, batch.targets, stablemax=knobs.loss_mode == "stablemax", over_canvas=knobs.original
        )
        penalty = clue_penalty(out.clues, knobs.min_clues)
        loss = task + penalty
        told: dict[str, Any] = {
            "task_loss": task.detach(),
            "clue_loss": penalty.detach(),
            "logits": self.softmax_logits(out.logits.detach()),
            "labels": batch.targets,
        }
        if out.deltas is not None:
            told["adapter_ratio"] = gain(out.deltas)
        return loss, out.tokens, told

    def softmax_logits(
        self, logits: Float[Tensor, "task colour row column"]
    ) -> Float[Tensor, "task colour row column"]:
        """Logits of the same probabilities under a softmax, which is what reads them expects."""
        if self.knobs.loss_mode == "softmax":
            return logits
        return log_stablemax(logits.movedim(1, -1)).movedim(-1, 1).to(logits.dtype)

    def meta_losses(self, batch: Batch, tokens: Tensor) -> dict[str, Tensor]:
        """Leave-one-out and equivariance as they count; none before their epoch."""
        knobs, model, done = self.knobs, self.model, self.steps_done
        losses = {}
        if self.epoch >= knobs.meta_learning_start_epoch:
            if knobs.loo_training:
                losses["leave_one_out_loss"] = 0.2 * leave_one_out_loss(model, batch, tokens, done)
            if knobs.equivariance_training:
                apart = equivariance_loss(model, batch, tokens, turn=1 + done % 3, of_features=knobs.original)
                losses["equivariance_loss"] = 0.05 * apart
        return losses

    def step(self, batch: list[Batch]) -> Mapping[str, Any]:
        """One optimizer step; the gradients stay readable until the next."""
        self.model.train()
        self.optimizer.zero_grad()
        total, known, meta = torch.zeros(()), {}, {}
        for number, micro in enumerate(batch):
            loss, tokens, known = self.loss(micro)
            loss = loss / len(batch)
            if number == 0:  # on one micro-batch of each step, for the sake of time
                meta = self.meta_losses(micro, tokens)
                loss = loss + sum(meta.values())
            loss.backward()
            total = total + loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.knobs.clip)
        self.optimizer.step()
        self.model.advance()
        if self.ema is not None:
            self.ema.update()
        return {"loss": total, **known, **{name: value.detach() for name, value in meta.items()}}

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """`accuracies` and the task loss on held-out tasks, of the average where there is one."""
        model = self.model if self.ema is None else self.ema.module
        was, _ = model.training, model.eval()
        batch = held_out(self.knobs.data, self.knobs.size)
        logits = model(batch).logits
        model.train(was)
        return {**accuracies(logits, batch.targets), "held_out_loss": float(task_loss(logits, batch.targets))}


@cache
def held_out(data: str, size: int) -> Batch:
    """First test pair of every held-out task, without augmentation."""
    return collate([(task, task.test[0]) for task in tasks(data, size)[1]], size, MAX_PAIRS)


def known(data: str = Knobs.data, size: int = Knobs.size) -> dict[str, dict[str, float]]:
    """Background everywhere, and the input as it is: what needs no training."""
    batch = held_out(data, size)
    background = torch.zeros(len(batch.inputs), NUM_COLOURS, size, size)
    background[:, 0] = 1
    copied = nn.functional.one_hot(batch.inputs.clamp(max=NUM_COLOURS - 1), NUM_COLOURS).movedim(-1, 1).float()
    kept = ("fg_accuracy", "bg_accuracy", "exact", "bg_excess")
    return {
        name: {metric: values[metric] for metric in kept}
        for name, values in {
            "background everywhere": accuracies(background, batch.targets),
            "the input as it is": accuracies(copied, batch.targets),
        }.items()
    }


recipe = Recipe(
    build=Solving,
    knobs=Knobs,
    metric="fg_accuracy",
    higher_is_better=True,
    margin=0.05,
    steps=240,
    guards=("bg_accuracy", "bg_excess", "marginal_entropy", "exact=higher", "held_out_loss=lower"),
    references=known,
)
