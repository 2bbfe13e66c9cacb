"""What a case trains for itself before it starts (a denoiser, a small CLIP), kept between runs.

A file's name holds a digest of its settings and of the code that made it, so that a change of either trains anew.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pitprop.cases._folder import folder
from pitprop.cases._threads import one_thread


def cached(
    name: str, settings: Any, code: tuple[ModuleType, ...], make: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors that `make` returns, made once per settings and code.

    Args:
        name: Leads the file's name.
        settings: Dataclass or JSON value that `make` depends on.
        code: Modules that `make` depends on.
        make: Returns tensors by name, a state dict say. It has one thread, so that machines of several cores make what
            one of a single core does.

    Returns:
        The tensors as they lie on disk. A damaged file is made anew.
    """
    digest = hashlib.sha256(
        json.dumps(asdict(settings) if is_dataclass(settings) else settings, sort_keys=True).encode()  # type: ignore[arg-type]
    )
    for module in code:
        digest.update(Path(str(module.__file__)).read_bytes())
    path = folder() / f"{name}-{digest.hexdigest()[:16]}.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            path.unlink(missing_ok=True)
    with one_thread():
        made = {key: value.detach().contiguous().clone() for key, value in make().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        save_file(made, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return made
