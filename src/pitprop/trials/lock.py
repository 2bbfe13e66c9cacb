"""One engine at a time in one folder: two would move each other's answers away."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pitprop._errors import PitpropError


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold `folder` for this block; the operating system lets go of it when the process dies, however it dies.

    The lock is flock's, on `runs/.lock` in it (the folder itself may be a user's checkout), which stays and names the
    process that held it last. A file system without locks guards nothing, and is let pass.

    Raises:
        PitpropError: Another process (or another thread of this one) holds the folder; its pid is named.
    """
    import fcntl

    (folder / "runs").mkdir(exist_ok=True)
    with (folder / "runs" / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise PitpropError(
                f"`{folder}` is in use by process {file.read().strip() or 'unknown'}.",
                means="Two at once in one folder would overwrite each other's answers.",
                do="wait for it, or give another folder.",
            ) from error
        except OSError:
            pass  # no locks here
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
