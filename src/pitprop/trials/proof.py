"""The proof that a fork is exact: a whole run equals the run to the fork, a new process, and the rest, bit for bit.

It is made at the fork and over the horizon that the trial uses: state that is lost matters only when it acts, and that
may be late.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials import fork
from pitprop.trials.execute import read_json, write_json
from pitprop.trials.executors import Executor, Task
from pitprop.trials.executors.local import Local
from pitprop.trials.run import RunSpec, Steps, build, cached_recipe, loss_of, make_fork


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkProof:
    """What was compared, and that it was equal."""

    step: int
    """Step at which it was forked."""
    steps: int
    """Steps after the fork, all of them compared."""
    seed: int
    """Seed of the training."""
    leaves: int
    """Tensors and values compared at the end."""
    digest: str
    """SHA-256 of the state at the end, the same on both ways."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the outcome."""
        return asdict(self) | {"exact": True}


def prove_exact(
    reference: str, seed: int = 0, knobs: Mapping[str, Any] | None = None, steps: int = 5, *, log: Path | None = None
) -> ForkProof:
    """Prove that a training of `reference` can be forked.

    Args:
        reference: Recipe, as for `load_recipe`.
        seed: Seed of the training.
        knobs: Overrides of the recipe's knobs.
        steps: Steps on each side of the fork.
        log: File for what the recipe prints.

    Raises:
        PitpropError: The fork is not exact; the first part that differs is named (`model.0.weight`, `rng.torch`).
    """
    spec = RunSpec(recipe=reference, source="", knobs=knobs or {}, seed=seed, horizon=steps, fork_step=steps)
    with Local(1, log=log) as pool:
        return prove(spec, pool)


def prove(spec: RunSpec, executor: Executor, *, place: Path | None = None) -> ForkProof:
    """Prove the fork of `spec` over its horizon, on `executor`. See `prove_exact`.

    Snapshots lie in `place`, which the machines of the runs must see as well; default is the system's temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="proof-", dir=place) as folder:
        straight = _run(Task(function=first_leg, arguments=(spec, folder)), executor)
        return second_half(spec, folder, straight, executor)


def first_leg(spec: RunSpec, folder: str) -> list[float]:
    """The whole run; leaves the snapshots at the fork and at the end in `folder`; returns the losses after the fork."""
    run = make_fork(spec, Path(folder, "half.pt"))
    losses = [loss_of(out) for out in run.take(spec.horizon)]
    fork.save(fork.capture(run.training, run.cursor), Path(folder, "whole.pt"))
    return losses


def second_leg(spec: RunSpec, folder: str) -> tuple[list[float], str | None, int, str]:
    """Restore the snapshot at the fork and train the rest.

    Returns:
        The losses, the path of the first difference at the end, and number of leaves and digest of the straight way.
    """
    training, _ = build(cached_recipe(spec.recipe), spec.knobs, spec.seed, ())
    cursor = fork.restore(training, fork.load(Path(folder, "half.pt")))
    run = Steps(training, cursor)
    losses = [loss_of(out) for out in run.take(spec.horizon)]
    fork.save(fork.capture(training, run.cursor), Path(folder, "forked.pt"))
    # Both sides take the same way through a file, so that only their values can differ.
    whole, forked = fork.load(Path(folder, "whole.pt")), fork.load(Path(folder, "forked.pt"))
    return losses, fork.first_difference(whole, forked), sum(1 for _ in fork.leaves(whole)), fork.digest(whole)


def second_half(spec: RunSpec, folder: str, straight: Sequence[float], executor: Executor) -> ForkProof:
    """The forked side of the proof, in a new process, and the judgement; see `prove_exact`."""
    task = Task(function=second_leg, arguments=(spec, folder), fresh=True)
    forked, where, leaves, digest = _run(task, executor)
    # As text, every float equals itself only, and NaN equals NaN.
    step = next((i for i, (a, b) in enumerate(zip(straight, forked, strict=True)) if repr(a) != repr(b)), None)
    if where is None and step is None:
        return ForkProof(step=spec.fork_step, steps=spec.horizon, seed=spec.seed, leaves=leaves, digest=digest)
    seen = [] if where is None else [f"the first part of the state that differs is `{where}`"]
    if step is not None:
        seen.append(f"the loss differs from step {spec.fork_step + step} on ({straight[step]!r}, {forked[step]!r})")
    raise PitpropError(
        f"`{spec.recipe}` cannot be forked exactly: after {spec.fork_step} steps, a fork and "
        f"{spec.horizon} more, " + " and ".join(seen),
        means="Arms that start from such a fork differ by more than what was changed, so no comparison is made. Usual "
        "causes: a random generator that `build` does not seed and the training does not hold as an attribute; state "
        "outside of every `state_dict` (a counter, a running mean, a plain tensor); `batches(cursor)` that does not "
        "begin at the cursor, or draws from a global generator (a DataLoader without its own `generator` does).",
        do="hold such state in a module, or define `state()` and `load_state(state)` on the training.",
        read="docs/verdicts.md, What a fork is",
    )


def _run(task: Task, executor: Executor) -> Any:
    ((_, outcome),) = executor.run([task])
    if outcome.error is not None:
        raise PitpropError(f"The fork could not be proved: {outcome.error}")
    return outcome.value


def proved(spec: RunSpec, folder: Path, executor: Executor) -> ForkProof:
    """The proof of the fork of `spec`: the one that `folder` holds, or a new one, which is kept there."""
    proof = known_proof(folder, spec)
    if proof is None:
        proof = prove(spec, executor, place=folder)
        keep_proof(folder, spec, proof)
    return proof


def keep_proof(folder: Path, spec: RunSpec, proof: ForkProof) -> None:
    """Write `folder/fork.json`, so that a resumed trial need not prove the same fork again."""
    write_json(folder / "fork.json", proof.to_dict() | {"address": spec.address})


def known_proof(folder: Path, spec: RunSpec) -> ForkProof | None:
    """The proof of exactly this recipe, knobs, fork, horizon and versions that `folder` holds, if any."""
    data = read_json(folder / "fork.json")
    if data is None or data["address"] != spec.address:
        return None
    return ForkProof(**{f.name: data[f.name] for f in fields(ForkProof)})
