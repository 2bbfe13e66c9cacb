"""Where a trial runs, as a user says it: `on="local"`, `on="ray"`, `on="host:port"` or `on="ray://host:port"`."""

import os
import re
import sys
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
            names, or else one that is started here for the length of the trial. `host:port`: the cluster with that
            head, of which this machine is a part. `ray://host:port`: a cluster elsewhere, by the port of its client
            server.
        workers: How many runs at the same time; default is one per core, of the machine or of the cluster.
        folder: Folder of the trial; what workers print goes to its `workers.log`.
        timeout_s: Seconds after which a run is taken to hang; by default when no step of it has ended for ten times the
            median duration of the runs before it, at least a minute and at most an hour; an hour before the first.

    Raises:
        PitpropError: No such place, or Ray is not installed.
    """
    if on == "local":
        return Local(workers, log=folder / "workers.log", timeout_s=timeout_s)
    if on != "ray" and not re.fullmatch(r"(ray://)?[^/\s]+:\d+", on):
        raise PitpropError(
            f"`{on}` is no place to run a trial on.",
            do="say `local`, `ray`, `host:port` or `ray://host:port`.",
            read="docs/executors.md",
        )
    _show_token()
    try:
        from pitprop.trials.executors.ray import Ray
    except ModuleNotFoundError as error:
        raise PitpropError(f"`{on}` needs Ray, and {error}.", do="pip install 'pitprop[ray]'.") from error
    return Ray(on, workers, folder=folder, timeout_s=timeout_s)


def _show_token() -> None:
    """Let Ray show this user's token to a cluster, where there is one: otherwise it does so only where it starts one.

    Ray reads the mode when it is imported; changed after that, its parts would disagree.
    """
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if "ray" not in sys.modules and (given or Path.home().joinpath(".ray", "auth_token").exists()):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
