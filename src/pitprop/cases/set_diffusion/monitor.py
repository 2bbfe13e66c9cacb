"""The numbers that the seed asks to be monitored, as a trace: for `pitprop report`, `detect` and the trackers."""

from pathlib import Path

from pitprop.cases.set_diffusion.arms import EVERY
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.records import RUN
from pitprop.trace import Writer, provenance
from pitprop.watch.histogram import NAME

OF_THE_RUN = ("loss", "condition_gap", "context", "context_norm", "context_std", "between_set_std", "replica_spread")
PARTS = ("encoder", "dit")


def write(run: Run, number: int, folder: Path, *, name: str, seed: int) -> Path:
    """Writes what was logged of one seed at every step, and what was measured, with the histograms, at every look.

    Args:
        run: A trained arm.
        number: Which of its seeds, by position.
        folder: Of the trace; an older one is replaced.
        name: The arm's.
        seed: The seed itself.
    """
    info = provenance.collect(name, config={"arm": name}, seed=seed)
    with Writer(folder, info, exist="replace") as writer:
        for step in range(run.logged["loss"].shape[1]):
            row = {key: {RUN: float(run.logged[key][number, step])} for key in OF_THE_RUN}
            norms = {part: float(run.logged[f"{part}_gradient_norm"][number, step]) for part in PARTS}
            if step % EVERY == 0:  # before the step
                row |= {key: {RUN: float(curve[number, step // EVERY])} for key, curve in run.measured.items()}
            writer.append(step, {**row, "gradient_norm": norms})
            if step % EVERY == 0:
                for part in PARTS:
                    writer.append_array(step, part, NAME, run.logged[f"{part}_{NAME}"][number, step])
    return folder
