"""The sixteen claims of seed 4, each with what settles it and its verdict.

    python -m pitprop.cases.model_merging.claims --run      measure anew (5 seeds) and store the numbers
    python -m pitprop.cases.model_merging.claims --write    write prose and table into README.md from the stored numbers
    python -m pitprop.cases.model_merging.claims --check    fail when README.md says anything else

A claim says whether a measurement settles it, or arithmetic, or a definition: for the last two, no stored number can
change the verdict. Verdicts: CONFIRMED, REFUTED, HALF (true in part), OPEN (the numbers don't settle it), VACUOUS (what
it speaks of never happened, so it isn't tested).
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pitprop.cases.model_merging import judges
from pitprop.cases.model_merging.judges import Judgement, Results
from pitprop.cases.model_merging.measurements import STORED, load_results, run_claims, store
from pitprop.cases.model_merging.prose import prose
from pitprop.cases.model_merging.recipe import recipe

Kind = Literal["measurement", "arithmetic", "definition"]

README = Path(__file__).with_name("README.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One testable sentence of the seed."""

    name: str
    statement: str
    """What the seed says, in short."""
    settled_by: str
    """What decides."""
    kind: Kind
    """Whether what decides is a measurement; arithmetic and definitions hold whatever was measured."""
    before: str
    """Verdict of the science note, before this system was built."""
    judge: Callable[[Results], Judgement]


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


def table(results: Results) -> str:
    """The verdict table as Markdown, a function of the stored numbers alone."""
    provenance = results["provenance"]
    seeds, steps = len(provenance["settings"]["seeds"]), provenance["settings"]["steps"]
    lines = [
        f"{seeds} seeds, {steps} steps; means with 95 % intervals over the seeds; effects are paired differences of "
        f"output spread, margin {recipe.margin:g}; "
        f"torch {provenance['torch']}.",
        "",
        "| claim | the seed says | settled by | verdict | numbers |",
        "|---|---|---|---|---|",
    ]
    for claim in CLAIMS:
        judged = claim.judge(results)
        differs = "" if judged.verdict == claim.before else f" (science note: {claim.before})"
        by = claim.settled_by if claim.kind == "measurement" else f"{claim.kind}: {claim.settled_by}"
        lines.append(f"| {claim.name} | {claim.statement} | {by} | {judged.verdict}{differs} | {judged.evidence} |")
    return "\n".join(lines)


def generated(readme: str, results: Results) -> str:
    """`readme` with the parts between the marks replaced by what the stored numbers say."""
    for name, write in (("prose", prose), ("claims", table)):
        begin, end = f"<!-- {name}: generated, see claims.py -->", f"<!-- end of {name} -->"
        if begin in readme and end in readme:
            head, _, rest = readme.partition(begin)
            readme = f"{head}{begin}\n{write(results)}\n{end}{rest.partition(end)[2]}"
    return readme


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pitprop.cases.model_merging.claims", description="The claims of seed 4, judged."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", action="store_true", help="measure anew and store the numbers")
    what.add_argument("--write", action="store_true", help="write prose and table into README.md")
    what.add_argument("--check", action="store_true", help="exit 1 when README.md differs from the stored numbers")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=recipe.steps)
    options = parser.parse_args(arguments)
    if options.run:
        import torch

        torch.set_num_threads(1)
        command = (
            "python",
            "-m",
            "pitprop.cases.model_merging.claims",
            "--run",
            "--seeds",
            str(options.seeds),
            "--steps",
            str(options.steps),
        )
        with tempfile.TemporaryDirectory() as folder:
            store(
                run_claims(
                    Path(folder),
                    seeds=options.seeds,
                    steps=options.steps,
                    progress=lambda now: print(f"{now.done}/{now.total} {now.stage}", file=sys.stderr),
                    command=command,
                )
            )
        print(f"stored in {STORED}; now --write")
        return 0
    readme = README.read_text()
    wanted = generated(readme, load_results())
    if options.write:
        README.write_text(wanted)
        return 0
    if wanted != readme:
        print("README.md differs from the stored numbers; run --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
