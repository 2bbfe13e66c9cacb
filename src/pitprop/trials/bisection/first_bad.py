"""What a bisection of revisions answers: the record, its sentences, its file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pitprop.records import Comparison
from pitprop.trials.bisection.answer import effect_of, to_json
from pitprop.trials.bisection.repository import Commit
from pitprop.trials.bisection.sequential import share_interval

NAMED = 6
"""Candidates that a sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What was seen at one revision, before the confirming round."""

    commit: str
    """Hash of its commit."""
    outcome: Literal["collapses", "healthy", "unresolved", "cannot be built"]
    """What the sequential test says; `unresolved` also where runs fail. The last two say nothing of the collapse."""
    seeds: tuple[int, ...]
    """Seeds of the runs that ended."""
    values: tuple[float, ...]
    """The metric at these seeds."""
    collapsed: int
    """How many of them are beyond the cut, or not finite."""
    failed: int
    """Runs that raised, hung, or whose process died."""
    error: str
    """The first error; empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstBad:
    """What a bisection of revisions found; the same is in the folder's `bisection.json`."""

    folder: Path
    """Holds `plan.json`, `runs/`, `bisection.json`."""
    command: tuple[str, ...]
    """The command line that makes it again."""
    repository: str
    """Top of the checkout that was searched."""
    good: Commit
    """The commit that was given as good."""
    commits: tuple[Commit, ...]
    """What leads from there to bad, oldest first."""
    ends: Comparison
    """Bad against good."""
    cut: float
    """Value of the metric beyond which a run counts as collapsed; NaN where only a metric that is not finite does."""
    healthy: str
    """Hash of the last commit that is known to be healthy."""
    candidates: tuple[str, ...]
    """Hashes of the commits that may be the first bad one, oldest first; the last of them collapses."""
    tested: tuple[Tested, ...]
    """What was seen, by revision, oldest first."""
    files: tuple[tuple[str, str], ...]
    """What the candidates changed, as (git's letter, path)."""
    confirm: Comparison | None
    """The last candidate against the last healthy commit on fresh seeds; None where the budget did not hold it."""
    budget: int
    """Runs that were allowed."""
    runs: int
    """Runs that it took."""
    plan: str
    """Hash of the plan, written before the search began."""
    statement: str
    """The answer in plain language."""
    next: str
    """What to do now, or what may settle it."""
    limits: tuple[str, ...]
    """What the answer does not mean."""
    wall_s: float
    """Seconds that it took."""

    collapsed = True
    """There is always a collapse to explain: ends without one are refused."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form; numbers that are not finite are the strings "nan", "inf" and "-inf"."""
        tested = [asdict(t) | {"interval": share_interval(t.collapsed, len(t.seeds))} for t in self.tested]
        return to_json({"kind": "revisions"} | asdict(self) | {"folder": str(self.folder), "tested": tested})


def state(
    before: Commit,
    candidates: Sequence[Commit],
    tested: Sequence[Tested],
    confirm: Comparison | None,
    *,
    spent: bool,
) -> tuple[str, str]:
    """The answer and what to do next, in sentences.

    Args:
        before: The last healthy commit.
        candidates: What may be the first bad one, oldest first.
        tested: The evidence.
        confirm: The last candidate against `before` on fresh seeds.
        spent: Whether the budget ended while there were commits left to test.
    """
    first, last = candidates[0], candidates[-1]
    seen = {t.commit: f"{t.collapsed} of {len(t.seeds)} runs" for t in tested}
    if len(candidates) == 1:
        parts = [f"`{last.short}` is the first bad commit: {last.subject} ({last.author}, {last.date[:10]})."]
    else:
        named = ", ".join(f"`{c.short}`" for c in candidates[:NAMED]) + (", ..." if len(candidates) > NAMED else "")
        why = "the budget ended before they were told apart" if spent else "those before the last cannot be tested"
        parts = [f"The first bad commit is one of {len(candidates)}: {named}; {why}."]
    told = f"{seen[last.hash]} collapse at `{last.short}`, {seen[before.hash]} at `{before.short}`"
    parts.append(f"{told}{effect_of(confirm)}.")
    if confirm is None:
        parts.append("The budget ended before this could be confirmed on fresh seeds.")
    elif confirm.verdict != "worse":
        parts.append(f"Not confirmed on fresh seeds: {confirm.verdict}.")
    if spent or confirm is None:
        return " ".join(parts), "Give a larger budget; the runs made so far are kept."
    if len(candidates) > 1:
        return " ".join(parts), (
            f"Make the commits between run (their errors are listed), or read `git diff {before.short} {last.short}`."
        )
    if len(first.parents) > 1:
        side = next(parent for parent in first.parents if parent != before.hash)[:10]
        return " ".join(parts), (
            f"It is a merge. To search what it brought in: "
            f"`--good $(git merge-base {before.short} {side}) --bad {side}`."
        )
    return " ".join(parts), f"Read it: `git show {last.short}`."


def limits_of(commits: Sequence[Commit], tested: Sequence[Tested], *, dirty: bool) -> tuple[str, ...]:
    """What the answer does not mean, in sentences."""
    settled = {t.commit for t in tested if t.outcome in ("collapses", "healthy")}
    untested = sum(commit.hash not in settled for commit in commits)
    sentences = [
        f"That the collapse, once it had come, stayed is assumed: {untested} of {len(commits)} commits were not "
        "settled by runs. Where it comes and goes, there are other first bad commits besides this one."
        if untested
        else "Every commit was settled by runs.",
        "A commit is guilty by this metric and cut, at its recipe's own default knobs and number of steps.",
        "All revisions ran with the packages that are installed now, not with those of their time.",
    ]
    if dirty:
        sentences.append("The checkout has changes that are not committed; they took no part.")
    return tuple(sentences)
