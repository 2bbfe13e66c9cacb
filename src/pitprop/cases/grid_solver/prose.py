"""What the README says of the numbers in words: accuracies of every arm, and what the seed got right and wrong."""

from pitprop.cases._claims import Results
from pitprop.cases.grid_solver.arms import MODULES
from pitprop.cases.grid_solver.judges import background_at, effect, end, show, stayed, told

BY = {"effects": "foreground accuracy", "effects_on_loss": "held-out loss"}
RULES = ("class-collapse", "adapter-runaway")


def prose(results: Results) -> str:
    """The text; every number and every sentence that takes sides is a function of the results."""
    lines = [
        "",
        "| arm | seeds | foreground | background | background everywhere: sometime / at the end | "
        "foreground against OLD | held-out loss against OLD |",
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for name in results["arms"]:
        kept, runs = stayed(results, name)
        ever = int(background_at(results, name)[:, 1:].any(1).sum())
        cells = (
            name,
            str(runs),
            show(end(results, name)) if runs > 1 else f"{end(results, name)[0]:.3g}",
            show(end(results, name, "bg_accuracy")) if runs > 1 else f"{end(results, name, 'bg_accuracy')[0]:.3g}",
            f"{ever} / {kept} of {runs}",
            *(effect(results, name, on) if name in results[on] and runs > 1 else "" for on in BY),
        )
        lines.append(f"| {' | '.join(cells)} |")
    for on, metric in BY.items():
        found = {name.removeprefix("+ "): results[on][name]["verdict"] for name in MODULES if name in results[on]}
        lines += [
            "",
            f"**Each of the four modules alone, by {metric}** (margin {results[on][MODULES[0]]['margin']:g}):",
        ]
        for word in ("worse", "no difference within margin", "better", "inconclusive"):
            named = [name for name, verdict in found.items() if verdict == word]
            lines += [f"{word}: {', '.join(named)}."] if named else []
    lines += ["", *detection(results)]
    copied = results["references"]["the input as it is"]
    lines += [
        "",
        f"The input as it is has {copied['fg_accuracy']:.2f} of the foreground and {copied['bg_accuracy']:.2f} of the "
        "background right, without any training. Background everywhere has 0 and 1.",
        "",
    ]
    return "\n".join(lines)


def detection(results: Results) -> list[str]:
    """How often each rule spoke, in runs that ended at background everywhere and in the others."""
    rules = {rule: [told(results, rule, collapsed=stuck) for stuck in (True, False)] for rule in RULES}
    return [
        "**What the rules say** of the runs of all arms whose steps were kept: "
        + "; ".join(
            f"`{rule}` speaks in {stuck[0]} of {stuck[1]} that end at background everywhere and in {other[0]} of "
            f"{other[1]} that don't"
            for rule, (stuck, other) in rules.items()
        )
        + "."
    ]
