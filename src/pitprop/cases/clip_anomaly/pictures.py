"""Three pictures: image, mask and anomaly maps per variant and loop; the gradient ratio per variant with intervals; and
how loud the branch is against the stream, block by block.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pitprop.cases.clip_anomaly.arms import BASE, Arm
from pitprop.cases.clip_anomaly.cross_attention import VARIANTS
from pitprop.cases.clip_anomaly.experiment import Settings, models
from pitprop.cases.clip_anomaly.judges import AFTER, BEFORE
from pitprop.cases.clip_anomaly.metrics import detect
from pitprop.cases.clip_anomaly.model import AdaptedCLIP
from pitprop.cases.clip_anomaly.sample import take
from pitprop.cases.clip_anomaly.stages import images, train

FILES = ("anomaly_maps.png", "gradient_ratio_ladder.png", "branch_to_stream.png")
SHOWN, LOOPS = 4, 3
"""Held-out defects and feedback loops in the picture."""
NORM = 50.0
"""Context norm of the anomaly maps."""


def draw(results: Mapping[str, Any], settings: Settings, folder: Path) -> list[Path]:
    """Writes the three pictures; returns their paths."""
    paths = [folder / name for name in FILES]
    for path, figure in zip(
        paths, (_maps(settings), _ladder(results["gradients"]), _norms(results["arms"], settings)), strict=True
    ):
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=110)
    return paths


def _maps(settings: Settings) -> Figure:
    """Rows: held-out defects. Columns: image, mask, and for the base, A and C the map after loop 1 and loop 3."""
    held_out = images(settings.data)[1]
    chosen = take(held_out, held_out.label.nonzero()[:SHOWN, 0])
    columns: list[tuple[str, torch.Tensor]] = [("image", chosen.image[:, 0]), ("mask", chosen.mask)]
    one = replace(settings, seeds=settings.seeds[:1])
    for name in (BASE, "A", "C"):
        (model,) = models(Arm(injection=VARIANTS[name], context_norm=NORM), one)  # type: ignore[index]

        def look(loop: int, model: AdaptedCLIP = model, name: str = name) -> None:
            if loop in (1, LOOPS):
                columns.append((f"{name}, loop {loop}", detect(model, chosen).maps))

        schedule = replace(settings.schedule, num_feedback_loops=LOOPS)
        train(schedule, [model], images(settings.data)[0], one.seeds, after_loop=look)
    figure = Figure(figsize=(1.5 * len(columns), 1.5 * SHOWN + 0.4), layout="constrained")
    axes = figure.subplots(SHOWN, len(columns))
    for column, (title, pictures) in enumerate(columns):
        axes[0, column].set_title(title, fontsize=9)
        for row, picture in enumerate(pictures):
            axes[row, column].imshow(picture.numpy(), cmap="gray" if column < 2 else "magma")
            axes[row, column].set_axis_off()
    return figure


def _ladder(gradients: Mapping[str, Any]) -> Figure:
    """Gradient at the adapter with over without the cross-attention, each batch and the interval; the seed's two."""
    figure = Figure(figsize=(7.5, 0.9 + 0.28 * (len(gradients) + 2)), layout="constrained")
    axis = figure.subplots()
    names = [*gradients, "seed, before its fix (one batch)", "seed, after (one batch)"]
    for row, found in enumerate(gradients.values()):
        single = [a / b for a, b in zip(found["with"], found["without"], strict=True)]
        axis.plot(single, [row] * len(single), "o", color="#2471a3", alpha=0.25, markersize=3, markeredgewidth=0)
        mean, low, high = found["ratio"]
        axis.plot([low, high], [row, row], color="#2471a3", linewidth=2.5)
        axis.plot(mean, row, "o", color="#2471a3", markersize=5)
    for row, (without, with_) in enumerate((BEFORE, AFTER), start=len(gradients)):
        axis.plot(with_ / without, row, "D", color="#c0392b", markersize=5)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.axvline(0.8, color="grey", linestyle=":", linewidth=1)
    axis.set_xscale("log")
    axis.set_xlabel(
        "gradient at the image adapter,\nwith over without cross-attention (dotted: the seed's OK)", fontsize=9
    )
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


@torch.no_grad()
def _norms(arms: Mapping[str, Any], settings: Settings) -> Figure:
    """Left: norm of the stream after each block relative to the base's. Right: branch over stream, start and end."""
    held_out = images(settings.data)[1]
    one = replace(settings, seeds=settings.seeds[:1])
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = {name: arm for name in VARIANTS if (arm := VARIANTS[name]) is not None}
    (bare,) = models(Arm(injection=None), one)
    reference = _by_block(bare, held_out)
    alike: dict[tuple[float, ...], list[str]] = {}  # B, E and layer_scale start as one
    for name, injection in shown.items():
        (model,) = models(Arm(injection=injection, context_norm=NORM), one)
        lengths = [b / r for b, r in zip(_by_block(model, held_out), reference, strict=True)]
        alike.setdefault(tuple(round(length, 1) for length in lengths), []).append(name)
    for lengths, names in alike.items():
        left.plot(lengths, marker="o", label=", ".join(names))
    left.set(yscale="log", title="stream, before training, over the base's", xlabel="block")
    left.set_xticks(range(len(reference)))
    left.legend(fontsize=8)
    rows = [name for name in arms if "raw_norm" in arms[name] and name.partition(",")[0] in shown]
    for row, name in enumerate(rows):
        raw = arms[name]["raw_norm"]
        for seed in zip(raw["first"], raw["last"], strict=True):
            right.plot(seed, (row, row), "-", color="#7d3c98", linewidth=0.8)
            right.plot(seed[1], row, "o", color="#7d3c98", markersize=4)
        right.plot(arms[name]["last"]["branch_ratio"], [row + 0.2] * len(raw["last"]), "|", color="#c0392b")
    right.set_yticks(range(len(rows)), rows, fontsize=8)
    right.set_xscale("symlog", linthresh=0.01)
    longest = max((value for name in rows for end in arms[name]["raw_norm"].values() for value in end), default=1.0)
    right.set_xlim(0, 3 * longest)
    right.set_title("branch over stream:\nraw, start to end (violet); as added (red)", fontsize=9)
    right.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _by_block(model: AdaptedCLIP, held_out) -> list[float]:
    """Mean token norm of the image stream after each block, cross-attention and adapter included."""
    norms: list[float] = []
    blocks = list(model.clip.visual.blocks)[1:]  # type: ignore[union-attr,arg-type]
    hooks = [
        block.register_forward_pre_hook(lambda _, args: norms.append(float(args[0].norm(dim=-1).mean())))
        for block in blocks
    ]
    hooks.append(blocks[-1].register_forward_hook(lambda _, args, out: norms.append(float(out.norm(dim=-1).mean()))))
    try:
        model(held_out)
    finally:
        for hook in hooks:
            hook.remove()
    return norms
