"""The torch edge of a watch: hooks that come for a measured step and go after it, and nothing else.

Steps are seen through the optimizers. On a measured step there are, besides: a post-accumulate hook per parameter (the
only gradient hook that survives `torch.compile`, and the only one that comes before clipping), forward hooks on the
modules (for their names and streams), and the dispatch mode around the outermost forward pass. Nothing draws random
numbers, writes in place, or outlives its step.
"""

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pitprop._errors import PitpropError
from pitprop.indicators import activation_peak, effective_rank, token_cosine
from pitprop.watch import attention
from pitprop.watch._accept import check_watchable, number
from pitprop.watch._begun import Begun
from pitprop.watch._hook import Hook
from pitprop.watch._quiet import is_plain, norm, quiet, to_host
from pitprop.watch.adapters import Adapters
from pitprop.watch.derived import derived
from pitprop.watch.dispatch import ForwardMode
from pitprop.watch.feeds import Feeds
from pitprop.watch.measured import Measured
from pitprop.watch.optimizer import Updates
from pitprop.watch.provenance import storage_key
from pitprop.watch.session import Finished
from pitprop.watch.sites import read_sites
from pitprop.watch.state import state_bytes, write_checkpoint
from pitprop.watch.zero_gradients import excused, zero_gradients

STREAM_BATCH, STREAM_TOKENS = 2, 32
"""Batch elements, and evenly spaced tokens, of a stream that are measured."""

_watched: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


