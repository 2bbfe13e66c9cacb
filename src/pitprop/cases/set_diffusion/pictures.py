"""Four pictures: new images of classes never trained on; and by step the encoder's gradient, the context's use, and how
far the replicas are apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pitprop.cases.set_diffusion.arms import EVERY
from pitprop.cases.set_diffusion.data import NOVEL_CLASSES
from pitprop.cases.set_diffusion.experiment import Run
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.metrics import evaluation_sets
from pitprop.cases.set_diffusion.recipe import recipe

FILES = ("generated_sets.png", "encoder_gradient.png", "context_use.png", "replica_spread.png")
COLOURS = ("#c0392b", "#1e8449", "#2471a3")
SHOWN = 5


def draw(runs: Mapping[str, Run], generated: Mapping[str, np.ndarray], folder: Path) -> list[Path]:
    """Writes the pictures; returns their paths.

    Args:
        runs: Up to three trained arms.
        generated: New images for the novel evaluation sets, of each arm's first seed.
        folder: Where they go.
    """
    figures = (_sets(generated), _gradient(runs), _use(runs), _spread(runs))
    paths = [folder / name for name in FILES]
    for figure, path in zip(figures, paths, strict=True):
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=110)
    return paths


def _sets(generated: Mapping[str, np.ndarray]) -> Figure:
    """Rows: classes. Column groups: the set itself, then what each arm draws for its images, from the same noise."""
    groups = {"a set": evaluation_sets(Knobs())[1], **generated}
    figure = Figure(figsize=(0.55 * SHOWN * len(groups) + 0.5, 2.5), layout="constrained")
    figure.supxlabel("all arms draw from the same noise: what differs between them is the model's doing", fontsize=8)
    parts: Any = figure.subfigures(1, len(groups), wspace=0.06)
    for part, (subfigure, (name, images)) in enumerate(zip(parts, groups.items(), strict=True)):
        subfigure.suptitle(name, fontsize=9)
        axes = subfigure.subplots(len(NOVEL_CLASSES), SHOWN)
        for row, k in enumerate(NOVEL_CLASSES):
            for column in range(SHOWN):
                axes[row, column].imshow(images[row, column, 0], cmap="gray_r", vmin=-1, vmax=1)
                axes[row, column].set(xticks=[], yticks=[])
            if part == 0:
                axes[row, 0].set_ylabel(str(k), rotation=0, labelpad=8, va="center")
    return figure


def _gradient(runs: Mapping[str, Run]) -> Figure:
    figure, axis = _one("step + 1", "norm of the encoder's gradient")
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        norms = run.logged["encoder_gradient_norm"]
        for number, row in enumerate(norms):
            # A norm of zero can't lie on a logarithmic axis: the line begins where there is a gradient.
            steps = np.arange(1, len(row) + 1)
            axis.plot(steps, np.where(row > 0, row, np.nan), color=colour, lw=0.8, alpha=0.7,
                      label=f"{name}: {int((row == 0).sum())} steps at exactly 0" if number == 0 else None)  # fmt: skip
    axis.set(xscale="log", yscale="log")
    axis.legend(fontsize=8, frameon=False)
    return figure


def _use(runs: Mapping[str, Run]) -> Figure:
    figure, axis = _one("step", "context use on held-out images")
    axis.axhspan(-recipe.margin, recipe.margin, color="#dddddd", lw=0, label="margin: not used")
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        for number, row in enumerate(run.measured["context_use"]):
            axis.plot(np.arange(len(row)) * EVERY, row, color=colour, lw=1.2, label=name if number == 0 else None)
    axis.legend(fontsize=8, frameon=False)
    return figure


def _spread(runs: Mapping[str, Run]) -> Figure:
    figure, axis = _one("step", "replicas' distance to their mean")
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        for number, row in enumerate(run.logged["replica_spread"]):
            axis.plot(row, color=colour, lw=1.2, label=name if number == 0 else None)
    axis.legend(fontsize=8, frameon=False)
    return figure


def _one(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.set(xlabel=x, ylabel=y)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis
