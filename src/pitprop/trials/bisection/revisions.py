"""Revisions as something to search over, and the executor that runs each of them in its own worktree and processes."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError, nearest
from pitprop.trials.bisection.oracle import Subset
from pitprop.trials.bisection.repository import Commit
from pitprop.trials.bisection.worktrees import Tree, Worktrees, call_in
from pitprop.trials.execute import read_json, write_json
from pitprop.trials.executors import Executor, Outcome, Task
from pitprop.trials.executors._attempts import FLOOR_S, PATIENCE
from pitprop.trials.load import load_recipe
from pitprop.trials.plan import content_hash
from pitprop.trials.run import RunSpec, versions

OpenPool = Callable[[float | None], AbstractContextManager[Executor]]
"""Opens an executor with a time limit per run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the recipe of a revision says about how its runs are judged."""

    metric: str
    higher_is_better: bool
    margin: float
    steps: int


class Revisions:
    """The commits after good, oldest first. A subset of them is the revision with its last commit; empty, it is good.

    Args:
        reference: The recipe; a file relative to the top of the repository.
        good: The commit that works.
        commits: What leads from there to bad, each the child of the one before.
    """

    def __init__(self, reference: str, good: Commit, commits: Sequence[Commit]):
        self.reference, self.good, self.commits = reference, good, tuple(commits)
        self.values = {commit.hash: ("left out", "made") for commit in commits}
        self.terms: dict[str, Terms] = {}
        """Tree -> terms, of the revisions whose recipe could be loaded."""
        self.metric = ""
        """What is judged by; a run without it has failed."""

    def at(self, subset: Subset) -> Commit:
        """The revision that `subset` stands for."""
        return self.commits[len(subset) - 1] if subset else self.good

    def subset(self, count: int) -> Subset:
        """The revision with the first `count` commits."""
        return frozenset(commit.hash for commit in self.commits[:count])

    def spec(self, subset: Subset, seed: int) -> RunSpec:
        """The run of a revision, with its own knobs and number of steps; its address holds the tree, not the commit."""
        commit = self.at(subset)
        return RunSpec(
            recipe=self.reference, source=self.source(commit), seed=seed, horizon=self.terms[commit.tree].steps
        )

    def source(self, commit: Commit) -> str:
        """Digest of everything that the repository holds, and of the versions that decide numbers."""
        return content_hash([commit.tree, *versions()])

    def words(self, start: Subset, end: Subset) -> str:
        """From which commit to which."""
        return f"{self.at(start).short} -> {self.at(end).short}"


class InWorktrees:
    """An executor that runs each task in the worktree of its revision; a context manager.

    The workers serve one revision and end: Python cannot forget what it has imported.

    Args:
        revisions: What is searched over.
        trees: Where they lie.
        open_pool: Opens the executor below; called with the time limit of a run.
        pools: How many revisions keep their workers until others need the place.
        timeout_s: That limit; default from the pace of all revisions before, for a new pool has none of its own.
        folder: Keeps what was learned of each revision.
    """

    def __init__(
        self,
        revisions: Revisions,
        trees: Worktrees,
        *,
        open_pool: OpenPool,
        pools: int,
        timeout_s: float | None,
        folder: Path,
    ):
        self._revisions, self._trees, self._folder = revisions, trees, folder
        self._open_pool, self._pools, self._timeout_s = open_pool, pools, timeout_s
        self._commits = {revisions.source(c): c for c in (revisions.good, *revisions.commits)}
        self._open: dict[str, tuple[ExitStack, Executor]] = {}
        self._took: list[float] = []
        self._loading = 0.0
        self.workers = 1

    def __enter__(self) -> "InWorktrees":
        return self

    def __exit__(self, *error) -> None:
        for stack, _ in self._open.values():
            stack.__exit__(*error)
        self._open.clear()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Outcomes of runs (their first argument is a `RunSpec`) as they arrive, revision by revision."""
        groups: dict[str, list[int]] = {}
        for index, task in enumerate(tasks):
            groups.setdefault(task.arguments[0].source, []).append(index)
        for source, indices in groups.items():
            commit = self._commits[source]
            for i, outcome in self._run_at(commit, [tasks[index] for index in indices]):
                value = outcome.value
                if value is not None:
                    self._took.append(value["training_s"] + value["engine_s"])
                    if (metric := self._revisions.metric) not in value["metrics"]:
                        outcome = Outcome(
                            error=f"`evaluate()` returned no `{metric}`: {nearest(metric, value['metrics'])}"
                        )
                yield indices[i], outcome

    def build(self, commit: Commit) -> str | None:
        """Learn the terms of a revision; the error where its recipe cannot be loaded, else None."""
        reference, terms = self._revisions.reference, self._revisions.terms
        if commit.tree in terms:
            return None
        kept = self._folder / "revisions" / f"{content_hash([reference, self._revisions.source(commit)])}.json"
        known = read_json(kept)
        if known is None:
            root = self._trees.at(commit).root
            ((_, outcome),) = self._run_at(commit, [Task(function=_terms, arguments=(reference, str(root)))])
            if outcome.error is not None:
                return outcome.error
            known = outcome.value
            kept.parent.mkdir(exist_ok=True)
            write_json(kept, known)
        terms[commit.tree] = Terms(**known)
        return None

    def _run_at(self, commit: Commit, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        tree, pool = self._trees.at(commit), self._pool(commit)
        start, first = time.monotonic(), True
        moved = [Task(function=call_in, arguments=(tree, t.function, _moved(t.arguments, tree.root))) for t in tasks]
        for index, outcome in pool.run(moved):
            if first:  # it has waited for the process and the imports
                self._loading, first = max(self._loading, time.monotonic() - start), False
            if outcome.error is not None:
                # The worktree will be gone when somebody reads this.
                yield index, dataclasses.replace(outcome, error=outcome.error.replace(f"{tree.root}/", ""))
                continue
            value, strangers = outcome.value
            if strangers:
                raise _shadowed(strangers, commit, tree)
            yield index, Outcome(value=value)

    def _pool(self, commit: Commit) -> Executor:
        """The workers of a revision, the least recently used given up for them where there are `pools`."""
        stack, pool = self._open.pop(commit.tree, (None, None))
        if stack is None or pool is None:
            if len(self._open) == self._pools:
                self._open.pop(next(iter(self._open)))[0].close()
            stack = ExitStack()
            pool = stack.enter_context(self._open_pool(self._limit()))
        self._open[commit.tree] = stack, pool
        return pool

    def _limit(self) -> float | None:
        if self._timeout_s is not None or not self._took:
            return self._timeout_s
        return max(FLOOR_S, PATIENCE * (statistics.median(self._took) + self._loading))


def _terms(reference: str, root: str) -> dict[str, Any]:
    """In the worktree at `root`: what `Terms` holds."""
    recipe = load_recipe(reference)
    place = reference.rpartition(":")[0]
    file = place if place.endswith(".py") else sys.modules[place].__file__ or place
    if not Path(file).resolve().is_relative_to(root):
        raise PitpropError(
            f"`{place}` was loaded from `{file}`, not from the worktree of the commit.",
            means="An installed copy was found first, so every revision would run that one.",
            do="name the recipe by its file in the repository, or uninstall the copy.",
            read="docs/bisect.md",
        )
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Terms)}


def _moved(arguments: tuple[Any, ...], root: Path) -> tuple[Any, ...]:
    """`arguments` with a recipe's file, in a reference or a specification, as one of the worktree."""

    def move(reference: str) -> str:
        return f"{root}/{reference}" if reference.rpartition(":")[0].endswith(".py") else reference

    first, *rest = arguments
    first = move(first) if isinstance(first, str) else dataclasses.replace(first, recipe=move(first.recipe))
    return (first, *rest)


def _shadowed(strangers: Sequence[str], commit: Commit, tree: Tree) -> PitpropError:
    return PitpropError(
        f"At {commit.short} {strangers[0]} was loaded from your checkout, not from the worktree of that commit"
        + (f"; and {len(strangers) - 1} more." if len(strangers) > 1 else "."),
        means="Each revision would run code of the checkout, and the bisection would accuse at random. An editable "
        "installation does this, or a script of yours that imports the package and then starts the bisection.",
        do="set PYTHONPATH to the folder of the repository that holds the package (it is moved to each worktree), or "
        "use the command line instead of the script.",
        read="docs/bisect.md",
    )
