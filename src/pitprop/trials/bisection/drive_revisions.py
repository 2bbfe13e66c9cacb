"""Bisect over git: from a commit that works and one that collapses to the commit that is guilty.

    revisions -> line of commits -> end points at 8 seeds -> cut, hashed -> halving -> confirm on fresh seeds

The same oracle as for configurations: a revision repeats over seeds under the sequential test, so a collapse at some
of the seeds still has one answer. Each revision runs in a worktree and in processes of its own; the user's checkout,
index, branches and stash are not touched.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.bisection.answer import nothing
from pitprop.trials.bisection.changes import Configuration
from pitprop.trials.bisection.endpoints import LOOKS, Cut
from pitprop.trials.bisection.first_bad import FirstBad, Tested, limits_of, state
from pitprop.trials.bisection.halving import halve
from pitprop.trials.bisection.oracle import Oracle, Step
from pitprop.trials.bisection.repository import (
    changed_files,
    commit_at,
    commits_between,
    is_dirty,
    refuse_tracked,
    root_of,
)
from pitprop.trials.bisection.revisions import InWorktrees, OpenPool, Revisions
from pitprop.trials.bisection.rounds import CONFIRM_SEEDS, Runner, confirm, run_ends
from pitprop.trials.bisection.sequential import SequentialTest
from pitprop.trials.bisection.worktrees import Worktrees
from pitprop.trials.earlier import keep_earlier
from pitprop.trials.execute import make_folder, write_json
from pitprop.trials.lock import held
from pitprop.trials.plan import content_hash
from pitprop.trials.progress import Meter, OnProgress
from pitprop.trials.run import to_json_number

WRITTEN = (
    *("plan.json", "bisection.json", "trial.json", "report.html", "workers.log", "trace.sqlite", "watched.json"),
    *("runs", "revisions", "earlier"),
)
"""What a bisection writes into its folder, or moves to `earlier`."""


def bisect_revisions(
    reference: str,
    good: str,
    bad: str,
    *,
    metric: str | None,
    budget: int,
    open_pool: OpenPool,
    pools: int,
    timeout_s: float | None,
    folder: str | Path,
    again: Sequence[str] = (),
    progress: OnProgress | None,
) -> FirstBad:
    """Find the first commit after `good`, on the way to `bad`, at which the recipe collapses; see `drive.bisect`.

    Args:
        reference, good, bad, metric, budget, timeout_s, folder, progress: As there.
        open_pool: Opens workers that have imported nothing of the user's; called anew for each revision.
        pools: How many revisions keep their workers at a time.
        again: Options of the command line that does the same, beside the question's own.

    Raises:
        PitpropError: Not two revisions of one repository, `good` is no ancestor of `bad`, good is not good, bad is not
            bad, the recipe of an end cannot be built or run, code was loaded from elsewhere than the worktree, or
            `folder` holds files under version control, or of somebody else, where the bisection would write.
    """
    start = time.monotonic()
    place, _, attribute = reference.rpartition(":")
    is_file = place.endswith(".py")
    checkout = root_of(Path(place).resolve() if is_file else Path.cwd())
    before, after = commit_at(checkout, good), commit_at(checkout, bad)
    inside = f"{Path(place).resolve().relative_to(checkout)}:{attribute}" if is_file else reference
    revisions = Revisions(inside, before, commits_between(checkout, before, after))
    refuse_tracked(checkout, Path(folder).resolve(), WRITTEN)
    is_new = not Path(folder).exists()
    folder = make_folder(folder)
    if is_new:  # it may lie in the checkout, whose status stays as it was
        (folder / ".gitignore").write_text("*\n")

    meter = Meter(progress, total=budget)
    with (
        held(folder),
        Worktrees(checkout, folder) as trees,
        InWorktrees(revisions, trees, open_pool=open_pool, pools=pools, timeout_s=timeout_s, folder=folder) as executor,
    ):
        meter.enter(f"running good and bad, {len(revisions.commits)} commits apart")
        for name, end in (("good", before), ("bad", after)):
            if error := executor.build(end):
                raise _unbuilt(name, end.short, inside, error)
        terms = revisions.terms[before.tree]
        revisions.metric = metric or terms.metric
        plan = _plan(revisions, budget)
        keep_earlier(folder, plan)
        write_json(folder / "plan.json", plan)
        runner = Runner(revisions, revisions.metric, folder, executor, meter.tick)

        ends, cut, found = run_ends(runner, terms, budget)
        if cut is None:
            raise _refused(found.ends, ends)
        plan |= {"higher_is_better": ends.higher_is_better, "cut": to_json_number(cut.value)}
        plan["hash"] = content_hash(plan)
        write_json(folder / "plan.json", plan)

        meter.enter(f"searching {len(revisions.commits)} commits")
        kept = min(2 * len(CONFIRM_SEEDS), (budget - runner.used) // 4)
        # What the oracle will ask for first, the end points at the first seeds, was run already.
        names = [commit.hash for commit in revisions.commits]
        oracle = Oracle(runner.collapses(cut), names, budget=budget - kept - (runner.used - 2 * LOOKS[0]))
        unbuilt: dict[int, str] = {}

        def builds(count: int) -> bool:
            error = executor.build(revisions.commits[count - 1])
            if error:
                unbuilt[count] = error
            return not error

        bracket = halve(oracle, builds)
        if bracket.ends != "apart":
            raise _refused(bracket.ends, ends)
        tested = _evidence(runner, revisions, cut, oracle.steps, unbuilt)
        meter.enter("confirming on fresh seeds")
        side = ("first bad", revisions.subset(bracket.healthy), revisions.subset(bracket.collapsing))
        confirmed, _ = confirm(runner, [side], ends, plan["hash"], budget)
        meter.enter("done", total=meter.done)

        healthy = revisions.at(side[1])
        candidates = revisions.commits[bracket.healthy : bracket.collapsing]
        effect = confirmed[0] if confirmed else None
        statement, advice = state(healthy, candidates, tested, effect, spent=bracket.spent)
        answer = FirstBad(
            folder=folder,
            command=_command(
                f"{checkout / inside}" if is_file else reference, before.short, after.short, metric, budget
            )
            + tuple(again),
            repository=str(checkout),
            good=before,
            commits=revisions.commits,
            ends=ends,
            cut=cut.value,
            healthy=healthy.hash,
            candidates=tuple(commit.hash for commit in candidates),
            tested=tested,
            files=changed_files(checkout, healthy, candidates[-1]),
            confirm=effect,
            budget=budget,
            runs=runner.used,
            plan=plan["hash"],
            statement=statement,
            next=advice,
            limits=limits_of(revisions.commits, tested, dirty=is_dirty(checkout)),
            wall_s=time.monotonic() - start,
        )
        write_json(folder / "bisection.json", answer.to_dict())
        return answer


def named_revisions(good: Configuration, bad: Configuration) -> tuple[str, str] | None:
    """`good` and `bad`, where they name revisions; None where they are configurations.

    Text is a configuration where a file of that name exists and ends in `.toml`, whatever git knows, and a revision
    otherwise. Mappings and paths are configurations.

    Raises:
        PitpropError: One of each.
    """
    ends = {"good": good, "bad": bad}
    named = {n: v for n, v in ends.items() if isinstance(v, str) and not (v.endswith(".toml") and Path(v).is_file())}
    if not named:
        return None
    if len(named) == 1:
        ((name, value),) = named.items()
        other = "bad" if name == "good" else "good"
        raise PitpropError(
            f"`{value}` ({name}) is no TOML file that exists, and {other} is "
            + ("not given." if ends[other] is None else "a configuration."),
            means="Good and bad are either two configurations or two revisions of a git repository.",
            do="give two TOML files that exist (a configuration that is left out has the defaults), or two revisions.",
            read="docs/bisect.md",
        )
    return named["good"], named["bad"]


def _evidence(
    runner: Runner, revisions: Revisions, cut: Cut, steps: Sequence[Step], unbuilt: dict[int, str]
) -> tuple[Tested, ...]:
    """What was seen at each revision, oldest first."""
    outcomes: dict[int, Any] = {len(step.changes): step.outcome for step in steps}
    outcomes |= dict.fromkeys(unbuilt, "cannot be built")
    found = []
    for count in sorted(outcomes):
        subset = revisions.subset(count)
        records = runner.records(subset)
        ended = {s: float(r["metrics"][runner.metric]) for s, r in records.items() if r["status"] == "done"}
        errors = [unbuilt[count]] if count in unbuilt else [r["error"] for r in records.values() if r["error"]]
        found.append(
            Tested(
                commit=revisions.at(subset).hash,
                outcome=outcomes[count],
                seeds=tuple(ended),
                values=tuple(ended.values()),
                collapsed=sum(map(cut.collapsed, ended.values())),
                failed=len(records) - len(ended),
                error=errors[0] if errors else "",
            )
        )
    return tuple(found)


def _plan(revisions: Revisions, budget: int) -> dict[str, Any]:
    """Everything that is fixed before the first run; the cut follows before the search."""
    return {
        "recipe": revisions.reference,
        "good": revisions.good.hash,
        "commits": [commit.hash for commit in revisions.commits],
        "metric": revisions.metric,
        "budget": budget,
        "test": dataclasses.asdict(SequentialTest()),
        "confirm_seeds": list(CONFIRM_SEEDS),
    }


def _refused(kind: Any, ends: Comparison) -> PitpropError:
    """End points between which there is nothing to search."""
    wrong = {"good collapses": "Good is not good", "unresolved": "The end points are not settled"}
    seen, do = nothing(kind, ends)
    return PitpropError(
        f"{wrong.get(kind, 'Bad is not bad')}. {seen}",
        means="A bisection between these would accuse a commit at random. The runs are kept.",
        do=do,
        read="docs/bisect.md",
    )


def _unbuilt(name: str, commit: str, reference: str, error: str) -> PitpropError:
    return PitpropError(
        f"The recipe cannot be loaded at {name} ({commit}): {error}",
        means="Each revision runs its own recipe, with the packages that are installed now; both ends must have it.",
        do=f"give a revision that has `{reference}`, or commit the recipe on a branch from {name}.",
        read="docs/bisect.md",
    )


def _command(reference: str, good: str, bad: str, metric: str | None, budget: int) -> tuple[str, ...]:
    chosen = ("--metric", metric) if metric else ()
    return ("pitprop", "bisect", reference, "--good", good, "--bad", bad, *chosen, "--budget", str(budget))
