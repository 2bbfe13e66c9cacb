"""One pass through the model that leaves no trace: all that it touched is put back, also after an error."""

import contextlib
import copy
import dataclasses
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pitprop.checks._check import LossFn, Subject

PLAIN = (bool, int, float, str, type(None))


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Within, `model` may be run and changed; on leaving, it is what it was.

    Put back are parameters and their gradients, buffers, modes, attributes of plain type (flags and counters), and the
    random states of python, numpy and torch. Compiled code runs eagerly within.
    """
    plain = [(module, {k: v for k, v in vars(module).items() if type(v) in PLAIN}) for module in model.modules()]
    buffers = [
        (module, dict(module._buffers), {k: v.clone() for k, v in module.named_buffers(recurse=False)})
        for module in model.modules()
    ]
    weights = [(p, p.detach().clone(), p.grad, p.requires_grad) for p in model.parameters()]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global state is the point)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    # Nothing is compiled before Dynamo is imported, and importing it takes seconds.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    try:
        for parameter, *_ in weights:
            parameter.grad = None  # the caller's own gradient must neither be added to nor overwritten
        with torch.random.fork_rng(devices), eager:
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for module, values in plain:
            module.__dict__.update(values)
        with torch.no_grad():
            for parameter, value, gradient, asks in weights:
                if not torch.equal(parameter, value):
                    parameter.copy_(value)
                parameter.requires_grad_(asks)
                parameter.grad = gradient
            for module, tensors, values in buffers:
                module._buffers.clear()
                module._buffers.update(tensors)
                for name, value in values.items():
                    module.get_buffer(name).copy_(value)


def forward(model: nn.Module, batch: Any, loss_fn: LossFn | None = None) -> Any:
    """What `loss_fn(model, batch)` returns, or without one what `model` makes of `batch`."""
    if loss_fn is not None:
        return loss_fn(model, batch)
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a batch through the model, and back."""

    args: tuple[Any, ...]
    """Positional arguments of the first call of the model; with `kwargs`, the call can be made again."""
    kwargs: dict[str, Any]
    output: Any
    """What that call returned; None where the model itself was never called."""
    loss: Tensor | None
    """The loss, where there was one: a number made from the batch rather than our readout."""
    gradients: dict[str, Tensor | None]
    """Gradient of every parameter that asks for one; None where none came."""


def one_pass(subject: Subject, batch: Any, *, seed: int = 0) -> Pass:
    """Run `batch` forward and backward; call it within `preserved(subject.model)`.

    Without a loss, the gradient is that of a random linear readout of the outputs: it is zero exactly where the
    gradient of almost every loss is.
    """
    model = subject.model
    calls: list[tuple] = []
    came: dict[str, Tensor] = {}
    asking = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def called(_module, args, kwargs, output):
        if not calls:
            calls.append((args, kwargs, output))

    handles = [model.register_forward_hook(called, with_kwargs=True)]
    for name, parameter in asking.items():
        parameter.grad = None

        def arrived(p, name=name):
            came[name] = p.grad.detach().clone()

        handles.append(parameter.register_post_accumulate_grad_hook(arrived))
    try:
        torch.manual_seed(seed)
        with torch.enable_grad():
            result = forward(model, batch, subject.loss_fn)
            args, kwargs, output = calls[0] if calls else ((), {}, None)
            is_loss = isinstance(result, Mapping) or (isinstance(result, Tensor) and result.dim() == 0)
            loss = loss_of(result) if subject.loss_fn or is_loss else None
            if not came:
                target = readout(result) if loss is None else loss
                if target is not None and target.requires_grad:
                    target.backward()
    finally:
        for handle in handles:
            handle.remove()
    # A loop may set gradients itself (`torch.func`), past the hooks.
    gradients = {name: came.get(name, p.grad) for name, p in asking.items()}
    for parameter in asking.values():
        parameter.grad = None
    return Pass(args, kwargs, output, None if loss is None else loss.detach(), gradients)


