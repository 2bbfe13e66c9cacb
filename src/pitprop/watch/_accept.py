"""What can be watched and logged, and what to say about the rest."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pitprop._errors import PitpropError


def check_watchable(model: Any, optimizers: Sequence[Any]) -> None:
    """Refuse what can't be watched.

    Raises:
        PitpropError: `model` is no module, or has no parameters or uninitialised ones; there is no optimizer, or one
            without parameters, or without step hooks, or of another model.
    """
    if not isinstance(model, nn.Module):
        raise PitpropError(
            f"`watch` got a {type(model).__name__} as model",
            do="Pass the `torch.nn.Module` that is trained, then its optimizer.",
        )
    parameters = {id(p) for p in model.parameters()}
    if not parameters:
        raise PitpropError(
            f"the model ({type(model).__name__}) has no parameters",
            means="Nothing in it can be trained, so there is nothing to watch.",
            do="Pass the module that is trained; layers kept in a plain list are not registered (use `nn.ModuleList`).",
        )
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise PitpropError(
            f"the model ({type(model).__name__}) has parameters without a shape yet: {', '.join(lazy[:5])}",
            means="Lazy modules make their parameters in the first forward pass.",
            do="Run one batch through the model first, before the optimizer is built; then watch it.",
        )
    if not optimizers:
        raise PitpropError(
            "`watch` got no optimizer",
            means="Steps are seen through the optimizer.",
            do="Pass the optimizer, or a sequence of them.",
        )
    for optimizer in optimizers:
        kind = type(optimizer).__name__
        if not hasattr(optimizer, "register_step_post_hook") or not hasattr(optimizer, "param_groups"):
            raise PitpropError(
                f"`watch` got a {kind} as optimizer",
                means="Steps are seen through `register_step_pre_hook` and `register_step_post_hook`.",
                do="Pass a `torch.optim.Optimizer`, or a sequence of them.",
            )
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not held:
            raise PitpropError(
                f"the optimizer ({kind}) has no parameters",
                means="Its steps change nothing.",
                do="Build it from `model.parameters()`.",
            )
        if not held & parameters:
            raise PitpropError(
                f"the optimizer ({kind}) shares no parameter with the model ({type(model).__name__})",
                means="Its steps don't train this model; perhaps the model was copied or moved after it was built.",
                do="Pass the model and the optimizer that belong together.",
            )


def number(name: str, value: Any) -> Tensor | float:
    """A logged number; on an accelerator it stays there, as a copy, until many are moved together.

    Raises:
        PitpropError: It is not one number.
    """
    try:
        if isinstance(value, Tensor):
            value = value.detach()
            if value.numel() == 1 and value.device.type != "cpu":
                return value.clone()
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise PitpropError(
            f"`watch.log({name}=...)` got a {type(value).__name__}{shape}",
            means="A trace keeps one number per step and name.",
            do="Pass a number or a tensor of one element (reduce it first); batches of outputs go to `outputs=`.",
        ) from error
