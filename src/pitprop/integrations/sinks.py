"""A trace's numbers to the trackers that others look at: TensorBoard, Weights & Biases, Trackio.

    from pitprop.integrations import sinks
    sinks.to_tensorboard("runs/a", "logs/a")

The trace on disk is read, not the training: sending neither slows a run nor can it fail one. While a run is under way,
send again what came since, `last = sinks.to_tensorboard("runs/a", "logs/a", after=last)`.

A number is called `indicator/site`, and `indicator` alone where it is of the whole run. What wasn't measured isn't
sent, and undefined is NaN. Histograms of gradients arrive as the tracker's own, over log10 of the magnitude.
"""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pitprop._errors import PitpropError
from pitprop.records import RUN
from pitprop.trace.reader import Reader
from pitprop.watch.histogram import EDGES, NAME

Histogram = Int[np.ndarray, " bucket"]
Step = tuple[int, dict[str, float], dict[str, Histogram]]


def to_tensorboard(run: str | Path, to: str | Path, *, after: int = -1) -> int:
    """Writes event files for TensorBoard, by tensorboardX.

    Args:
        run: Folder of the trace.
        to: Folder of the event files; each call adds a file.
        after: Step after which to begin.

    Returns:
        The last step that was sent; `after` where there was none.

    Raises:
        PitpropError: tensorboardX is missing, or the trace can't be read.
    """
    with Reader(run) as reader:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboardX") from error
        with SummaryWriter(str(to)) as writer:
            last = after
            for last, numbers, histograms in _steps(reader, after):
                for name, value in numbers.items():
                    writer.add_scalar(name, value, last)
                for name, counts in histograms.items():
                    writer.add_histogram_raw(name, **_moments(counts), global_step=last)
    return last


def to_wandb(run: str | Path, project: str, *, after: int = -1, mode: str = "offline") -> int:
    """Sends to Weights & Biases; by default into `./wandb` alone, from where `wandb sync` uploads.

    Each call is a part of one run, whose id is made of the trace's name and start. Args, returns and raises are
    `to_tensorboard`'s; `mode` is that of `wandb.init`.
    """
    with Reader(run) as reader:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb") from error
        info = reader.info
        own = hashlib.sha256(f"{info.name} {info.started}".encode()).hexdigest()[:16]
        resume = None if mode == "offline" else "allow"
        told = {"id": own, "name": info.name, "config": dict(info.config), "mode": mode, "resume": resume}
        with wandb.init(project=project, **told) as sent:
            last = after
            for last, numbers, histograms in _steps(reader, after):
                drawn = {name: wandb.Histogram(np_histogram=(counts, EDGES)) for name, counts in histograms.items()}
                sent.log(numbers | drawn, step=last)
    return last


def to_trackio(run: str | Path, project: str, *, after: int = -1) -> int:
    """Sends to Trackio's local store; `trackio show` shows it.

    Args, returns and raises are `to_tensorboard`'s.
    """
    with Reader(run) as reader:
        try:
            import trackio
        except ImportError as error:
            raise _missing("trackio") from error
        info = reader.info
        trackio.init(project=project, name=info.name, config=dict(info.config), resume="allow")
        last = after
        try:
            for last, numbers, histograms in _steps(reader, after):
                drawn = {name: trackio.Histogram(np_histogram=(counts, EDGES)) for name, counts in histograms.items()}
                trackio.log(numbers | drawn, step=last)
        finally:
            trackio.finish()
    return last


def _steps(reader: Reader, after: int) -> Iterator[Step]:
    """Steps after `after`, each with all of its numbers and histograms by name."""
    counted: dict[int, list[str]] = {}
    for step, site in reader.arrays(NAME):
        counted.setdefault(step, []).append(site)
    for step, measured in itertools.groupby(reader.measurements(after), key=lambda measurement: measurement[0]):
        yield (
            step,
            {
                indicator if site == RUN else f"{indicator}/{site}": float(value)
                for _, indicator, sites, values in measured
                for site, value in zip(sites, values, strict=True)
            },
            {f"{NAME}/{site}": reader.array(NAME, step, site) for site in counted.get(step, ())},
        )


def _moments(counts: Histogram) -> dict:
    """What TensorBoard wants to know of a histogram, taking entries to be in the middle of their bucket."""
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    return {
        "min": float(EDGES[0]),
        "max": float(EDGES[-1]),
        "num": int(counts.sum()),
        "sum": float(counts @ middles),
        "sum_squares": float(counts @ middles**2),
        "bucket_limits": EDGES[1:].tolist(),
        "bucket_counts": counts.tolist(),
    }


def _missing(package: str) -> PitpropError:
    return PitpropError(f"`{package}` is not installed.", do="pip install 'pitprop[sinks]'", read="docs/sinks.md")
