"""Worktrees of the user's repository, and how a worker process lives in one: its own files, and nobody else's.

The driver makes them (`Worktrees`), a worker enters one for its whole life (`call_in`).
"""

import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.bisection.repository import Commit, git


@dataclass(frozen=True, slots=True)
class Tree:
    """One worktree beside the checkout that the user works in."""

    root: Path
    """Top of the worktree."""
    checkout: Path
    """Top of the user's checkout, from which nothing may be loaded."""
    below: Path
    """Where the user stands in the checkout, relative to its top; the worker stands there in the worktree."""


class Worktrees:
    """Temporary, detached worktrees, one per tree, in a hidden folder below `out`; a context manager that removes them.

    Entering also removes what a bisection of this checkout that was killed has left. The folder keeps a list of what
    was made in it, and only what is listed is ever removed.
    """

    def __init__(self, checkout: Path, out: Path):
        self._checkout = checkout
        self._folder = out / f".pitprop-worktrees-{hashlib.sha256(str(checkout).encode()).hexdigest()[:8]}"
        self._list, self._ignore = self._folder / "made-by-pitprop", self._folder / ".gitignore"
        here = Path.cwd()
        self._below = here.relative_to(checkout) if here.is_relative_to(checkout) else Path()

    def __enter__(self) -> "Worktrees":
        """Raises:
        PitpropError: The folder is there and not pitprop's.
        """
        self._clear()
        try:
            self._folder.mkdir()
        except FileExistsError as error:
            raise PitpropError(
                f"`{self._folder}` holds what pitprop has not made.",
                means="Worktrees are made and removed there; what is yours could be taken for one.",
                do="move it away, or give another folder (--out).",
                read="docs/bisect.md",
            ) from error
        self._list.touch()
        self._ignore.write_text("*\n")  # the checkout's status stays as it was
        return self

    def __exit__(self, *_) -> None:
        self._clear()

    def at(self, commit: Commit) -> Tree:
        """The worktree of `commit`, made where missing."""
        root = self._folder / commit.tree[:16]
        if root.name not in self._made():
            with self._list.open("a") as file:  # before it is made: a kill in between leaves nothing unlisted
                file.write(f"{root.name}\n")
            git(self._checkout, "worktree", "add", "--quiet", "--force", "--detach", str(root), commit.hash)
        return Tree(root, self._checkout, self._below)

    def _made(self) -> list[str]:
        return self._list.read_text().splitlines() if self._list.is_file() else []

    def _clear(self) -> None:
        """Remove the worktrees that are listed, and the folder unless it holds anything else."""
        if not self._list.is_file():
            return
        listed = {str(self._folder / name) for name in self._made()}
        for line in git(self._checkout, "worktree", "list", "--porcelain").splitlines():
            if (root := line.removeprefix("worktree ")) in listed:
                git(self._checkout, "worktree", "remove", "--force", "--force", root)
        for root in listed:
            shutil.rmtree(root, ignore_errors=True)  # one that was killed before git knew it
        if set(self._folder.iterdir()) <= {self._list, self._ignore}:
            self._ignore.unlink(missing_ok=True)
            self._list.unlink()
            self._folder.rmdir()


def call_in(tree: Tree, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, tuple[str, ...]]:
    """Call `function` in a worker that lives in `tree`.

    Returns:
        Its value, and the modules that came from the user's checkout instead of the worktree, as `name (file)`. With
        any of these the value is worthless, and what was raised is theirs to explain.
    """
    _enter(tree)
    try:
        value = function(*arguments)
    except Exception:
        if strangers := _strangers(tree):
            return None, strangers
        raise
    return value, _strangers(tree)


@functools.cache
def _enter(tree: Tree) -> None:
    """Stand in `tree`, and import from there: its top and its `src` first, and what led to the checkout leads here."""
    below = tree.root / tree.below
    os.chdir(below if below.is_dir() else tree.root)
    first = [str(place) for place in (tree.root, tree.root / "src") if place.is_dir()]
    sys.path[:] = first + [path for path in (_moved(Path(p), tree) for p in sys.path) if path not in first]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for processes that a recipe starts
    sys.path_importer_cache.clear()


def _moved(path: Path, tree: Tree) -> str:
    """`path` in the worktree, where it lies in the checkout and the worktree has it."""
    path = path.resolve()
    if path.is_relative_to(tree.checkout) and (moved := tree.root / path.relative_to(tree.checkout)).exists():
        return str(moved)
    return str(path)


def _strangers(tree: Tree) -> tuple[str, ...]:
    """Modules whose file lies in the checkout, outside the worktree, and is not an installed package's."""
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if (
            isinstance(file, str)
            and name not in ("__main__", "__mp_main__")
            and _is_strange(os.path.dirname(file), tree)
        ):
            found.append(f"{name} ({file})")
    return tuple(sorted(found))


@functools.cache
def _is_strange(folder: str, tree: Tree) -> bool:
    path = Path(folder).resolve()
    if not path.is_relative_to(tree.checkout) or path.is_relative_to(tree.root):
        return False
    # A virtual environment in the checkout is no part of the repository.
    return not ({"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(sys.prefix))
