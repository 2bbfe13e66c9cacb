"""What to train, resumably: the contract between a user's training code and pitprop's trials."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pitprop._errors import PitpropError


class Training(Protocol):
    """One training in progress. pitprop never owns the loop of the user's product; trials drive this one.

    A torch training has `model` and `optimizer` attributes. It may define `state()` and `load_state(state)`; where it
    does not, pitprop takes every attribute that has a `state_dict` (model, optimizer, schedulers, scaler, EMA). A jax
    training is a `pitprop.trials.jax.JaxTraining`.
    """

    def batches(self, cursor: int, /) -> Iterator[Any]:
        """Batches from number `cursor` on, endless, the same ones whenever asked with the same cursor."""
        ...

    def step(self, batch: Any) -> Mapping[str, Any]:
        """One whole training step on `batch`; returns what the loop knows: `loss`, scalars, arrays of `watch.log`."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Metrics on held-out data. Leaves the state of the training as it was."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to build a training from a seed and knobs, and which number tells whether it did its job.

    Args:
        build: `build(seed, knobs) -> Training`; `knobs` is an instance of the dataclass below.
        knobs: Dataclass with a default for every field. Fields typed `Literal[...]` or `bool` declare alternatives that
            `diagnose` may try by itself.
        metric: Key of `evaluate()` that says whether the run does its job.
        higher_is_better: Direction in which the metric improves.
        margin: Difference of the metric that is too small to matter, fixed before any run.
        steps: Length of a run; a trial's default horizon.
        guards: Further keys of `evaluate()` to report beside the metric; `NAME=lower` or `NAME=higher` says which
            direction is good, so that what gets worse can be pointed out.
        references: Makes named reference solutions with their metrics, to read the run's numbers against, for example
            `{"always the mean": {"mse": 0.21}}`. Called once per diagnosis, in a worker.
        keeps: Name of a reference that a run must not end below, such as the model that it starts from: one whose
            metric ends worse by more than the margin has collapsed, whatever the rules see. References are then made
            once per watched run.
    """

    build: Callable[[int, Any], Training]
    knobs: type
    metric: str
    higher_is_better: bool = True
    margin: float = 0.0
    steps: int = 200
    guards: tuple[str, ...] = ()
    references: Callable[[], Mapping[str, Mapping[str, float]]] | None = None
    keeps: str = ""


def read_guard(text: str) -> tuple[str, bool | None]:
    """`NAME`, `NAME=higher` or `NAME=lower` -> the metric, and whether higher is better, where that was said."""
    name, _, direction = text.partition("=")
    known = {"": None, "higher": True, "lower": False}
    if not name or direction not in known:
        raise PitpropError(
            f"`{text}` is no guard metric.", do="give NAME, NAME=higher or NAME=lower: the direction that is good."
        )
    return name, known[direction]
