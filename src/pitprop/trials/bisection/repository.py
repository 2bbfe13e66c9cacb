"""The user's repository, as git tells it: what a revision is, the commits between two of them, what they changed.

Everything here reads; no hook of the user's runs, and not even the index is refreshed.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pitprop._errors import PitpropError

OTHERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
"""Variables by which a hook that calls pitprop would direct git to another repository."""

FORMAT = "--format=%H%x00%T%x00%P%x00%an%x00%aI%x00%s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit."""

    hash: str
    """Full hash."""
    tree: str
    """Hash of everything that it holds; two commits with one tree are one revision to a run."""
    parents: tuple[str, ...]
    """Hashes of its parents; two or more make it a merge."""
    author: str
    """Who wrote it."""
    date: str
    """When, ISO 8601."""
    subject: str
    """First line of its message."""

    @property
    def short(self) -> str:
        """The hash as people write it."""
        return self.hash[:10]


def git(place: Path, *arguments: str) -> str:
    """What git prints when called in `place`.

    Raises:
        PitpropError: git is not installed, or refuses; with its own words.
    """
    command = ["git", "-C", str(place), "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in OTHERS}
    try:
        done = subprocess.run(
            command,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us; git finishes what it is at
        )
    except FileNotFoundError as error:
        raise PitpropError("git is not installed, or not on the PATH.", do="install it.") from error
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise PitpropError(f"`git {' '.join(arguments)}` failed in `{place}`: {said}")
    return done.stdout


def root_of(place: Path) -> Path:
    """Top of the checkout that holds `place`, a file or folder."""
    folder = next(parent for parent in (place, *place.parents) if parent.is_dir())
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel").rstrip("\n")).resolve()
    except PitpropError as error:
        raise PitpropError(
            f"`{place}` lies in no checkout of a git repository: {error.seen}",
            means="Good and bad were given as revisions, and the recipe's own repository is the one that is searched.",
            do="put the recipe under version control, or give two TOML files that exist.",
            read="docs/bisect.md",
        ) from error


def commit_at(root: Path, revision: str) -> Commit:
    """The commit that `revision` (a hash, tag, branch, or any other name that git takes) stands for.

    Raises:
        PitpropError: There is none; says what else `revision` was taken for.
    """
    try:
        if revision.startswith("-"):
            raise PitpropError("a revision does not begin with a dash")
        full = git(root, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    except PitpropError as error:
        here = Path(revision)
        file = "it is a file that does not end in .toml" if here.is_file() else f"there is no file `{here.absolute()}`"
        raise PitpropError(
            f"`{revision}` is neither a configuration nor a revision: {file}, and in `{root}` {error.seen}",
            do="give a TOML file that exists, or a hash, tag or branch as `git log --oneline` shows them.",
            read="docs/bisect.md",
        ) from error
    return _commits(git(root, "log", "-1", FORMAT, full))[0]


def commits_between(root: Path, good: Commit, bad: Commit) -> tuple[Commit, ...]:
    """The commits from `good` (left out) to `bad`, each the child of the one before.

    Where history forks, the first parent leads, as in `git bisect --first-parent`, unless only another one comes from
    `good`. So a merge counts as one change, every answer is one commit against its own parent, and the commits of a
    side branch, which need not run by themselves, are not asked.

    Raises:
        PitpropError: `good` is no ancestor of `bad`.
    """
    lines = git(root, "log", "--topo-order", "--ancestry-path", FORMAT, f"{good.hash}..{bad.hash}")
    known = {commit.hash: commit for commit in _commits(lines)}
    if bad.hash not in known:
        raise _unrelated(root, good, bad)
    path = [bad]
    while (parent := next(p for p in path[-1].parents if p in known or p == good.hash)) != good.hash:
        path.append(known[parent])
    return tuple(reversed(path))


def changed_files(root: Path, before: Commit, after: Commit) -> tuple[tuple[str, str], ...]:
    """(status, path) of every file that differs; the status is git's letter: A added, D deleted, M modified."""
    parts = git(root, "diff-tree", "-r", "-z", "--no-renames", "--name-status", before.hash, after.hash).split("\0")
    return tuple(zip(parts[0:-1:2], parts[1:-1:2], strict=True))


def is_dirty(root: Path) -> bool:
    """Whether tracked files of the checkout have changes that are not committed."""
    return bool(git(root, "status", "--porcelain", "--untracked-files=no"))


def refuse_tracked(root: Path, folder: Path, names: Sequence[str]) -> None:
    """Raise where `folder` lies in the checkout at `root`, and one of `names` in it is under version control."""
    if not folder.is_relative_to(root):
        return
    places = [f":(literal,top){(folder / name).relative_to(root)}" for name in names]
    if tracked := git(root, "ls-files", "-z", "--", *places).split("\0")[0]:
        raise PitpropError(
            f"`{root / tracked}` is under version control, and a bisection would write there.",
            means="Your checkout is not touched.",
            do="give a folder of its own (--out).",
            read="docs/bisect.md",
        )


def _commits(lines: str) -> list[Commit]:
    names = ("hash", "tree", "parents", "author", "date", "subject")
    found = [dict(zip(names, line.split("\0"), strict=True)) for line in lines.split("\n") if line]
    return [Commit(**{**fields, "parents": tuple(fields["parents"].split())}) for fields in found]  # type: ignore[arg-type]


def _unrelated(root: Path, good: Commit, bad: Commit) -> PitpropError:
    if good.hash == bad.hash:
        return PitpropError(f"Good and bad are the same commit, {good.short}.", do="give two.")
    if _is_ancestor(root, bad, good):
        return PitpropError(
            f"Bad ({bad.short}) is older than good ({good.short}).",
            means="A bisection looks for the commit that broke something, not for the one that mended it.",
            do="exchange the two, or give an older good.",
        )
    try:
        base = git(root, "merge-base", good.hash, bad.hash).strip()[:10]
    except PitpropError:
        base = ""
    return PitpropError(
        f"Good ({good.short}) is no ancestor of bad ({bad.short}): they lie on different branches.",
        means="What broke bad happened after the two parted, where good never was.",
        do=f"give the commit where they parted as good: {base}." if base else "give an ancestor of bad as good.",
    )


def _is_ancestor(root: Path, older: Commit, newer: Commit) -> bool:
    return git(root, "rev-list", "--count", f"{newer.hash}..{older.hash}").strip() == "0"
