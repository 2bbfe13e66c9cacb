"""Where attention can be changed: every torch function that is called inside a module passes by here.

Seen are `F.scaled_dot_product_attention` (timm and HF models call it too), `nn.MultiheadAttention` and every softmax.
An active function mode keeps torch's modules off their fast path, so their attention is seen in eval mode as well.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pitprop.trials.interventions._targets import Applied, modules_at, places_at

FUSED, MULTI_HEAD = F.scaled_dot_product_attention, F.multi_head_attention_forward
SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax)

Attend = Callable[[str, nn.Module, Callable, tuple, dict], Any]
"""`(path, module, function, args, kwargs)` -> what the call returns instead, or `NotImplemented` to leave it alone."""


def change_attention(training: Any, pattern: str, attend: Attend) -> Applied:
    """Let `attend` answer each attention call made inside the modules at `pattern`.

    Args:
        training: Its `model` is changed.
        pattern: Module path with wildcards.
        attend: Called for fused attention, multi-head attention and softmax; an answer counts as having acted.
    """
    applied = Applied(tuple(modules_at(training, pattern)))
    for path, module, calls in places_at(training, pattern, applied):
        entered: list[_Mode] = []

        def enter(*_, path=path, module=module, calls=calls, entered=entered):
            entered.append(_Mode(attend, calls, path, module))
            entered[-1].__enter__()

        def leave(*_, entered=entered):
            if entered:
                entered.pop().__exit__(None, None, None)

        module.register_forward_pre_hook(enter)
        # Also when the forward pass raises: a mode left on would act on the whole process.
        module.register_forward_hook(leave, always_call=True)
    return applied


class _Mode(TorchFunctionMode):
    def __init__(self, attend: Attend, calls: Counter, path: str, module: nn.Module):
        super().__init__()
        self.attend, self.calls, self.path, self.module = attend, calls, path, module

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (FUSED, MULTI_HEAD, *SOFTMAX):
            answer = self.attend(self.path, self.module, func, args, kwargs)
            if answer is not NotImplemented:
                self.calls[self.path] += 1
                return answer
        return func(*args, **kwargs)
