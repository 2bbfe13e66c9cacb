"""The twenty-five claims of seed 3, each with what settles it and its verdict.

python -m pitprop.cases.set_diffusion.claims --run      measure anew (8 seeds) and store the numbers
python -m pitprop.cases.set_diffusion.claims --write    write prose and table into README.md from the stored numbers
python -m pitprop.cases.set_diffusion.claims --check    fail when README.md says anything else
"""

from collections.abc import Callable
from pathlib import Path

from pitprop.cases._claims import Claim, ClaimsOf, Judgement, Kind, Results, exit_with, main
from pitprop.cases.set_diffusion import judges
from pitprop.cases.set_diffusion.measurements import SEEDS, run_claims
from pitprop.cases.set_diffusion.prose import prose
from pitprop.cases.set_diffusion.recipe import recipe
from pitprop.trials.progress import OnProgress


def _claim(
    name: str,
    statement: str,
    settled_by: str,
    before: str,
    judge: Callable[[Results], Judgement],
    kind: Kind = "measurement",
) -> Claim:
    return Claim(name=f"S3-{name}", statement=statement, settled_by=settled_by, before=before, judge=judge, kind=kind)


CLAIMS: tuple[Claim, ...] = (
    _claim("C1", "the context's slow drift to 0 shows a lack of gradient", "drift against use", "REFUTED", judges.c1),
    _claim(
        "C2",
        "with adaLN-Zero the encoder gets no gradient, for many steps",
        "its gradient by step, Adam and SGD",
        "HALF",
        judges.c2,
    ),
    _claim("C3", "zero gates let no information through", "loss with zero gates", "REFUTED", judges.c3),
    _claim("C4", "a zero output layer is an error", "loss before the first step", "REFUTED", judges.c4),
    _claim("C5", "normal(0.02) in place of zeros fixes it", "trial, with averaging and without", "HALF", judges.c5),
    _claim(
        "C6",
        "LayerNorm without a scale makes gradients vanish",
        "a fresh layer's bits, and a trial",
        "REFUTED",
        judges.c6,
    ),
    _claim("C7", "Flax's LayerNorm may have no scale by default", "its signature", "REFUTED", judges.c7, "definition"),
    _claim("C8", "clipping at 1 is critical for diffusion", "how often it acts, and a trial", "REFUTED", judges.c8),
    _claim("C9", "clipping cures a vanishing gradient", "what it does to the norm", "REFUTED", judges.c9),
    _claim("C10", "large noise gives large gradients", "gradient by noise level", "REFUTED", judges.c10),
    _claim("C11", "gradients vary 100 times over noise levels", "gradient by noise level", "HALF", judges.c11),
    _claim("C12", "twelve layers lose 72 % of the gradient", "gradient by block", "REFUTED", judges.c12),
    _claim("C13", "DiT's depth is for 64 times the pixels", "number of tokens", "REFUTED", judges.c13, "arithmetic"),
    _claim("C14", "a scale of 0.125 is small and makes attention uniform", "entropy, and a trial", "HALF", judges.c14),
    _claim("C15", "a temperature in logs is hard to learn", "how far it moves", "REFUTED", judges.c15),
    _claim("C16", "twice the initial scale helps", "trial, with averaging and without", "OPEN", judges.c16),
    _claim("C17", "without context nothing reaches its projection", "its gradient", "HALF", judges.c17, "arithmetic"),
    _claim("C18", "training with and without context is unstable", "what it is", "REFUTED", judges.c18, "definition"),
    _claim("C19", "a learnable null context is better than zeros", "trial", "HALF", judges.c19),
    _claim(
        "C20",
        "1e-4 is too high; early layers get tiny updates",
        "displacement by block under Adam: the second half",
        "REFUTED",
        judges.c20,
    ),
    _claim("C21", "warm-up and weight decay help", "trial, with averaging and without", "OPEN", judges.c21),
    _claim("C22", "SPT is a bottleneck and needs twice the variance", "its sizes, and a trial", "REFUTED", judges.c22),
    _claim("C23", "clip, apply_every(4), adamw accumulates", "what Adam is given", "REFUTED", judges.c23),
    _claim(
        "C24", "healthy is an encoder gradient over 0.1", "the norm where the context is used", "REFUTED", judges.c24
    ),
    _claim(
        "C25", "Pascanu et al.: clipping is essential for noise levels", "what they are about", "REFUTED", judges.c25,
        "definition",
    ),
)  # fmt: skip


def header(results: Results) -> str:
    """What was run."""
    provenance = results["provenance"]
    seeds, steps = len(provenance["settings"]["seeds"]), provenance["settings"]["steps"]
    confidence = {c["control"]: c["confidence"] for c in results["comparisons"]}
    return (
        f"{seeds} seeds, {steps} steps; means with 95 % intervals over the seeds; effects are paired differences of "
        f"context use, margin {recipe.margin:g}, with intervals of "
        + " and ".join(f"{100 * level:.1f} % (against {name})" for name, level in confidence.items())
        + f", which hold together; jax {provenance['jax']}."
    )


def measure(folder: Path, seeds: int | None, progress: OnProgress | None) -> Results:
    """What `--run` does."""
    seeds = SEEDS if seeds is None else seeds
    command = ("python", "-m", "pitprop.cases.set_diffusion.claims", "--run", "--seeds", str(seeds))
    return run_claims(command, seeds=seeds, progress=progress)


SETS = ClaimsOf(
    case="set_diffusion",
    folder=Path(__file__).parent,
    claims=CLAIMS,
    measure=measure,
    header=header,
    prose=prose,
)

if __name__ == "__main__":
    exit_with(lambda: main(SETS))
