"""`pitprop case model_merging`: the collapse, the seed's experiment with its pictures, and, where asked for, every
claim.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pitprop.cases.model_merging.claims import CLAIMS, table
from pitprop.cases.model_merging.experiment import RESULTS, Settings, final, plain, run_experiment
from pitprop.cases.model_merging.measurements import condense
from pitprop.cases.model_merging.pictures import FILES
from pitprop.trials.progress import OnProgress

SEEDS, CLAIM_SEEDS = 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What the command line prints of a case."""

    title: str
    rows: tuple[tuple[str, str], ...]
    """What was measured, and the value, in the order to print them."""
    files: tuple[Path, ...]
    """What was written."""


def run(
    folder: Path, *, claims: bool = False, progress: OnProgress | None = None, settings: Settings | None = None
) -> CaseResult:
    """Runs the experiment into `folder`.

    Args:
        folder: Made where it doesn't exist; files of the same names are replaced.
        claims: Also run the control arms, on 5 seeds, and judge every claim from this run's own numbers (`claims.json`,
            `claims.md`).
        progress: Told before and after each run.
        settings: Size; by default 2 seeds, or 5 with controls for the claims.
    """
    if settings is None:
        settings = (
            Settings(seeds=tuple(range(CLAIM_SEEDS)), controls=True) if claims else Settings(seeds=tuple(range(SEEDS)))
        )
    results = run_experiment(folder, settings, progress)
    rows = [(name, _line(by_seed)) for name, by_seed in results["arms"].items()]
    rows += [
        (f"reference: {name}", f"spread {values['output_spread']:.3f}, accuracy {values['merged_accuracy']:.3f}")
        for name, values in results["references"].items()
    ]
    files = [folder / RESULTS, *(folder / name for name in FILES)]
    files += [folder / f"collapsed_seed{seed}.safetensors" for seed in settings.seeds]
    if claims:
        condensed = condense(results, ("pitprop", "case", "model_merging", "--claims"))
        (folder / "claims.json").write_text(json.dumps(plain(condensed), indent=1, allow_nan=False) + "\n")
        (folder / "claims.md").write_text(table(plain(condensed)) + "\n")
        files += [folder / "claims.json", folder / "claims.md"]
        rows += [(f"{claim.name} {claim.statement}", claim.judge(plain(condensed)).verdict) for claim in CLAIMS]
    return CaseResult(title="model_merging: what the merged CNNs do", rows=tuple(rows), files=tuple(files))


def _line(by_seed) -> str:
    def mean(metric: str) -> float:
        values = final(by_seed, metric)
        return sum(values) / len(values)

    return (
        f"spread {mean('output_spread'):.3f}, distinct {mean('output_uniqueness'):.2f}, accuracy "
        f"{mean('merged_accuracy'):.3f}, "
        f"entropy {mean('attention_entropy'):.2f}"
    )
