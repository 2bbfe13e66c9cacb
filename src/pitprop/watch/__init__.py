"""Watching a run: two lines around an unchanged training loop.

    with pitprop.watch(model, optimizer, run="runs/a") as watch:
        ...                                 # the loop as it is
        watch.log(loss=loss)                # what only the loop knows

Watching is inert: losses with and without it are equal bit for bit, no random number is drawn, and nothing stays
behind. The package is callable, because `pitprop.watch` is both its name and the function's.
"""

import random
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pitprop.rules import Rule
    from pitprop.trace.writer import Exist
    from pitprop.watch.session import Watch
    from pitprop.watch.snapshots import Snapshots

__all__ = ["watch"]


def watch(
    model: Any,
    optimizer: Any,
    *,
    run: str | Path | None = None,
    every: int | None = None,
    budget: float | None = 0.02,
    rules: "Sequence[Rule] | None" = None,
    allow: Sequence[str] = (),
    config: Mapping[str, object] | None = None,
    seed: int | None = None,
    scaler: Any = None,
    exist: "Exist" = "refuse",
    quiet: bool = False,
    snapshots: "float | Snapshots | None" = None,
) -> "Watch":
    """Watch a training loop from the outside.

    Args:
        model: The `torch.nn.Module` that the loop calls; where it is compiled, what `torch.compile` returned.
        optimizer: Its optimizer, or a sequence of them. Several make one step together: it ends when each that is in
            use has stepped once.
        run: Folder of the trace; a new one under `runs/` where absent.
        every: Measure every n-th step. By default densely at first, then every ten.
        budget: Largest share of the loop's time that watching may take, as measured live; it stretches the schedule
            after the first 60 measured steps, which are taken whatever they cost. None lifts the limit, and with
            `every` makes the choice of steps deterministic.
        rules: Rules that watch the rows live; all of them where absent.
        allow: Findings that are not reported: `"rule"`, or `"rule@site"`.
        config: The run's own configuration, kept with the trace (JSON values).
        seed: Seed of the run, kept with the trace.
        scaler: The loop's `GradScaler`, so that gradients are reported unscaled.
        exist: What to do with a trace that is in `run` already: `refuse`, `replace` or `resume`.
        quiet: Print nothing; `findings` has it all.
        snapshots: Disk budget in GiB for snapshots of model, optimizers and generators in `run/snapshots` (or a
            `pitprop.watch.snapshots.Snapshots`); none are taken where absent. `pitprop rescue` goes back to them.

    Returns:
        A context manager; watching begins and ends with its `with` block.

    Raises:
        PitpropError: Nothing to watch (no parameters, an optimizer of something else), or a bad argument; on entering
            the block, a folder that can't be written or holds a trace already.
    """
    state = random.getstate()
    from pitprop.watch.session import Watch
    from pitprop.watch.snapshots import Snapshots
    from pitprop.watch.torch import TorchEdge

    random.setstate(state)  # rich draws a random number when it is imported; a watch must not

    optimizers = tuple(optimizer) if isinstance(optimizer, (list, tuple)) else (optimizer,)

    def edge(**callbacks: Any) -> TorchEdge:
        return TorchEdge(model, optimizers, scaler=scaler, **callbacks)

    return Watch(
        edge,
        run=run,
        every=every,
        budget=budget,
        rules=rules,
        allow=allow,
        config=config,
        seed=seed,
        exist=exist,
        quiet=quiet,
        snapshots=snapshots
        if snapshots is None or isinstance(snapshots, Snapshots)
        else Snapshots(budget_gib=snapshots),
    )


class _CallablePackage(types.ModuleType):
    """Once any part of `pitprop.watch` is imported, `pitprop.watch` is this package; calling it must go on working."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Watch":
        return watch(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
