"""Where a trial runs, as a user says it: `on="local"`, `on="ray"` or `on="ray://host:port"`."""

from contextlib import AbstractContextManager
from pathlib import Path

from pitprop._errors import PitpropError
from pitprop.trials.executors import Executor
from pitprop.trials.executors.local import Local


def open_executor(
    on: str = "local", workers: int | None = None, *, folder: Path, timeout_s: float | None = None
) -> AbstractContextManager[Executor]:
    """The executor that `on` names, to be entered.

    Args:
        on: `local`: processes of this machine. `ray`: the Ray that is connected to already or that `RAY_ADDRESS`
            names, or else one that is started here for the length of the trial. `ray://host:port`: that cluster.
        workers: How many runs at the same time; default is one per core, of the machine or of the cluster.
        folder: Folder of the trial; what workers print goes to its `workers.log`.
        timeout_s: Seconds after which a run is taken to hang; default from the pace of the runs before it.

    Raises:
        PitpropError: No such place, or Ray is not installed.
    """
    if on == "local":
        return Local(workers, log=folder / "workers.log", timeout_s=timeout_s)
    if on != "ray" and not on.startswith("ray://"):
        raise PitpropError(
            f"`{on}` is no place to run a trial on.",
            do="say `local`, `ray` or `ray://host:port`.",
            read="docs/executors.md",
        )
    try:
        from pitprop.trials.executors.ray import Ray
    except ModuleNotFoundError as error:
        raise PitpropError(f"`{on}` needs Ray, and {error}.", do="pip install 'pitprop[ray]'.") from error
    return Ray(on, workers, folder=folder, timeout_s=timeout_s)