class TorchEdge:
    """Attaches to a model and its optimizers; the session tells it which steps to measure.

    Several optimizers make one step together: it ends when each that is in use has stepped once. One that rests is
    waited for only until another steps twice; it counts again from its next step on.

    Args:
        model: The model, as `torch.compile` returned it where it is compiled.
        optimizers: Every optimizer whose steps count.
        scaler: `GradScaler` in use, so that gradients are reported unscaled.
        on_step: Called when a step has ended, inside the optimizer's `step`.
        working: Context in which pitprop's own time is accounted for.
        on_error: `on_error(tap, exception)`, for an error of ours that must not reach the loop.

    Raises:
        PitpropError: There is nothing to watch: no parameters, or optimizers of something else.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        scaler: Any = None,
        on_step: Callable[[], None],
        working: Callable[[], contextlib.AbstractContextManager],
        on_error: Callable[[str, Exception], None],
    ):
        check_watchable(model, optimizers)
        self.model, self.optimizers, self.scaler = model, tuple(optimizers), scaler
        self.sites = read_sites(model)
        self.active = False
        """Whether a forward or a backward pass was seen since the measured step began."""
        self.num_forwards = 0
        self.attention_seen: set[str] = set()
        self.attention_unmeasured: dict[str, int] = {}
        self._on_step, self._working, self._on_error = on_step, working, on_error
        self._parameters = frozenset(storage_key(p) for p in model.parameters() if is_plain(p))
        self._late = _late_modules(model)
        self._disabled: set[str] = set()
        self._step_hooks: list = []
        self._hooks: list = []
        self._late_hooks: list = []
        self._stack: list[tuple[nn.Module, str]] = []
        self._mode: ForwardMode | None = None
        self._maps = False
        self._stepped: set[Optimizer] = set()
        self._awaited: set[Optimizer] = set(self.optimizers)
        self._measuring = False
        self._measured = Measured()
        self._updates = Updates(self.sites.owners)
        self._adapters, self._excused = Adapters(model), excused(model)
        self._scale: float | None = None
        self._unhookable: set[str] = set()
        self._num_gradients = 0
        self._hooks_fired = False
        self._first_gradient: nn.Parameter | None = None
        self.num_backwards = 0
        """Backward passes seen since the measured step began."""
        self._begun = Begun()
        self.feeds = Feeds()

    @property
    def device(self) -> str:
        """Device of the first parameter."""
        return str(next(self.model.parameters()).device)

    # -- steps ---------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Start to see steps."""
        if self.model in _watched:
            raise PitpropError(
                "this model is being watched already",
                means="Two watches would count each other's work.",
                do="Leave the first `with pitprop.watch(...)` before the second begins.",
            )
        _watched.add(self.model)
        self._begun = Begun()
        for optimizer in self.optimizers:
            self._step_hooks.append(optimizer.register_step_pre_hook(self._before_step))
            self._step_hooks.append(optimizer.register_step_post_hook(self._after_step))

    def detach(self) -> None:
        """Take off every hook and leave the dispatch mode; harmless when repeated."""
        self._end_measuring()
        self._measured = Measured()
        for hook in self._step_hooks:
            hook.remove()
        self._step_hooks.clear()
        _watched.discard(self.model)

    def begin(self, *, maps: bool) -> None:
        """Measure the step that begins now; `maps` keeps attention maps as well."""
        self._maps, self._measuring, self.active, self._scale = maps, True, False, None
        self._hooks_fired, self._first_gradient, self.num_backwards = False, None, 0
        for module in self.sites.names:
            if module not in self.sites.inside_compiled and module not in self._late:
                self._hook(module, self._hooks)
        if "gradient" not in self._disabled:
            for parameter in self.sites.owners:
                if parameter.requires_grad and is_plain(parameter):
                    self._hooks.append(parameter.register_post_accumulate_grad_hook(self._gradient))
        with self._guard("adapters"):
            for indicator, module, value in self._adapters.measure(self.optimizers):
                self._keep(indicator, self.sites.names[module], value)

    def finish(self) -> Finished:
        """End measuring: gives `{indicator: {site: value}}`, averaged over forward passes, and the maps."""
        self._end_measuring()
        measured, self._measured = self._measured, Measured()
        self._num_gradients += len(measured.norms)
        values = measured.values(self.sites.owners, self._scale or 1.0)
        with self._guard("optimizer"):
            values |= self._updates.values()
            norms = dict(zip(measured.norms, to_host(list(measured.norms.values())), strict=True))
            values |= zero_gradients(norms, self.sites.owners, self._excused)
            values |= derived(values, self._scale)
        arrays = measured.arrays()
        return lambda: (values, arrays)

    def begun(self) -> bool | None:
        """Whether a forward pass came since the last step ended; None where that can't be told (no autograd at all)."""
        if self._measuring and self.active:
            return True
        told = self._begun.told
        # Where forward passes are seen, arithmetic with the outputs of the last one can't be taken for one.
        return False if told and self._measuring and self.num_forwards else told

    def _before_step(self, optimizer: Optimizer, args, kwargs) -> None:
        if self._measuring:
            with self._working(), self._guard("update_ratio"):
                if self.scaler is not None and self._scale is None:
                    self._scale = float(self.scaler.get_scale())
                own_gradients = None if self._hooks_fired else self._scale or 1.0
                self._updates.remember(optimizer, self._measured, own_gradients)

    def _after_step(self, optimizer: Optimizer, args, kwargs) -> None:
        with self._working():
            if self._measuring:
                with self._guard("update_ratio"):
                    self._updates.measure(optimizer, self._measured)
            if optimizer in self._stepped:
                self._awaited &= self._stepped
            self._stepped.add(optimizer)
            self._awaited.add(optimizer)
            if self._awaited <= self._stepped:
                self._stepped.clear()
                self._begun.end_step()
                self._on_step()

    # -- taps ----------------------------------------------------------------------------------------------------

    def tap(self, name: str, tensor: Tensor) -> None:
        """Measure a `[..., token, width]` stream."""
        if not self._open_for_taps():
            return
        if tensor.dim() < 2:
            raise PitpropError(
                f"tap {name!r} got a tensor of shape {tuple(tensor.shape)}",
                means="It measures how alike and how varied tokens are, over the last axes `token width`.",
                do="Pass a tensor with two axes or more; a scalar goes to `watch.log`.",
            )
        self.active = True
        with self._guard(f"tap {name}"):
            self._stream(name, tensor)

    def tap_attention(self, name: str, q: Tensor, k: Tensor, **call) -> None:
        """Measure one attention call by its q and k."""
        if not self._open_for_taps():
            return
        self.active = True
        with self._guard(f"tap_attention {name}"):
            with quiet():
                measured = attention.from_qk(q, k, with_map=self._maps, **call)
            for indicator, value in measured.numbers.items():
                self._keep(indicator, name, value)
            if measured.map is not None:
                self._measured.keep_map(name, measured.map)

    number = staticmethod(number)
    to_host = staticmethod(to_host)

    def write_state(self, folder: Path) -> int:
        """Write model, optimizers and generators as a checkpoint; see `watch.state`."""
        with quiet():
            return write_checkpoint(folder, self.model, self.optimizers)

    def state_bytes(self) -> int:
        """Bytes that a checkpoint would take, about."""
        return state_bytes(self.model, self.optimizers)

    def coverage(self) -> dict[str, Any]:
        """What was expected and what was seen, as JSON values."""
        expected = self.sites.attention
        return {
            "num_modules": len(self.sites.names),
            "num_forwards": self.num_forwards,
            "num_gradients": self._num_gradients,
            "num_sharded_parameters": sum(p.requires_grad and not is_plain(p) for p in self.sites.owners),
            "unhookable": sorted(self._unhookable),
            "compiled": sorted(self.sites.compiled),
            "optimizer_state": self._updates.seen,
            "attention": {
                "expected": sorted(expected),
                "seen": sorted(self.attention_seen),
                "unseen": sorted(expected - self.attention_seen),
                "unmeasured": dict(self.attention_unmeasured),
            },
        }

    def _open_for_taps(self) -> bool:
        return (
            self._measuring
            and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and torch._C._current_graph_task_id() == -1
        )

    # -- hooks of a measured step --------------------------------------------------------------------------------

    def _hook(self, module: nn.Module, handles: list) -> None:
        try:
            handles.append(module.register_forward_pre_hook(Hook(self._enter_module)))
            handles.append(module.register_forward_hook(Hook(self._leave_module), always_call=True))
        except RuntimeError:  # a ScriptModule takes none
            self._unhookable.add(self.sites.names[module])

    def _enter_module(self, module: nn.Module, args) -> None:
        # While Dynamo traces, a hook must do nothing; a forward in the backward pass is a checkpoint's recomputation.
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:
            return
        site = self.sites.names.get(module)
        if site is None or not (self._stack or torch.is_grad_enabled()):
            return  # without gradients the outermost forward is an evaluation
        if not self._stack:
            with self._guard("forward"):
                self._open_forward()
        self._stack.append((module, site))

    def _leave_module(self, module: nn.Module, args, output) -> None:
        if torch.compiler.is_compiling() or not self._stack or self._stack[-1][0] is not module:
            return
        site = self._stack[-1][1]
        if site in self.sites.blocks:
            with self._guard("stream"):
                stream = output[0] if isinstance(output, (tuple, list)) and output else output
                if isinstance(stream, Tensor) and stream.dim() == 3 and stream.is_floating_point():
                    self._stream(site, stream)
        self._stack.pop()
        if not self._stack:
            self._begun.leave_forward()
            self._close_forward()

    def _open_forward(self) -> None:
        self.active = True
        self.num_forwards += 1
        self._begun.enter_forward()
        self._measured.new_forward()
        for module in self._late:
            if module not in self.sites.inside_compiled:
                self._hook(module, self._late_hooks)
        if "dispatch" in self._disabled:
            return
        mode = ForwardMode(
            record=self._keep,
            record_map=self._measured.keep_map if self._maps else None,
            unmeasured=self._unmeasured,
            stack=self._stack,
            attention_sites=self.sites.attention,
            parameters=self._parameters,
            guard=self._guard,
        )
        mode.__enter__()
        self._mode = mode

    def _close_forward(self) -> None:
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)
        for hook in self._late_hooks:
            hook.remove()
        self._late_hooks.clear()

    def _end_measuring(self) -> None:
        self._measuring = False
        self._close_forward()  # still open only where an interrupt went through a forward pass
        self._stack.clear()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._updates.forget()

    # -- measurements --------------------------------------------------------------------------------------------

    def _keep(self, indicator: str, site: str, value: Tensor) -> None:
        if indicator == "attention_entropy":
            self.attention_seen.add(site)
        self._measured.keep(indicator, site, value)

    def _unmeasured(self, reason: str) -> None:
        self.attention_unmeasured[reason] = self.attention_unmeasured.get(reason, 0) + 1

    def _stream(self, site: str, stream: Tensor) -> None:
        with quiet():
            tokens = stream.detach()
            tokens = tokens.reshape(-1, *tokens.shape[-2:])[:STREAM_BATCH]
            every = max(1, math.ceil(tokens.shape[1] / STREAM_TOKENS))
            tokens = tokens[:, ::every].float()
            self._keep("token_cosine", site, token_cosine(tokens).mean())
            self._keep("effective_rank", site, effective_rank(tokens).mean())
            self._keep("activation_peak", site, activation_peak(tokens).max())
            # The median, because a few tokens with massive activations are everyday.
            self._keep("stream_norm", site, torch.linalg.vector_norm(tokens, dim=-1).median())

    def _gradient(self, parameter: nn.Parameter) -> None:
        self.active = self._hooks_fired = True
        self._first_gradient = self._first_gradient if self._first_gradient is not None else parameter
        self.num_backwards += parameter is self._first_gradient
        if parameter.grad is None:  # an optimizer that steps inside the backward pass has taken it
            return
        with self._guard("gradient"), quiet():
            # With accumulation the last call sees the whole sum; it overwrites those before.
            self._measured.norms[parameter] = norm(parameter.grad)

    @contextlib.contextmanager
    def _guard(self, tap: str) -> Iterator[None]:
        """An error of ours is reported once and never reaches the loop; the tap goes unused from the next step on."""
        try:
            yield
        except Exception as error:
            if tap not in self._disabled:
                self._disabled.add(tap)
                self._on_error(tap, error)


def _late_modules(model: nn.Module) -> frozenset[nn.Module]:
    """Modules whose hooks may only be there during the watched forward pass.

    `nn.TransformerEncoderLayer` leaves its fast path, whose numbers differ a little, where it finds any hook: an
    evaluation between two measured forward passes must not find one.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.TransformerEncoderLayer) and m is not model]
    return frozenset(child for layer in layers for child in layer.modules())
