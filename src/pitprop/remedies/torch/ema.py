"""EMA: an average of the weights along the training, in a copy whose buffers are always the model's own.

Source: `torch.optim.swa_utils.AveragedModel` (BSD-3-Clause), used, not copied; d = .9999 as in DiT (arXiv 2212.09748).
Differences: torch's copy takes the buffers over at each update, or averages them; here they are taken over (batch
statistics, stage counters), and so is train/eval. As in torch, the first update
takes the weights as they are. An optional warm-up of the decay, min(d, (1 + n) / (10 + n)) as in TensorFlow's
ExponentialMovingAverage, keeps the start from weighing for 1 / (1 - d) steps.
Cost: one copy of the model, one pass over the parameters per update.
Facts: it reads the training and never writes to it: losses are the same bit for bit with and without it.
Insertion: keeps the function: the copy starts equal to the model.
Does not help: training. It can make evaluation better, or worse for about 1 / (1 - d) steps while the model changes
fast.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class EMA(AveragedModel):
    """Averages `model`'s parameters; call `update()` after each optimizer step, evaluate `averaged.module`.

    Args:
        model: What is trained. It must not be replaced while this lives.
        decay: Weight of the past, 0 to 1.
        warm_up: Let the decay grow from 0.1 to `decay`.
        keeps_buffers: As a copy by hand does that averages parameters alone: it keeps the buffers it was made with. A
            stage counter then stays where it was, and what is evaluated is another model than the one that is trained.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, *, warm_up: bool = False, keeps_buffers: bool = False):
        if not 0 <= decay <= 1:
            raise ValueError(f"the decay must be between 0 and 1, not {decay}")
        super().__init__(model, avg_fn=_average(decay, warm_up))
        # Not a submodule: the state dict of an average holds the average alone.
        self._read: Callable[[], nn.Module] = lambda: model
        self._keeps_buffers = keeps_buffers

    @torch.no_grad()
    def update(self) -> None:
        """Takes the model's current parameters into the average, its buffers and its mode as they are."""
        model = self._read()
        kept = [own.clone() for own in self.module.buffers()] if self._keeps_buffers else model.buffers()
        self.update_parameters(model)
        for own, there in zip(self.module.buffers(), kept, strict=True):
            own.copy_(there)
        if self._keeps_buffers:
            return
        for own, there in zip(self.module.modules(), model.modules(), strict=True):
            own.training = there.training


def _average(decay: float, warm_up: bool) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def average(averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
        num = int(num_averaged)
        return torch.lerp(averaged, current, 1 - (min(decay, (1 + num) / (10 + num)) if warm_up else decay))

    return average
