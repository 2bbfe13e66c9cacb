"""The nineteen claims of seed 2, each with what settles it and its verdict.

python -m pitprop.cases.grid_solver.claims --run               measure what wasn't before, two runs at a time, and store
python -m pitprop.cases.grid_solver.claims --run --data DIR    the same on real tasks, DIR/arc-agi-1 and DIR/mini-arc
python -m pitprop.cases.grid_solver.claims --write             write the README's parts from the stored numbers
python -m pitprop.cases.grid_solver.claims --check             fail when README.md says anything else
"""

from collections.abc import Callable
from pathlib import Path

from pitprop.cases._claims import Claim, ClaimsOf, Judgement, Results, exit_with, main
from pitprop.cases.grid_solver import judges
from pitprop.cases.grid_solver.arms import FIRST, arms
from pitprop.cases.grid_solver.measurements import FEWER, SEEDS, run_claims, run_on_arc
from pitprop.cases.grid_solver.prose import on_arc, prose


def _claim(name: str, statement: str, settled_by: str, before: str, judge: Callable[[Results], Judgement]) -> Claim:
    return Claim(name=f"S2-{name}", statement=statement, settled_by=settled_by, before=before, judge=judge)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "C1",
        "the root cause is three random modules that are active from epoch 0",
        "trial: each module alone on OLD, and all three; bisection",
        "OPEN",
        judges.c1,
    ),
    _claim(
        "C2",
        "random cross-attention injects pure noise into every feature",
        "share of its output that is the same for all cells",
        "REFUTED",
        judges.c2,
    ),
    _claim(
        "C3",
        "this destroys any learning signal for foreground and background",
        "linear probe, and trial with the injector alone",
        "REFUTED",
        judges.c3,
    ),
    _claim("C4", "FiLM at random barely changes the features", "relative change at initialisation", "HALF", judges.c4),
    _claim("C5", "cross-attention is volatile, FiLM is not", "relative change at initialisation", "REFUTED", judges.c5),
    _claim("C6", "HyperLoRA's random change is noise", "size at initialisation; trial", "HALF", judges.c6),
    _claim(
        "C7",
        "checkpointing with None can cause silent gradient issues",
        "gradients with and without checkpointing",
        "REFUTED",
        judges.c7,
    ),
    _claim(
        "C8",
        "dictionaries aren't checkpointed correctly",
        "gradients with and without checkpointing",
        "REFUTED",
        judges.c8,
    ),
    _claim(
        "C9",
        "(not in the seed) a stage value that changes between forward and backward gives wrong gradients silently",
        "gradients with the value changed",
        "CONFIRMED",
        judges.c9,
    ),
    _claim(
        "C10", "bias -0.5 backfires: all foreground, then all background", "trial: bias -0.5", "REFUTED", judges.c10
    ),
    _claim("C11", "bias 0 is the stable choice", "trial: bias -0.5 and the prior's", "HALF", judges.c11),
    _claim("C12", "without EMA the training is more sensitive", "losses with and without EMA", "REFUTED", judges.c12),
    _claim(
        "C13", "batch size isn't the cause, architecture is", "factorial: batch x three modules", "OPEN", judges.c13
    ),
    _claim(
        "C14",
        "keep the modules off until epoch N, then switch them on",
        "trial: hard switch, ramp and zero initialisation from one state",
        "HALF",
        judges.c14,
    ),
    _claim(
        "C15",
        "all new modules should be the identity until then",
        "injector with its parts at zero",
        "HALF",
        judges.c15,
    ),
    _claim(
        "C16",
        "a module whose flag is off isn't touched",
        "its weights under AdamW, skipped or times 0",
        "HALF",
        judges.c16,
    ),
    _claim("C17", "option C does not collapse", "trial: option C", "OPEN", judges.c17),
    _claim(
        "C18", "early background everywhere is abnormal", "all runs, evaluation by evaluation", "REFUTED", judges.c18
    ),
    _claim("C19", "stablemax is neutral", "trial: softmax in its place", "HALF", judges.c19),
)


def header(results: Results) -> str:
    """What was run."""
    settings = results["provenance"]["settings"]
    planned = {name: SEEDS if name in FIRST else FEWER for name in arms()}
    done = {name: len(results["arms"].get(name, {"seeds": []})["seeds"]) for name in planned}
    short = [f"{name} ({done[name]} of {num} seeds)" for name, num in planned.items() if done[name] < num]
    return (
        f"{settings['steps']} steps; seeds as said, 3 where nothing is; not run whole: "
        f"{', '.join(short) or 'nothing'}. Means with the range over the seeds in parentheses; effects are paired "
        "differences of foreground accuracy on held-out tasks against OLD, by the weights as trained, with 95 % "
        f"intervals in brackets (docs/design/002-interval.md), margin {settings['margin']:g}; torch "
        f"{results['provenance']['torch']}."
    )


GRID = ClaimsOf(
    case="grid_solver",
    folder=Path(__file__).parent,
    claims=CLAIMS,
    measure=lambda folder, seeds, progress: run_claims(seeds or SEEDS, progress=progress),
    header=header,
    prose=prose,
    measure_on=run_on_arc,
    prose_on=on_arc,
)

if __name__ == "__main__":
    exit_with(lambda: main(GRID))
