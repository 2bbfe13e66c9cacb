"""What a loop that keeps an average of its weights (EMA) logs for the rule `ema-drift`.

watch.log(ema_loss=loss_of(average), trained_loss=loss_of(model), ema_decay=0.999)
watch.log(ema_drift=ema_drift(model, average))
"""

import torch
from torch import nn

from pitprop._errors import PitpropError
from pitprop.watch._quiet import norm, quiet, to_host


def ema_drift(model: nn.Module, average: nn.Module) -> float:
    """|w - average| / |w| over all parameters: how far the average lies from what it averages.

    Args:
        model: The trained model.
        average: Its average: a model of the same parameters (`torch.optim.swa_utils.AveragedModel` too).

    Returns:
        Pure number from 0 up; NaN for weights of zeros.

    Raises:
        PitpropError: The two don't have the same parameters.

    Cost: two passes over the parameters and one transfer. Source: `update_ratio`, of the average instead of a step.
    """
    ours, theirs = list(model.parameters()), list(average.parameters())
    if [p.shape for p in ours] != [p.shape for p in theirs]:
        raise PitpropError(
            f"the average has {len(theirs)} parameters and the model {len(ours)}, or their shapes differ",
            means="They are compared tensor by tensor, in their order.",
            do="Pass the model and the average that was made from it.",
        )
    with quiet():
        pairs = [(p.detach().float(), q.detach().float().to(p.device)) for p, q in zip(ours, theirs, strict=True)]
        apart = torch.stack([norm(p - q) for p, q in pairs])
        length = torch.stack([norm(p) for p, _ in pairs])
        numbers = to_host([norm(apart), norm(length)])
    return numbers[0] / numbers[1] if numbers[1] else float("nan")
