"""What the README says of the numbers in words: accuracies of every arm, and what the seed got right and wrong."""

from pitprop.cases._claims import Results
from pitprop.cases.grid_solver.arms import MODULES
from pitprop.cases.grid_solver.judges import rises
from pitprop.cases.grid_solver.readings import (
    ENDINGS,
    NEXT_TO_NONE,
    background_at,
    effect,
    endings,
    share,
    show,
    stayed,
    told,
)

BY = {"effects": "foreground accuracy", "effects_on_loss": "held-out loss"}
RULES = ("class-collapse", "adapter-runaway")


def prose(results: Results) -> str:
    """The text; every number and every sentence that takes sides is a function of the results."""
    lines = ["", *accuracies(results)]
    for on, metric in BY.items():
        found = {name.removeprefix("+ "): results[on][name]["verdict"] for name in MODULES if name in results[on]}
        lines += [
            "",
            f"**Each of the four modules alone, by {metric}** (margin {results[on][MODULES[0]]['margin']:g}):",
        ]
        for word in ("worse", "no difference within margin", "better", "inconclusive"):
            named = [name for name, verdict in found.items() if verdict == word]
            lines += [f"{word}: {', '.join(named)}."] if named else []
    lines += ["", *detection(results), "", *switches(results)]
    copied = results["references"]["the input as it is"]
    lines += [
        "",
        f"The input as it is has {copied['fg_accuracy']:.2f} of the foreground and {copied['bg_accuracy']:.2f} of the "
        "background right, without any training. Background everywhere has 0 and 1.",
        "",
    ]
    return "\n".join(lines)


def on_arc(measured: Results) -> str:
    """What the arms answer on real tasks, and what the rules say, collection by collection."""
    lines = []
    for name, found in measured["collections"].items():
        trained, held_out = found["num_tasks"]
        copied = found["references"]["the input as it is"]
        lines += [
            "",
            f"**{name}**, the {trained + held_out} tasks of at most {found['size']} x {found['size']}, {held_out} of "
            f"them held out. The input as it is has {copied['fg_accuracy']:.2f} of the foreground and "
            f"{copied['bg_accuracy']:.2f} of the background right.",
            "",
            *accuracies(found),
            "",
        ]
        for rule in RULES:
            spoke = {arm: [rule in alarms for alarms in of["alarms"]] for arm, of in found["arms"].items()}
            said = ", ".join(f"{sum(alarms)} of {len(alarms)} of {arm}" for arm, alarms in spoke.items())
            lines.append(f"`{rule}` speaks in {said}.")
    return "\n".join([*lines, ""])


def accuracies(results: Results) -> list[str]:
    """A table of what the arms answer at the end."""
    lines = [
        "| arm | seeds | exact | foreground | background | background everywhere: sometime / at the end | "
        "foreground against OLD | held-out loss against OLD |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, arm in results["arms"].items():
        kept, runs = stayed(results, name)
        ever = int(background_at(results, name).any(1).sum())
        cells = (
            name,
            str(runs),
            *(show(arm["raw"][metric]) for metric in ("exact", "fg_accuracy", "bg_accuracy")),
            f"{ever} / {kept} of {runs}",
            *(effect(results, name, on) if name in results[on] and runs > 1 else "" for on in BY),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def detection(results: Results) -> list[str]:
    """How often each rule spoke, by how the run ended, and the runs' marginals."""
    lines = [
        "**What the rules say**, by how a run of any arm ended (the runs whose steps were kept; shares with 95 % "
        "intervals):",
        "",
        f"| rule | {' | '.join(ENDINGS)} |",
        "|---|---|---|---|",
    ]
    for rule in RULES:
        lines.append(f"| `{rule}` | {' | '.join(share(*told(results, rule, ending)) for ending in ENDINGS)} |")
    first = results["arms"]["OLD"]["steps"][1]
    lines += ["", "Entropy of the answers' colours over that of the wanted ones:", ""]
    for ending in ENDINGS:
        of = [
            (arm["marginal_entropy"][i][1], arm["raw"]["marginal_entropy"][i])
            for name, arm in results["arms"].items()
            for i, ended in enumerate(endings(results, name))
            if ended == ending
        ]
        if of:
            early, late = zip(*of, strict=True)
            lines.append(f"* {ending} ({len(of)} runs): {show(early)} at step {first}, {show(late)} at the end.")
    return lines


def switches(results: Results) -> list[str]:
    """What each way of switching the modules on does to the answers, and whether the rule says so."""
    staging = results["staging"]
    lines = [
        f"**The three modules switched on after 150 steps** ({len(staging)} seeds), against the branch that stays off:",
        "",
    ]
    for name in ("hard", "ramp", "zero"):
        looks = [of[name]["looks"] for of in staging.values()]
        lost = sum(min(look["fg_accuracy"] for look in own[1:]) <= NEXT_TO_NONE for own in looks)
        spoke = sum("stage-switch-shock" in of[name]["alarms"] for of in staging.values())
        rise = ", ".join(f"{value:.0%}" for value in rises(results, name, relative=True))
        lines.append(
            f"* {name}: the held-out loss is up by as much as {rise} at some look, the foreground is lost (at most "
            f"{NEXT_TO_NONE:.0%} right) at one in {lost} of {len(staging)}; `stage-switch-shock` speaks in {spoke}."
        )
    return lines
