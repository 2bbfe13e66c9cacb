"""One run of a trial: build, reach the fork, change what the arm changes, train `horizon` steps, evaluate.

Every arm of a seed sees the same batches and the same random numbers: the global generators are seeded before the
build, and evaluations draw from a copy.
"""

import dataclasses
import functools
import math
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pitprop
from pitprop._errors import PitpropError
from pitprop.trials import fork
from pitprop.trials.executors.pulse import beat
from pitprop.trials.interventions import Applied, Intervention, to_dict
from pitprop.trials.knobs import make_knobs
from pitprop.trials.load import load_recipe
from pitprop.trials.plan import content_hash
from pitprop.trials.recipe import Recipe, read_guard
from pitprop.trials.sources import source_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything that decides what a run does; its hash is the run's address."""

    recipe: str
    source: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    interventions: tuple[Intervention, ...] = ()
    seed: int
    horizon: int
    fork_step: int = 0

    @property
    def address(self) -> str:
        """SHA-256 of the specification; two arms that change the same things are one run."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return content_hash(
            data | {"knobs": dict(self.knobs), "interventions": [to_dict(i) for i in self.interventions]}
        )

    @property
    def prefix(self) -> str:
        """SHA-256 of what decides the state at the fork."""
        return content_hash([self.recipe, self.source, dict(self.knobs), self.seed, self.fork_step])


class Steps:
    """A training in progress with its cursor, its batches and the seconds spent in its steps."""

    def __init__(self, training: Any, cursor: int = 0):
        self.training, self.cursor = training, cursor
        self.seconds = 0.0
        self.non_finite: int | None = None
        """First step whose loss was not finite."""
        self._source = training.batches
        self._batches = iter(self._source(cursor))

    def take(self, count: int) -> Iterator[Mapping[str, Any]]:
        """Train `count` steps; yields what each step returned."""
        if self._source != self.training.batches:  # an intervention has put other data there
            self._source = self.training.batches
            self._batches = iter(self._source(self.cursor))
        for _ in range(count):
            start = time.perf_counter()
            try:
                batch = next(self._batches)
            except StopIteration:
                raise PitpropError(
                    f"`batches` ended at batch {self.cursor}.",
                    means="A training's batches are endless: what is an epoch to it is its own business.",
                    do="start over inside `batches`, for example with a shuffle seeded by the epoch.",
                ) from None
            out = self.training.step(batch)
            self.seconds += time.perf_counter() - start
            if not isinstance(out, Mapping):
                raise PitpropError(
                    f"`step` returned {out!r:.80}, not a dict.",
                    do='return what the loop knows: `{"loss": loss}`, and `outputs` and `targets` where there are any.',
                )
            if self.non_finite is None and not math.isfinite(loss_of(out)):
                self.non_finite = self.cursor
            self.cursor += 1
            beat()
            yield out


def train_run(spec: RunSpec, forks: str) -> dict[str, Any]:
    """Execute `spec`; `forks` is the folder of the snapshots at the fork, made where missing.

    Returns:
        JSON values: `metrics` (numbers; non-finite ones as the strings "nan", "inf", "-inf"), `state` (digest at the
        end), `diverged` (first step with a non-finite loss, or None), `acted` (where each intervention took hold),
        `inserted` (for each intervention, module path -> relative change of its output at insertion), and seconds. Of a
        run in which an intervention never acted where it should: `status` "failed", `error` and `untested`, no more.
    """
    recipe = cached_recipe(spec.recipe)
    path = Path(forks, f"{spec.prefix}.pt")
    # An arm with other knobs has a past of its own.
    restores = spec.fork_step > 0 and not any(hasattr(i, "knobs") for i in spec.interventions)
    if restores and not path.exists():
        make_fork(spec, path)
    start = time.perf_counter()
    training, late = build(recipe, spec.knobs, spec.seed, spec.interventions)
    built = time.perf_counter() - start

    # The control is restored too: what a snapshot misses is then missing on both sides.
    steps = Steps(training, fork.restore(training, fork.load(path)) if restores else 0)
    for _ in steps.take(spec.fork_step - steps.cursor):
        pass
    applied = [intervention.apply(training) for intervention in late]
    for _ in steps.take(spec.horizon):
        pass
    metrics, evaluating = evaluate(training, recipe)
    try:
        check_acted(late, applied)
    except PitpropError as error:
        # Not raised: that it is no run of the arm is a fact about the arm, and must not be taken for a death.
        return {"status": "failed", "error": str(error), "untested": True}
    own = built + steps.seconds + evaluating
    return {
        "metrics": {name: to_json_number(value) for name, value in metrics.items()},
        "state": fork.digest(fork.capture(training, steps.cursor)),
        "diverged": steps.non_finite,
        "acted": [[path for path in a.paths if a.calls[path]] for a in applied],
        "inserted": [{path: to_json_number(value) for path, value in a.measured.items()} for a in applied],
        "training_s": own,
        "engine_s": time.perf_counter() - start - own,
    }


def make_fork(spec: RunSpec, path: Path) -> Steps:
    """Train the untreated run of `spec` up to the fork and save its snapshot to `path`; returns it where it is."""
    training, _ = build(cached_recipe(spec.recipe), spec.knobs, spec.seed, ())
    steps = Steps(training)
    for _ in steps.take(spec.fork_step):
        pass
    fork.save(fork.capture(training, steps.cursor), path)
    return steps


def build(recipe: Recipe, knobs: Mapping[str, Any], seed: int, interventions: tuple[Intervention, ...]):
    """The training with the arm's knobs, and the interventions that are left to `apply` at the fork."""
    values = make_knobs(recipe, knobs)
    early = [i for i in interventions if hasattr(i, "knobs")]
    for intervention in early:
        values = intervention.knobs(values)  # type: ignore[attr-defined]
    fork.seed_everything(seed)
    late: list[Any] = [i for i in interventions if i not in early]
    late = [i.bind(lambda other: recipe.build(other, values), seed) if hasattr(i, "bind") else i for i in late]
    return recipe.build(seed, values), late


