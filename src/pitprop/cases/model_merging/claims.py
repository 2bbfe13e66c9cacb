"""The sixteen claims of seed 4, each with what settles it and its verdict.

python -m pitprop.cases.model_merging.claims --run      measure anew (5 seeds) and store the numbers
python -m pitprop.cases.model_merging.claims --write    write prose and table into README.md from the stored numbers
python -m pitprop.cases.model_merging.claims --check    fail when README.md says anything else
"""

from collections.abc import Callable
from pathlib import Path

from pitprop.cases._claims import Claim, ClaimsOf, Judgement, Kind, Results, exit_with, main
from pitprop.cases.model_merging import judges
from pitprop.cases.model_merging.measurements import run_claims
from pitprop.cases.model_merging.prose import prose
from pitprop.cases.model_merging.recipe import recipe


def _claim(
    name: str,
    statement: str,
    settled_by: str,
    before: str,
    judge: Callable[[Results], Judgement],
    kind: Kind = "measurement",
) -> Claim:
    return Claim(name=f"S4-{name}", statement=statement, settled_by=settled_by, before=before, judge=judge, kind=kind)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        "C1",
        "24 x 16 + 26 x 80 = 2464 = 2 x 1232, 50 tokens, 1/50 = .02, ln 50 = 3.91",
        "the numbers of the model",
        "CONFIRMED",
        judges.c1,
        "arithmetic",
    ),
    _claim(
        "C2",
        "attention starts diverse and collapses to uniform",
        "entropy at the start and end of collapsed runs",
        "HALF",
        judges.c2,
    ),
    _claim(
        "C3",
        ".02 is the critical point and an early warning",
        "was attention ever at .02 in a run that collapsed",
        "REFUTED",
        judges.c3,
    ),
    _claim(
        "C4",
        "normalised entropy is 0 for uniform; under .2 is near-uniform",
        "the entropy of known weights",
        "REFUTED",
        judges.c4,
        "arithmetic",
    ),
    _claim("C5", "attention sinking is uniform attention", "the two terms", "REFUTED", judges.c5, "definition"),
    _claim("C6", "uniform attention makes outputs duplicate", "trial: attention forced uniform", "REFUTED", judges.c6),
    _claim("C7", "duplicate outputs come with uniform attention", "entropy in collapsed runs", "REFUTED", judges.c7),
    _claim("C8", "gates suppress low-entropy heads", "gate under a forced change of entropy", "REFUTED", judges.c8),
    _claim("C9", "the gate implements arXiv 2505.06708", "gate's variation over tokens", "REFUTED", judges.c9),
    _claim(
        "C10",
        "gating prevents the collapse, uniqueness above 95 %",
        "trial: three gates from scratch",
        "REFUTED",
        judges.c10,
    ),
    _claim(
        "C11",
        "a collapsed checkpoint recovers with gating and not without",
        "trial: six recoveries of one checkpoint",
        "REFUTED for the seed's gate, HALF for the paper's",
        judges.c11,
    ),
    _claim("C12", "gradient clipping at 1.0 prevents it", "trial: gradient stabiliser", "REFUTED", judges.c12),
    _claim("C13", "gradients spike, then vanish", "norms per step", "CONFIRMED", judges.c13),
    _claim("C14", "ungated transformers inevitably collapse", "trial: no gate, no saturation", "REFUTED", judges.c14),
    _claim(
        "C15",
        "this is the model collapse of Shumailov et al.",
        "what the term means, and what the targets are",
        "REFUTED",
        judges.c15,
        "definition",
    ),
    _claim("C16", "the seed's gated model is a fair test", "its tokens at initialisation", "REFUTED", judges.c16),
)


def header(results: Results) -> str:
    """What was run."""
    provenance = results["provenance"]
    seeds, steps = len(provenance["settings"]["seeds"]), provenance["settings"]["steps"]
    return (
        f"{seeds} seeds, {steps} steps; means with 95 % intervals over the seeds; effects are paired differences of "
        f"output spread, margin {recipe.margin:g}; torch {provenance['torch']}."
    )


MERGING = ClaimsOf(
    case="model_merging",
    folder=Path(__file__).parent,
    claims=CLAIMS,
    measure=lambda folder, seeds, progress: run_claims(folder, seeds=seeds or 5, progress=progress),
    header=header,
    prose=prose,
)

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    exit_with(lambda: main(MERGING))
