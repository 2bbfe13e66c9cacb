"""`bisection.json`, read strictly into what a report shows of a bisection, over configurations or over revisions."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitprop import __version__
from pitprop._errors import PitpropError
from pitprop.records import Comparison, RunInfo
from pitprop.report.trial_file import Part, Wrong, comparison, number
from pitprop.report.value import Headline, Report

NAME = "bisection.json"

LETTERS = {"A": "added", "D": "deleted", "M": "modified", "T": "of another type"}
"""What git's letters mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """What was seen of one configuration or revision."""

    name: str
    """The configuration from the end that is nearer (`good + lr`), or the hash of the revision."""
    about: str
    """Subject, author and date of a revision, and the error where there was one; empty for a configuration."""
    made: tuple[bool, ...]
    """Which of the changes were made, in the order of `changes`; empty for a revision."""
    collapsed: int
    """Runs that collapsed."""
    runs: int
    """Runs that ended."""
    low: float
    """Lower end of the interval of the share that collapses; NaN without runs."""
    high: float
    """Upper end of it."""
    outcome: str
    """What the sequential test says, or that there was nothing to run."""
    accused: bool
    """Whether it is a set that was found guilty, or a candidate for the first bad commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """The content of `bisection.json`."""

    kind: str
    """`changes`, of a configuration or of modules, or `revisions`."""
    statement: str
    """The answer."""
    next: str
    """What to do now."""
    sets: tuple[tuple[str, str], ...]
    """(what they do, their changes) of the sets that were found; or the candidates for the first bad commit."""
    changes: Mapping[str, str]
    """Every change with what it is; of revisions, the files that the candidates changed, and how."""
    accused: tuple[str, ...]
    """Changes that are in a set."""
    tests: tuple[Test, ...]
    """The tests of the search, in their order; revisions oldest first."""
    ends: Comparison
    """Bad against good."""
    cut: float
    """Value of the metric beyond which a run counts as collapsed; NaN where only one that is not finite does."""
    confirm: tuple[Comparison, ...]
    """What fresh seeds say."""
    failed: tuple[str, ...]
    """Runs that failed, each with its error."""
    limits: tuple[str, ...]
    """What the answer does not mean."""
    budget: int
    """Runs that were allowed."""
    runs: int
    """Runs that it took."""
    plan: str
    """Hash of the plan."""
    command: tuple[str, ...]
    """Command that makes it again."""
    wall_s: float
    """Duration in seconds."""


def read(folder: Path) -> Report | None:
    """The report of the bisection in `folder`, or None where no `bisection.json` lies there.

    Raises:
        PitpropError: The file is not JSON, or a part is missing or of the wrong kind; the message names it.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        get = Part(json.loads(path.read_text(encoding="utf-8")))
        found = _revisions(get) if get("kind", str) == "revisions" else _changes(get)
    except (OSError, ValueError, Wrong) as error:
        raise PitpropError(
            f"{path} cannot be read as the result of a bisection: {error}.",
            means="It was cut short, edited, or written by another version.",
            do="Run the bisection again; the runs made so far are kept.",
        ) from error
    # The whole answer stands over the search; a headline is one sentence.
    first = re.split(r"(?<=[.!?])\s", found.statement, maxsplit=1)[0]
    return Report(
        version=__version__,
        folder=str(folder.resolve()),
        info=RunInfo(name=folder.resolve().name, started=""),
        last_step=None,
        headline=Headline(tone="failure" if found.tests else "clear", statement=first, fixes=found.next),
        findings=(),
        pages={},
        series=(),
        units={},
        attention=(),
        coverage={},
        unseen=(),
        schedule={},
        diagnosis=None,
        command=found.command,
        notes=(),
        bisection=found,
    )


