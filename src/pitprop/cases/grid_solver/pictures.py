"""The pictures: what the solver says over training, in ARC's colours; accuracies; class marginals; a bisection."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from pitprop.cases.grid_solver.canvas import Batch

ARC = ("#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25")
"""Colours 0 to 9 as ARC's own viewer shows them; what lies outside of a grid is white."""
COLOURS = ListedColormap([*ARC, "#ffffff"])
SCALE = BoundaryNorm(np.arange(-0.5, 11.5), COLOURS.N)
LINES = {"old": "#1e8449", "new": "#c0392b", "option_a": "#2471a3", "option_b": "#7d3c98", "option_c": "#b7950b"}
OUTSIDE = 10


def draw(results: Mapping[str, Any], prior: Sequence[float], batch: Batch, folder: Path) -> list[Path]:
    """Writes `grids_NAME.png` of each configuration's first seed, `accuracy.png` and `marginals.png`."""
    figures = {f"grids_{name}.png": _grids(next(iter(by_seed.values())), batch) for name, by_seed in results.items()}
    figures |= {"accuracy.png": _accuracy(results), "marginals.png": _marginals(results, prior)}
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        figure.savefig(folder / name, dpi=110)
    return [folder / name for name in figures]


def _grids(result: Mapping[str, Any], batch: Batch) -> Figure:
    """A row per held-out task: its input, what is wanted, and the answers from the first step to the last."""
    said, steps = result["said"], [row["step"] for row in result["history"]]
    num = len(said[0])
    targets = batch.targets[:num].numpy()
    outside = targets < 0
    columns = [
        ("input", batch.inputs[:num].numpy()),
        ("wanted", np.where(outside, OUTSIDE, targets)),
        *((f"step {step}", np.where(outside, OUTSIDE, np.array(one))) for step, one in zip(steps, said, strict=True)),
    ]
    figure = Figure(figsize=(1.25 * len(columns), 1.35 * num), layout="constrained")
    axes = figure.subplots(num, len(columns), squeeze=False)
    for (title, grids), column in zip(columns, axes.T, strict=True):
        column[0].set_title(title, fontsize=9)
        for axis, grid in zip(column, grids, strict=True):
            axis.imshow(grid, cmap=COLOURS, norm=SCALE)
            axis.set(xticks=np.arange(-0.5, grid.shape[1]), yticks=np.arange(-0.5, grid.shape[0]))
            axis.grid(color="#555555", linewidth=0.4)
            axis.tick_params(length=0, labelbottom=False, labelleft=False)
    return figure


def _accuracy(results: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, metric, title in zip(axes, ("fg_accuracy", "bg_accuracy"), ("foreground", "background"), strict=True):
        axis.spines[["top", "right"]].set_visible(False)
        for name, by_seed in results.items():
            for number, one in enumerate(by_seed.values()):
                steps = [row["step"] for row in one["history"]]
                values = [row[metric] for row in one["history"]]
                axis.plot(steps, values, color=LINES[name], alpha=0.8, label=None if number else name)
        axis.set(title=f"{title} cells that are right, held-out tasks", xlabel="step", ylim=(-0.02, 1.02))
    axes[1].legend(fontsize=8, loc="lower right")
    return figure


def _marginals(results: Mapping[str, Any], prior: Sequence[float]) -> Figure:
    """Share of background among the answers, over training, beside its frequency in the training outputs."""
    figure = Figure(figsize=(3.1 * len(results), 3.0), layout="constrained")
    axes = figure.subplots(1, len(results), squeeze=False, sharey=True)[0]
    for axis, (name, by_seed) in zip(axes, results.items(), strict=True):
        history = next(iter(by_seed.values()))["history"]
        steps, shares = [row["step"] for row in history], np.array([row["marginal"] for row in history]).T
        axis.stackplot(steps, shares, colors=ARC)
        axis.axhline(prior[0], color="white", linestyle="--", linewidth=1)
        axis.text(steps[-1], prior[0], "prior of background ", color="white", ha="right", va="bottom", fontsize=7)
        axis.set(title=name, xlabel="step", ylim=(0, 1), xlim=(steps[0], steps[-1]))
    axes[0].set_ylabel("share of each colour")
    return figure


def draw_bisection(found: Mapping[str, Any], path: Path) -> Path:
    """Writes the search of a `bisection.json`: a row per test, the changes made (full), and how many runs collapsed."""
    names, steps = list(found["changes"]), found["steps"]
    guilty = {name for culprit in found["found"]["bringing"] for name in culprit["changes"]}
    figure = Figure(figsize=(2.6 + 0.42 * len(names), 2.2 + 0.3 * len(steps)), layout="constrained")
    axis = figure.subplots()
    for row, step in enumerate(steps):
        made = [name in step["changes"] for name in names]
        bad = step["outcome"] == "collapses"
        for column, (name, on) in enumerate(zip(names, made, strict=True)):
            colour = LINES["new"] if name in guilty else "#555555"
            axis.plot(column, row, "o", markersize=9, color=colour, fillstyle="full" if on else "none")
        axis.text(
            len(names) - 0.3,
            row,
            f"{step['collapsed']} of {step['runs']} collapsed",
            color=LINES["new" if bad else "old"],
            va="center",
            fontsize=9,
        )
    axis.set(xlim=(-0.6, len(names) + 3.2), ylim=(len(steps) - 0.4, -0.6), yticks=[])
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=9)
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)
    return path