def evaluate(training: Any, recipe: Recipe) -> tuple[dict[str, float], float]:
    """Metrics as floats and the seconds it took; what `evaluate` draws from the generators is put back."""
    start = time.perf_counter()
    with fork.kept_rng():
        out = training.evaluate()
    if not isinstance(out, Mapping):
        raise PitpropError(f"`evaluate` returned {out!r:.80}, not a dict.", do="return a dict of numbers.")
    metrics = {name: number(value, name, "evaluate") for name, value in out.items()}
    for name in (recipe.metric, *(read_guard(text)[0] for text in recipe.guards)):
        if name not in metrics:
            raise PitpropError(f"`evaluate()` returned no `{name}`, only: {', '.join(metrics) or 'nothing'}.")
    return metrics, time.perf_counter() - start


def check_acted(interventions: list[Any], applied: list[Applied]) -> None:
    """Raise for the first intervention that never acted."""
    for intervention, done in zip(interventions, applied, strict=True):
        done.check(intervention.describe())


@functools.cache
def cached_recipe(reference: str) -> Recipe:
    """The recipe, loaded once in the life of a worker."""
    return load_recipe(reference)


def spec_source(reference: str) -> str:
    """Digest of the recipe's sources and of the versions that decide numbers."""
    return content_hash([source_digest(reference), *versions()])


def versions() -> list[str]:
    """Versions of what decides numbers."""
    jax = version("jax") if find_spec("jax") else ""
    return [pitprop.__version__, torch.__version__, np.__version__, platform.python_version(), jax]


def loss_of(out: Mapping[str, Any]) -> float:
    """The `loss` of a step as a float; 0 where a step reports none, for then there is nothing to judge."""
    return number(out["loss"], "loss", "step") if "loss" in out else 0.0


def number(value: Any, name: str, method: str) -> float:
    """`value` as a float, or an error that names where it comes from."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise PitpropError(
            f"`{method}` returned {value!r:.80} as `{name}`, which is no number.",
            do=f"return a number or a tensor of one element as `{name}`, or leave it out.",
        ) from None


def to_json_number(value: float) -> float | str:
    """`value`, or "nan", "inf", "-inf" as text, for JSON knows no such numbers; `float()` reads both."""
    return float(value) if math.isfinite(value) else str(float(value))
