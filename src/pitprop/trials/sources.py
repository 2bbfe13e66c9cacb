"""The user's Python files that decide what a reference does: one digest, so that edited code never meets old results.

These are the files beside the reference's own and in the folders below, and every module or package of the user's that
one of them imports, whole, also where the import stands inside of a function. They are read and not run: the digest is
the same in each process that has the same path, whatever was imported there. Not seen are data files, compiled modules,
links to folders, and imports from a folder that the code itself puts on the path while it runs.
"""

import hashlib
import importlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

import pitprop

IMPORT = re.compile(
    r"""(?:^|[;:])[ \t]*(?:import[ \t]+((?:[\w., \t]|\\\r?\n)+)|from[ \t]+([\w.]+)[ \t\\\r\n]+import\b)"""
    r"""|(?:import_module|__import__)\(\s*["']([\w.]+)""",
    re.MULTILINE,
)
"""A statement that imports, anywhere in a file. One within a text matches too: a file too many does no harm."""

INSTALLED = {"site-packages", "dist-packages"}
SKIPPED = {"__pycache__", "node_modules", *INSTALLED}


def source_digest(reference: str) -> str:
    """SHA-256 over the names and contents of the user's Python files that `reference` leads to.

    Args:
        reference: `path/to/file.py:attr` or `package.module:attr`.
    """
    importlib.invalidate_caches()  # a file that was written a moment ago counts
    place = reference.rpartition(":")[0]
    if place.endswith(".py"):
        folder = Path(place).resolve().parent
        path, roots = _path(folder), [folder]
    else:
        path = _path(Path.cwd())
        # A package of the recipe's own counts as the user's, wherever it is installed.
        roots = [root.parent if root.is_file() else root for root in _roots(place.partition(".")[0], path)]
    found: dict[Path, str] = {}
    new = [file for root in roots for file in _add(found, root, "")]
    seen = set(sys.stdlib_module_names)
    while new:
        names = {name for file in new for name in _imported(file.read_text(errors="replace"))} - seen
        seen |= names
        named = [(name, root) for name in sorted(names) for root in _roots(name, path) if _is_users(root)]
        new = [file for name, root in named for file in _add(found, root, name)]
    total = hashlib.sha256()
    for name, file in sorted((name, file) for file, name in found.items()):
        total.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _path(first: Path) -> list[str]:
    """Where modules are looked for once the recipe is loaded; see `load`."""
    return sys.path if str(first) in [os.path.abspath(place) for place in sys.path] else [str(first), *sys.path]


def _imported(text: str) -> Iterator[str]:
    """Top-level names of what is imported."""
    for several, *one in IMPORT.findall(text):
        for name in [*several.replace("\\", " ").split(","), *one]:
            if top := name.strip().partition(" ")[0].partition(".")[0]:
                yield top


def _roots(name: str, path: Sequence[str]) -> list[Path]:
    """The file of a module, or the folders of a package, without importing it."""
    spec = PathFinder.find_spec(name, path)
    hooks = (finder.find_spec(name, None) for finder in sys.meta_path if finder is not PathFinder)
    # An editable installation may have a finder of its own.
    spec = spec or next(filter(None, hooks), None)
    if spec is None:
        return []
    places = spec.submodule_search_locations or [spec.origin or ""]
    return [Path(place).resolve() for place in places if spec.submodule_search_locations or place.endswith(".py")]


def _is_users(root: Path) -> bool:
    """Whether `root` is neither installed, nor Python's, nor pitprop's: versions speak for these."""
    others = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    others.add(Path(pitprop.__file__).resolve().parent)
    return not (INSTALLED & set(root.parts) or any(root.is_relative_to(other) for other in others))


def _add(found: dict[Path, str], root: Path, name: str) -> list[Path]:
    """Add the files of `root`, by names that are the same on each machine; returns those that are new."""
    files = [root] if root.is_file() else _below(root, everywhere=bool(name))
    new = [file for file in files if file not in found]
    found.update((file, f"{name}/{file.relative_to(root).as_posix()}") for file in new)
    return new


def _below(folder: Path, *, everywhere: bool) -> list[Path]:
    """Python files of `folder` and below it: `everywhere`, or down to the folders that directly hold none.

    So a recipe that lies in a home folder does not have all of it read. Hidden folders and environments do not count.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # what may not be listed cannot be imported
        return []
    files = [Path(e.path) for e in entries if e.name.endswith(".py") and e.is_file() and os.access(e.path, os.R_OK)]
    if not (files or everywhere):
        return []
    for entry in entries:
        passed_by = entry.name in SKIPPED or entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False)
        if not (passed_by or Path(entry, "pyvenv.cfg").exists()):
            files += _below(Path(entry), everywhere=everywhere)
    return files
