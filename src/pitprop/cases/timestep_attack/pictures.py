"""The pictures: images and their changes, the weights' way over the images with the alarm, and the losses."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pitprop.cases.timestep_attack import data
from pitprop.cases.timestep_attack.streams import StreamResult

GRID, TRAJECTORIES, LOSSES = "adversarial_grid.png", "weight_trajectories.png", "timestep_losses.png"
FILES = (GRID, TRAJECTORIES, LOSSES)
COLOURS = ("#4c2a85", "#2471a3", "#1e8449", "#d68910", "#c0392b")
NUM_SHOWN = 8
_ALARM = {"color": "black", "linestyle": "--"}
SPOKEN: dict[str, tuple[dict[str, Any], str]] = {
    "warning": (_ALARM, "warning: on the way to one timestep"),
    "failure": (_ALARM, "failure: arrived at one timestep"),
    "note": ({"color": "grey", "linestyle": ":"}, "note: nothing moves them"),
}
"""How the first thing that the rule says is marked."""


def draw(results: dict[str, Any], ran: dict[str, StreamResult], chosen: data.Images, folder: Path) -> list[Path]:
    """Writes the pictures; returns their paths."""
    shown = "learnable" if "learnable" in ran else next(iter(ran))
    figures = (_grid(ran[shown], chosen), _trajectories(results), _losses(results))
    paths = [folder / name for name in FILES]
    for figure, path in zip(figures, paths, strict=True):
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=110)
    return paths


def _grid(ran: StreamResult, chosen: data.Images) -> Figure:
    count = min(NUM_SHOWN, len(chosen.labels))
    figure = Figure(figsize=(1.1 * count + 1, 3.9), layout="constrained")
    axes = figure.subplots(3, count, squeeze=False)
    change = ran.adversarial - chosen.images
    rows = (("original", chosen.images), ("adversarial", ran.adversarial), ("difference", change))
    for row, (name, images) in enumerate(rows):
        for column in range(count):
            axis, pixels = axes[row, column], images[column]
            if row == 2 and pixels.shape[0] == 1:
                axis.imshow(pixels[0].numpy(), cmap="RdBu", vmin=-1, vmax=1)
            else:
                shown = ((pixels + 1) / 2).clamp(0, 1).permute(1, 2, 0)
                axis.imshow(shown.expand(-1, -1, 3).numpy())
            axis.set(xticks=[], yticks=[])
            if row == 1 and ran.metrics["success"][column]:
                axis.spines[:].set(color=COLOURS[-1], linewidth=2.5)
        axes[row, 0].set_ylabel(name)
    figure.suptitle(f"{ran.stream.mode}: a red frame marks what the surrogate no longer recognises", fontsize=10)
    return figure


def _trajectories(results: dict[str, Any]) -> Figure:
    named = {name: stream for name, stream in results["streams"].items() if "[" not in name}
    columns = min(4, len(named))
    rows = -(-len(named) // columns)
    figure = Figure(figsize=(3 * columns, 2.4 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
    each = results["settings"]["attack"]["iterations"]
    for axis in axes.flat[len(named) :]:
        axis.set_visible(False)
    for axis, (name, stream) in zip(axes.flat, named.items(), strict=False):
        weights = np.array(stream["weights"])
        for timestep, colour in zip(range(weights.shape[1]), COLOURS, strict=True):
            axis.plot(weights[:, timestep], color=colour, label=f"timestep {timestep}")
        if (severity := stream["detection"]["severity"]) is not None:
            style, words = SPOKEN[severity]
            axis.axvline(stream["detection"]["alarm"] / each, **style, label=words)
        axis.set(title=name, ylim=(-0.03, 1.03))
        axis.title.set_fontsize(9)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("weight")
    for axis in axes.flat[max(0, len(named) - columns) : len(named)]:  # the lowest of each column
        axis.set_xlabel("image")
        axis.tick_params(labelbottom=True)
    figure.legend(*_all_labels(axes), loc="outside lower center", ncols=2 * columns - 1, fontsize=8, frameon=False)
    return figure


def _all_labels(axes: np.ndarray) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _losses(results: dict[str, Any]) -> Figure:
    stream = next(iter(results["streams"].values()))
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    growth, share = figure.subplots(1, 2)
    by_iteration = np.array(stream["losses_by_iteration"])
    for timestep, colour in zip(range(by_iteration.shape[1]), COLOURS, strict=True):
        growth.plot(by_iteration[:, timestep], color=colour, label=f"timestep {timestep}")
    growth.set(title="self-attention loss, mean over images", xlabel="iteration")
    growth.legend(fontsize=8, frameon=False)
    losses = np.array(stream["losses"])
    share.bar(range(len(losses)), losses / losses.sum(), color=COLOURS)
    share.set(title="share of the timesteps", xlabel="timestep (0 is the noisiest)")
    for axis in (growth, share):
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure
