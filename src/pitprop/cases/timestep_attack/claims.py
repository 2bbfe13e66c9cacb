"""The fifteen claims of seed 0, each with what settles it and its verdict.

python -m pitprop.cases.timestep_attack.claims --run      measure anew (100 images, 10 networks) and store the numbers
python -m pitprop.cases.timestep_attack.claims --write    write the table into README.md from the stored numbers
python -m pitprop.cases.timestep_attack.claims --check    fail when README.md says anything else
"""

from collections.abc import Callable
from pathlib import Path

from pitprop.cases._claims import Claim, ClaimsOf, Judgement, Kind, Results, exit_with, load_results, main
from pitprop.cases.timestep_attack import judges
from pitprop.cases.timestep_attack.experiment import Plan
from pitprop.cases.timestep_attack.measurements import SEEDS, run_claims
from pitprop.cases.timestep_attack.prose import prose
from pitprop.trials.progress import OnProgress


def _claim(
    number: int,
    statement: str,
    settled_by: str,
    before: str,
    judge: Callable[[Results], Judgement],
    kind: Kind = "measurement",
) -> Claim:
    return Claim(
        name=f"S0-C{number}", statement=statement, settled_by=settled_by, before=before, judge=judge, kind=kind
    )


CLAIMS: tuple[Claim, ...] = (
    _claim(
        1,
        "learned self-attention weights collapse to [1, 0, 0, 0, 0], on the step of the lowest loss",
        "learnable networks over the stream of images",
        "CONFIRMED",
        judges.c1,
    ),
    _claim(2, "total shift 1.9, a change of 190 %", "the distance", "CONFIRMED", judges.c2, "arithmetic"),
    _claim(3, "the loss of timestep 0 is far below that of timestep 4", "losses per timestep", "OPEN", judges.c3),
    _claim(4, "as a weight goes to 0, its gradient disappears", "the three gradients", "HALF", judges.c4, "arithmetic"),
    _claim(5, "the optimiser raises the weights of small losses", "sum w L", "CONFIRMED", judges.c5),
    _claim(
        6,
        "the objective is backwards: large losses should weigh much",
        "minimum, maximum and importance side by side",
        "HALF",
        judges.c6,
    ),
    _claim(
        7,
        "cross-attention weights are stable, so the fault is in how self-attention weights meet the loss",
        "census of gradients; cross weights wired",
        "REFUTED",
        judges.c7,
    ),
    _claim(
        8,
        "detach prevents the collapse and still allows learning",
        "census of gradients; motion",
        "REFUTED",
        judges.c8,
    ),
    _claim(9, "test of the fix: the weights remain stable", "what the test can tell", "VACUOUS", judges.c9),
    _claim(
        10,
        "the schedule after 10 images was learned successfully and is stable",
        "the collapse's own path under the seed's loss shares",
        "REFUTED",
        judges.c10,
    ),
    _claim(11, "the collapse comes from scaling to 1000 images", "motion over the images", "HALF", judges.c11),
    _claim(12, "the pilot schedule is better by about 1 %", "trial: paired images", "REFUTED", judges.c12),
    _claim(
        13,
        "fitting the weights to L / sum L aligns the objective, but is too risky, a major refactor",
        "trial: importance",
        "HALF",
        judges.c13,
    ),
    _claim(
        14,
        "end-to-end weight learning and adversarial attack are incompatible",
        "trials: kl, dro, uncertainty",
        "REFUTED",
        judges.c14,
    ),
    _claim(
        15, "the collapse doesn't depend on the loss's scale", "replays at gamma 1 and 100", "CONFIRMED", judges.c15
    ),
)


def header(results: Results) -> str:
    """What was run."""
    provenance = results["provenance"]
    settings = provenance["settings"]
    return (
        f"{settings['images']} images of {settings['source']}, {settings['seeds']} learnable networks, one of "
        "each other mode; 95 % intervals (Student's t, stretched for skewness), over the networks or over paired "
        f"images (differences to the fixed schedule [0.05, 0.08, 0.13, 0.24, 0.50]); torch {provenance['torch']}."
    )


def _measure(folder: Path, seeds: int | None, progress: OnProgress | None) -> Results:
    plan = Plan(seeds=seeds or SEEDS)
    command = ("python", "-m", "pitprop.cases.timestep_attack.claims", "--run", "--seeds", str(plan.seeds))
    return run_claims(plan, command, progress) | _long_run()


def _long_run() -> Results:
    """The stored part of `long_run.py`, which takes an hour."""
    if not ATTACK.stored.exists():
        return {}
    return {key: value for key, value in load_results(ATTACK).items() if key == "long_run"}


ATTACK = ClaimsOf(
    case="timestep_attack",
    folder=Path(__file__).parent,
    claims=CLAIMS,
    measure=_measure,
    header=header,
    prose=prose,
)

if __name__ == "__main__":
    exit_with(lambda: main(ATTACK))