def _changes(get: Part) -> Bisection:
    changes = get("changes", Mapping)
    said = Part(get("found", Mapping), "found.")
    sets = {
        what: [_names(item) for item in said.all(key, Mapping)]
        for key, what in (("bringing", "brings the collapse"), ("curing", "reversed, cures it"))
    }
    guilty = {frozenset(names) for names in sets["brings the collapse"]}
    everything = frozenset(changes)
    tests = []
    for i, item in enumerate(get.all("steps", Mapping)):
        made = frozenset(_names(item))
        cured = any(frozenset(names) == everything - made for names in sets["reversed, cures it"])
        name = _configuration([n for n in changes if n in made], list(changes))
        made_flags = tuple(name in made for name in changes)
        tests.append(_test(Part(item, f"steps[{i}]."), name, "", made_flags, made in guilty or cured))
    return Bisection(
        **_common(get),
        kind="changes",
        sets=tuple((what, " + ".join(names)) for what, found in sets.items() for names in found),
        changes=changes,
        accused=tuple(n for n in changes if any(n in names for found in sets.values() for names in found)),
        tests=tuple(tests),
        confirm=_comparisons(get, "confirm"),
        failed=tuple(f"{f.get('changes')}, seed {f.get('seed')}: {f.get('error')}" for f in get.all("failed", Mapping)),
        limits=(),
    )


def _revisions(get: Part) -> Bisection:
    commits = {
        part("hash", str): part
        for part in (
            Part(get("good", Mapping), "good."),
            *(Part(item, f"commits[{i}].") for i, item in enumerate(get.all("commits", Mapping))),
        )
    }
    candidates = get.all("candidates", str)
    tests = []
    for i, item in enumerate(get.all("tested", Mapping)):
        part = Part(item, f"tested[{i}].")
        commit = commits.get(part("commit", str))
        if commit is None:
            raise Wrong(f"`{part.prefix}commit` is {part('commit', str)!r:.60}, none of the commits")
        about = f"{commit('subject', str)} ({commit('author', str)}, {commit('date', str)[:10]})"
        about += f"; {part('error', str).splitlines()[0]}" if part("error", str) else ""
        accused = part("commit", str) in candidates
        tests.append(_test(part, part("commit", str)[:10], about, (), accused, runs=len(part.all("seeds", int))))
    one = "first bad commit" if len(candidates) == 1 else "may be the first bad commit"
    return Bisection(
        **_common(get),
        kind="revisions",
        sets=tuple((one, f"{c[:10]} {commits[c]('subject', str)}") for c in candidates if c in commits),
        changes=dict(_file(pair, f"files[{i}]") for i, pair in enumerate(get.all("files", list))),
        accused=(),
        tests=tuple(tests),
        confirm=(comparison(Part(get("confirm"), "confirm.")),) if get("confirm") is not None else (),
        failed=tuple(f"{t['commit'][:10]}: {t['error']}" for t in get("tested") if t["error"]),
        limits=get.all("limits", str),
    )


def _common(get: Part) -> dict[str, Any]:
    """The fields that both kinds share."""
    return {
        "statement": get("statement", str),
        "next": get("next", str),
        "ends": comparison(Part(get("ends", Mapping), "ends.")),
        "cut": number(get("cut")),
        "budget": get("budget", int),
        "runs": get("runs", int),
        "plan": get("plan", str),
        "command": get.all("command", str),
        "wall_s": number(get("wall_s")),
    }


def _test(get: Part, name: str, about: str, made: tuple[bool, ...], accused: bool, *, runs: int | None = None) -> Test:
    low, high = map(number, get("interval", list))
    return Test(
        name=name,
        about=about,
        made=made,
        collapsed=get("collapsed", int),
        runs=get("runs", int) if runs is None else runs,
        low=low,
        high=high,
        outcome=get("outcome", str),
        accused=accused,
    )


def _file(pair: list, where: str) -> tuple[str, str]:
    if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise Wrong(f"`{where}` is {pair!r:.60}")
    letter, path = map(str, pair)
    return path, LETTERS.get(letter, letter)


def _names(item: Mapping[str, Any]) -> tuple[str, ...]:
    return Part(item).all("changes", str)


def _comparisons(get: Part, key: str) -> tuple[Comparison, ...]:
    return tuple(comparison(Part(item, f"{key}[{i}].")) for i, item in enumerate(get.all(key, Mapping)))


def _configuration(made: list[str], names: list[str], most: int = 4) -> str:
    """A subset, from the end that is nearer."""
    left = [name for name in names if name not in made]
    if not left:
        return f"bad (all {len(names)} changes)"
    end, sign, few = ("good", "+", made) if len(made) <= len(left) else ("bad", "-", left)
    return f" {sign} ".join([end, *few[:most], *([f"{len(few) - most} more"] if len(few) > most else [])])
