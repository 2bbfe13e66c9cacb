"""A trace's numbers to the trackers that others look at: TensorBoard, Weights & Biases, Trackio.

    from pitprop.integrations import sinks
    sinks.to_tensorboard("runs/a", "logs/a")

The trace on disk is read, not the training: sending neither slows a run nor can it fail one. While a run is under way,
send again what came since, `last = sinks.to_tensorboard("runs/a", "logs/a", after=last)`.

A number is called `indicator/site`, and `indicator` alone where it is of the whole run. What wasn't measured isn't
sent, and undefined is NaN.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

from pitprop._errors import PitpropError
from pitprop.records import RUN
from pitprop.trace.reader import Reader

Step = tuple[int, dict[str, float]]


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
            for last, numbers in _steps(reader, after):
                for name, value in numbers.items():
                    writer.add_scalar(name, value, last)
    return last


def to_wandb(run: str | Path, project: str, *, after: int = -1, mode: str = "offline") -> int:
    """Sends to Weights & Biases; by default into `./wandb` alone, from where `wandb sync` uploads.

    Args, returns and raises are `to_tensorboard`'s; `mode` is that of `wandb.init`.
    """
    with Reader(run) as reader:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb") from error
        info = reader.info
        with wandb.init(project=project, name=info.name, config=dict(info.config), mode=mode) as sent:
            last = after
            for last, numbers in _steps(reader, after):
                sent.log(numbers, step=last)
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
            for last, numbers in _steps(reader, after):
                trackio.log(numbers, step=last)
        finally:
            trackio.finish()
    return last


def _steps(reader: Reader, after: int) -> Iterator[Step]:
    """Steps after `after`, each with all of its numbers by name."""
    for step, measured in itertools.groupby(reader.measurements(after), key=lambda measurement: measurement[0]):
        yield (
            step,
            {
                indicator if site == RUN else f"{indicator}/{site}": float(value)
                for _, indicator, sites, values in measured
                for site, value in zip(sites, values, strict=True)
            },
        )


def _missing(package: str) -> PitpropError:
    return PitpropError(f"`{package}` is not installed.", do="pip install 'pitprop[sinks]'", read="docs/sinks.md")