def differ(before: list[Tensor], after: list[Tensor]) -> bool:
    """Whether any tensor has moved by more than rounding errors, relative to its largest element."""
    for a, b in zip(before, after, strict=True):
        if a.shape != b.shape:
            return True
        if not a.is_floating_point():
            if not torch.equal(a, b):
                return True
        elif a.numel() and not (a - b).abs().max() <= torch.finfo(a.dtype).eps ** 0.5 * a.abs().max():
            return True
    return False


def loss_of(result: Any) -> Tensor | None:
    """The loss in what a pass returned: a number by itself, first of several, or called `loss`."""
    if isinstance(result, Mapping):
        result = result.get("loss")
    elif isinstance(result, tuple | list) and result:
        result = result[0]
    if isinstance(result, float):
        return torch.tensor(result)
    return result if isinstance(result, Tensor) and result.numel() == 1 and result.is_floating_point() else None


def readout(result: Any) -> Tensor | None:
    """A random linear function of all floating outputs."""
    outputs = [t for t in tensors_in(result) if t.is_floating_point() and t.requires_grad]
    return sum((t * torch.randn_like(t)).sum() for t in outputs) if outputs else None  # type: ignore[return-value]


def twin(model: nn.Module, other: nn.Module) -> nn.Module | None:
    """The module within `other`, or that itself, that is built like `model`: averages are often wrapped."""
    ours = dict(model.named_modules()).keys()
    return next((m for m in other.modules() if m is not model and dict(m.named_modules()).keys() == ours), None)


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists, mappings and dataclasses, in order."""
    return list(named_tensors(value).values())


def named_tensors(value: Any, name: str = "batch") -> dict[str, Tensor]:
    """The same, by dotted path."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif hasattr(value, "__dataclass_fields__"):
        items = [(field, getattr(value, field)) for field in value.__dataclass_fields__]
    elif isinstance(value, tuple | list):
        items = list(zip(getattr(value, "_fields", map(str, range(len(value)))), value, strict=True))
    else:
        return {}
    return {path: tensor for key, item in items for path, tensor in named_tensors(item, f"{name}.{key}").items()}


def with_tensors(value: Any, tensors: Mapping[str, Tensor], name: str = "batch") -> Any:
    """A copy of `value` with its tensors, by the paths of `named_tensors`, replaced by those of `tensors`."""
    if isinstance(value, Tensor):
        return tensors.get(name, value)
    if isinstance(value, MutableMapping):
        copied = copy.copy(value)
        for key, item in value.items():
            copied[key] = with_tensors(item, tensors, f"{name}.{key}")
        return copied
    if hasattr(value, "__dataclass_fields__"):
        fields = {
            key: with_tensors(getattr(value, key), tensors, f"{name}.{key}") for key in value.__dataclass_fields__
        }
        return dataclasses.replace(value, **fields)
    if isinstance(value, tuple | list):
        keys = getattr(value, "_fields", map(str, range(len(value))))
        items = [with_tensors(item, tensors, f"{name}.{key}") for key, item in zip(keys, value, strict=True)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


@contextlib.contextmanager
def kept(model: nn.Module, optimizers: Iterable[Any]) -> Iterator[None]:
    """Like `preserved`, and the state of `optimizers` with it."""
    states = [
        (one, {p: {k: (v, _copy(v)) for k, v in state.items()} for p, state in one.state.items()}, [*one.param_groups])
        for one in optimizers
    ]
    groups = [[dict(group, params=[*group["params"]]) for group in one.param_groups] for one, *_ in states]
    try:
        with preserved(model):
            yield
    finally:
        for (one, state, identities), values in zip(states, groups, strict=True):
            one.state.clear()
            for parameter, entries in state.items():
                for kept_value, value in entries.values():
                    if isinstance(kept_value, Tensor):
                        kept_value.copy_(value)
                one.state[parameter] = {k: original for k, (original, _) in entries.items()}
            for group, value in zip(identities, values, strict=True):
                group.clear()
                group.update(value)
            one.param_groups[:] = identities


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
