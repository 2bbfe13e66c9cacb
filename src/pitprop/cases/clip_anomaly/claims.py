"""The fourteen claims of seed 1, each with what settles it and its verdict.

python -m pitprop.cases.clip_anomaly.claims --run      measure anew (5 seeds) and store the numbers
python -m pitprop.cases.clip_anomaly.claims --write    write prose and table into README.md from the stored numbers
python -m pitprop.cases.clip_anomaly.claims --check    fail when README.md says anything else
"""

from collections.abc import Callable
from pathlib import Path

from pitprop.cases._claims import Claim, ClaimsOf, Judgement, Kind, Results, exit_with, main
from pitprop.cases.clip_anomaly import judges
from pitprop.cases.clip_anomaly.experiment import Settings, one_loop
from pitprop.cases.clip_anomaly.measurements import SEEDS, STEPS, run_claims
from pitprop.cases.clip_anomaly.prose import prose
from pitprop.cases.clip_anomaly.recipe import recipe
from pitprop.trials.progress import OnProgress


def _claim(
    name: str,
    statement: str,
    settled_by: str,
    before: str,
    judge: Callable[[Results], Judgement],
    kind: Kind = "measurement",
) -> Claim:
    return Claim(name=f"S1-{name}", statement=statement, settled_by=settled_by, before=before, judge=judge, kind=kind)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "C1", "cross-attention absorbed 63 % of the gradients", "gradient ratio over 20 batches", "REFUTED", judges.c1
    ),
    _claim("C2", "a gradient ratio of 0.3748", "range of the ratio over single batches", "CONFIRMED", judges.c2),
    _claim(
        "C3",
        "0.9609 after the fix proves the fix",
        "the seed's own four norms",
        "REFUTED",
        judges.c3,
        "arithmetic",
    ),
    _claim(
        "C4",
        "the cause is the residual at full scale, where the adapters have 0.1",
        "trial: scale against context norm",
        "HALF",
        judges.c4,
    ),
    _claim(
        "C5",
        "random Xavier weights make large outputs that dominate",
        "branch over stream at initialisation",
        "HALF",
        judges.c5,
    ),
    _claim(
        "C6",
        "with 37 % of its gradient the adapter can't learn",
        "trial: adapters' gradients times 0.3748, beside frozen ones",
        "REFUTED",
        judges.c6,
    ),
    _claim(
        "C7",
        "the base learns, the feedback run doesn't",
        "trial: A beside frozen adapters and the control",
        "OPEN",
        judges.c7,
    ),
    _claim(
        "C8",
        "the root cause is the unnormalised context without norm matching (header note)",
        "trial: both put right",
        "CONFIRMED",
        judges.c8,
    ),
    _claim(
        "C9",
        "after the fix the feedback run beats the base",
        "trial: B and C against the base trained on",
        "HALF",
        judges.c9,
    ),
    _claim(
        "C10",
        "a healthy gradient norm is 0.05 to 0.15",
        "trial: the loss times 10, beside frozen adapters",
        "REFUTED",
        judges.c10,
    ),
    _claim("C11", "0.1 prevents sudden changes, 0.05 to 0.2 are fine", "trial: four scales", "HALF", judges.c11),
    _claim("C12", "a learnable scalar lets the model find the weight", "trial: E", "HALF", judges.c12),
    _claim("C13", "loops compound improvements", "trial: loop 3 against loop 1", "OPEN", judges.c13),
    _claim(
        "C14",
        "norm matching is free of side effects (hidden)",
        "raw norm behind the norm matching",
        "HALF",
        judges.c14,
    ),
)


def header(results: Results) -> str:
    """What was run."""

    def run(of: Results) -> str:
        settings, loaded = of["provenance"]["settings"], of["references"]["loaded base"]
        return (
            f"{len(settings['seeds'])} seeds, {settings['schedule']['image_steps']} steps of stage 2 per loop, one "
            f"base of pixel AUROC {loaded[recipe.metric]:.3f}"
        )

    return (
        f"{run(results)}; where the early base is named, {run(results['learning'])}. `a (b to c)`: mean and range over "
        f"the seeds. `a [b, c]`: mean of what changed, paired by seed, with its own 95 % interval (Student's t, "
        f"stretched for skewness: docs/design/002-interval.md); gradient ratios: over batches. Effects are of pixel "
        f"AUROC on held-out images, margin {recipe.margin:g}; torch {results['provenance']['torch']}."
    )


def measure(folder: Path, seeds: int | None, progress: OnProgress | None):
    """The numbers; nothing is written into `folder`."""
    settings = Settings(seeds=tuple(range(seeds or SEEDS)), schedule=one_loop(STEPS))
    command = ("python", "-m", "pitprop.cases.clip_anomaly.claims", "--run", "--seeds", str(len(settings.seeds)))
    return run_claims(settings, command, progress)


CLIP = ClaimsOf(
    case="clip_anomaly",
    folder=Path(__file__).parent,
    claims=CLAIMS,
    measure=measure,
    header=header,
    prose=prose,
)

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    exit_with(lambda: main(CLIP))
