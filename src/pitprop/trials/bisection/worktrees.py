"""Worktrees of the user's repository, and how a worker process lives in one: its own files, and nobody else's.

The driver makes them (`Worktrees`), a worker enters one for its whole life (`call_in`).
"""

import functools
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Temporary, detached worktrees, one per tree, all in `folder`; a context manager that removes them.

    Entering also removes what a bisection that was killed has left in `folder`. Worktrees elsewhere are not touched.
    """

    def __init__(self, checkout: Path, folder: Path):
        self._checkout, self._folder = checkout, folder
        here = Path.cwd()
        self._below = here.relative_to(checkout) if here.is_relative_to(checkout) else Path()

    def __enter__(self) -> "Worktrees":
        self._clear()
        return self

    def __exit__(self, *_) -> None:
        self._clear()

    def at(self, commit: Commit) -> Tree:
        """The worktree of `commit`, made where missing."""
        root = self._folder / commit.tree[:16]
        if not root.exists():
            git(self._checkout, "worktree", "add", "--quiet", "--force", "--detach", str(root), commit.hash)
        return Tree(root, self._checkout, self._below)

    def _clear(self) -> None:
        for line in git(self._checkout, "worktree", "list", "--porcelain").splitlines():
            root = Path(line.removeprefix("worktree "))
            if line.startswith("worktree ") and root.parent == self._folder:
                git(self._checkout, "worktree", "remove", "--force", "--force", str(root))
        shutil.rmtree(self._folder, ignore_errors=True)


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
