"""The proof that a fork is exact: 2k steps in one process equal k steps, a fork into a new process, and k steps, bit for bit."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials import fork
from pitprop.trials.executors import Task
from pitprop.trials.executors.local import run_alone
from pitprop.trials.run import Steps, build, cached_recipe, loss_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkProof:
    """What was compared, and that it was equal."""

    steps: int
    """k: steps before and after the fork."""
    seed: int
    """Seed of the training."""
    leaves: int
    """Tensors and values compared at the end."""
    digest: str
    """SHA-256 of the state after 2k steps, the same on both ways."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the outcome."""
        return asdict(self) | {"exact": True}


def prove_exact(reference: str, seed: int = 0, knobs: dict | None = None, steps: int = 5, *, log: Path | None = None):
    """Prove that a training of `reference` can be forked.

    Args:
        reference: Recipe, as for `load_recipe`.
        seed: Seed of the training.
        knobs: Overrides of the recipe's knobs.
        steps: k, steps on each side of the fork.
        log: File for what the recipe prints.

    Returns:
        ForkProof.

    Raises:
        PitpropError: The fork is not exact; the first tensor that differs is named (`model.blocks.0.weight`, `rng.torch`).
    """
    with tempfile.TemporaryDirectory(prefix="pitprop-proof-") as folder:
        straight = run_alone(Task(function=first_leg, arguments=(reference, seed, knobs or {}, steps, folder)), log=log)
        return second_half(reference, seed, knobs or {}, steps, folder, straight, log=log)


def first_leg(reference: str, seed: int, knobs: dict, steps: int, folder: str) -> list[float]:
    """2k steps; leaves the snapshots after k and 2k in `folder`; returns the last k losses."""
    training, _ = build(cached_recipe(reference), knobs, seed, ())
    run = Steps(training)
    for _ in run.take(steps):
        pass
    fork.save(fork.capture(training, run.cursor), Path(folder, "half.pt"))
    losses = [loss_of(out) for out in run.take(steps)]
    fork.save(fork.capture(training, run.cursor), Path(folder, "whole.pt"))
    return losses


def second_half(
    reference: str, seed: int, knobs: dict, steps: int, folder: str, straight: list[float], *, log: Path | None = None
) -> ForkProof:
    """The forked side of the proof in a new process, and the judgement."""
    task = Task(function=second_leg, arguments=(reference, seed, knobs, steps, folder))
    forked, where, leaves, digest = run_alone(task, log=log)
    # repr tells NaN from NaN no apart, and every other pair of floats exactly.
    differing = next((i for i, (a, b) in enumerate(zip(straight, forked, strict=True)) if repr(a) != repr(b)), None)
    if where is None and differing is None:
        return ForkProof(steps=steps, seed=seed, leaves=leaves, digest=digest)
    parts = [] if where is None else [f"the first part of the state that differs is `{where}`"]
    if differing is not None:
        parts.append(
            f"the loss differs from step {steps + differing} on ({straight[differing]!r}, {forked[differing]!r})"
        )
    raise PitpropError(
        f"`{reference}` cannot be forked exactly: after {steps} steps, a fork and {steps} steps, {' and '.join(parts)}.",
        means="Arms that start from such a fork differ by more than what was changed, so no comparison is made. Usual "
        "causes: a random generator that neither `build(seed, ...)` seeds nor the training holds as an attribute; state "
        "outside of every `state_dict` (a counter, a running mean, a plain tensor); `batches(cursor)` that does not "
        "begin at the cursor, or draws from a global generator (a DataLoader without its own `generator` does).",
        do="hold such state in a module, or define `state()` and `load_state(state)` on the training.",
        read="docs/verdicts.md, What a fork is",
    )


def second_leg(reference: str, seed: int, knobs: dict, steps: int, folder: str):
    """Restore the snapshot after k steps and train k more; returns the losses and the first difference at the end."""
    training, _ = build(cached_recipe(reference), knobs, seed, ())
    cursor = fork.restore(training, fork.load(Path(folder, "half.pt")))
    run = Steps(training, cursor)
    losses = [loss_of(out) for out in run.take(steps)]
    fork.save(fork.capture(training, run.cursor), Path(folder, "forked.pt"))
    # Both sides take the same way through a file, so that only their values can differ.
    whole, forked = fork.load(Path(folder, "whole.pt")), fork.load(Path(folder, "forked.pt"))
    return losses, fork.first_difference(whole, forked), sum(1 for _ in fork.leaves(whole)), fork.digest(whole)
