"""The plan of a trial: what will be run and how it will be judged, written down and hashed before the first run."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.interventions import Intervention, from_dict, to_dict

CONTROL = "control"
"""Name of the arm without interventions; every plan has it."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a trial: a name, and what is changed."""

    name: str
    interventions: tuple[Intervention, ...] = ()

    def describe(self) -> str:
        """All changes, in full."""
        return "; ".join(i.describe() for i in self.interventions) or "nothing changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Arms x seeds, and how the outcome is judged."""

    recipe: str
    """Reference of the recipe."""
    source: str
    """Digest of the user's code that the recipe leads to and the versions of the packages that decide numbers."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """Every knob of the control arm."""
    arms: tuple[Arm, ...]
    """Treated arms of the (screening) round; the control runs beside them on the same seeds."""
    seeds: tuple[int, ...]
    """Seeds of the (screening) round."""
    metric: str
    """Metric that decides."""
    higher_is_better: bool = True
    """Direction in which the metric improves."""
    margin: float = 0.0
    """Difference of the metric that is too small to matter."""
    horizon: int
    """Steps of each run after the fork."""
    fork_step: int = 0
    """Step at which the arms part; arms with other knobs run from step 0 with the same number of steps in all."""
    confirm_seeds: tuple[int, ...] = ()
    """Fresh seeds on which the best arms of the screening round are run again; empty for a trial of one round."""
    confirm_arms: int = 0
    """How many arms go into the confirming round at most: those better by more than the margin, best first."""
    guards: tuple[str, ...] = ()
    """Metrics reported beside the one that decides: `NAME`, or with the direction that is good, `NAME=lower`."""
    early_stop: bool = False
    """Whether an arm is stopped as soon as it is clearly worse."""
    look: int = 0
    """How many times these arms are looked at with this answer, each time at its share of the error; 0 is uncounted."""

    def __post_init__(self):
        names = [arm.name for arm in self.arms]
        twice = sorted({name for name in names if names.count(name) > 1} | ({CONTROL} & set(names)))
        if twice:
            raise PitpropError(
                f"The plan has two arms named `{twice[0]}`.",
                do=f"name each arm once; `{CONTROL}` is the untreated one.",
            )
        if not self.seeds or set(self.seeds) & set(self.confirm_seeds):
            raise PitpropError(
                f"The plan's seeds are {self.seeds}, its confirming seeds {self.confirm_seeds}.",
                means="Each round needs seeds, and a winner is only confirmed on seeds that did not choose it.",
                do="give different seeds to the two rounds.",
            )
        canonical(self.to_dict())  # refuses numbers that are not finite
        if self.margin < 0:
            raise PitpropError(
                f"A margin of {self.margin:g}.",
                means="It is the size of a difference that is too small to matter.",
                do="give 0 or more.",
            )

    @property
    def hash(self) -> str:
        """SHA-256 of the plan's canonical JSON."""
        return content_hash(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """JSON form, arms with their changes in words beside the interventions."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if not self.look:  # a plan whose looks are not counted has the hash that it had before they were
            del data["look"]
        arms = [
            {"name": arm.name, "changes": arm.describe(), "interventions": [to_dict(i) for i in arm.interventions]}
            for arm in self.arms
        ]
        return data | {
            "knobs": dict(self.knobs),
            "arms": arms,
            "seeds": list(self.seeds),
            "confirm_seeds": list(self.confirm_seeds),
            "guards": list(self.guards),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan that `to_dict` wrote down."""
        arms = tuple(Arm(a["name"], tuple(from_dict(i) for i in a["interventions"])) for a in data["arms"])
        tuples = {"arms": arms, "seeds": tuple(data["seeds"]), "confirm_seeds": tuple(data["confirm_seeds"])}
        return cls(**{**data, **tuples, "guards": tuple(data.get("guards", ()))})


def canonical(data: Any) -> str:
    """The one JSON text of `data`: sorted keys, no spaces.

    Raises:
        PitpropError: A number in it is not finite; named by its key.
    """
    for key, number in _not_finite(data):
        raise PitpropError(
            f"`{key}` is {number}.",
            means="No run can be made with, or judged by, a number that is not finite.",
            do=f"give a finite number as `{key}`.",
        )
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _not_finite(data: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in `data` that are not finite, each with the nearest key above it."""
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _not_finite(value, name)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _not_finite(value, key)
    elif isinstance(data, float) and not math.isfinite(data):
        yield key, data


def content_hash(data: Any) -> str:
    """SHA-256 of the canonical JSON of `data`, as hexadecimal text."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()
