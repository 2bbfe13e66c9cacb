"""When the rule `loss-weight-collapse` speaks about timestep weights, against when the weights have really moved.

It reads from stored rows what a watched attack logs, `watch.log(weights=w, losses=l)`: the same measures and rule.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from pitprop.indicators import total_variation
from pitprop.records import RUN, Finding, Row
from pitprop.rules import Detector
from pitprop.rules.loss_weight_collapse import LossWeightCollapse
from pitprop.trials.interval import Effect, interval
from pitprop.watch.feeds import Feeds

MOVED = 0.5
"""Total variation to the start over which the weights have moved: half of all weight lies elsewhere."""


class Detection(NamedTuple):
    """One stream."""

    severity: str | None
    """`warning`: they are on their way; `failure`: they have arrived; `note`: nothing trains them; None: silence."""
    alarm: float
    """Iteration of the finding; NaN without one."""
    moved: float
    """First iteration at which the total variation to the start is over 0.5; NaN if never."""
    vertex_said: float
    """The timestep that the finding names; NaN where it names none."""
    forecast: float
    """Iteration at which the finding expects 90 % on it; NaN where it expects none."""
    vertex: int
    """The timestep with the smallest mean loss of the whole run: where plain descent ends (T1)."""
    share: float
    """Its weight at the end."""
    message: str
    """The finding's own words."""


class Lead(NamedTuple):
    """Streams of one mode together."""

    num_streams: int
    num_alarms: int
    """Warnings and failures; a note is none."""
    num_notes: int
    num_moved: int
    num_ahead: int
    """Streams whose alarm came before the weights had moved, of those that moved."""
    num_vertex_right: int
    """Alarms that named the timestep that T1 gives. They go by the losses so far: those of one image, often."""
    alarm: Effect
    """Iteration of the alarm over the streams that gave one, with the 95 % interval of the mean."""
    moved: Effect
    """Iteration of the motion over the streams that moved."""
    lead: Effect
    """Motion minus alarm over the streams that had both."""


def watch_weights(
    weights: Float[np.ndarray, "iteration timestep"], losses: Float[np.ndarray, "iteration timestep"]
) -> Detection:
    """What the rule says of one stream, iteration by iteration.

    Args:
        weights: What the losses were weighted with.
        losses: Unweighted, of the same iteration.
    """
    finding = _first_finding(weights, losses)
    far = total_variation(weights, np.broadcast_to(weights[0], weights.shape)) > MOVED
    vertex = int(losses.mean(0).argmin())
    moving = {} if finding is None or finding.severity == "note" else finding.evidence
    return Detection(
        severity=None if finding is None else finding.severity,
        alarm=math.nan if finding is None else float(finding.detected),
        moved=float(far.argmax()) if far.any() else math.nan,
        vertex_said=moving.get("loss_weight_vertex", math.nan),
        forecast=moving.get("vertex_at_step", math.nan),
        vertex=vertex,
        share=float(weights[-1, vertex]),
        message="" if finding is None else finding.message,
    )


def lead(detections: Sequence[Detection]) -> Lead:
    """What several seeds say together."""
    alarms = [d for d in detections if d.severity in ("warning", "failure")]
    moved = [d for d in detections if not math.isnan(d.moved)]
    both = [d for d in alarms if not math.isnan(d.moved)]
    return Lead(
        num_streams=len(detections),
        num_alarms=len(alarms),
        num_notes=sum(d.severity == "note" for d in detections),
        num_moved=len(moved),
        num_ahead=sum(d.alarm < d.moved for d in both),
        num_vertex_right=sum(d.vertex_said == d.vertex for d in alarms),
        alarm=interval(np.array([d.alarm for d in alarms])),
        moved=interval(np.array([d.moved for d in moved])),
        lead=interval(np.array([d.moved - d.alarm for d in both])),
    )


def plain_lead(found: Lead) -> dict[str, Any]:
    """As JSON values."""
    return {
        key: {"mean": value.mean, "low": value.low, "high": value.high} if isinstance(value, Effect) else value
        for key, value in found._asdict().items()
    }


def _first_finding(weights: np.ndarray, losses: np.ndarray) -> Finding | None:
    feeds, detector = Feeds(), Detector(rules=(LossWeightCollapse(),))
    for step, (w, values) in enumerate(zip(weights, losses, strict=True)):
        measured = feeds.measure(feeds.take({"weights": torch.from_numpy(w), "losses": torch.from_numpy(values)}))
        row = Row(step=step, site=RUN, values={name: float(value) for (name, _), value in measured.items()})
        if found := detector.update(row):
            return found[0]
    return None
