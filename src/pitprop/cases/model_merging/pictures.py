"""The four pictures that the seed names, drawn from the experiment's results with every seed and the interval of the
mean.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pitprop.cases.model_merging.monitor import CRITICAL, WARNING
from pitprop.trials.interval import interval

COLOURS = {"ungated": "#c0392b", "pooled gate": "#2471a3", "elementwise gate": "#1e8449", "headwise gate": "#7d3c98"}
FILES = (
    "attention_entropy_comparison.png",
    "weight_uniqueness_analysis.png",
    "gated_vs_ungated_comparison.png",
    "gradient_norm_stability.png",
)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the four pictures; returns their paths."""
    paths = [folder / name for name in FILES]
    for path, make in zip(paths, (_entropy, _uniqueness, _comparison, _gradients), strict=True):
        figure = make(results["arms"], results)
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=110)
    return paths


def _figure(columns: int, width: float = 4.6, height: float = 3.8) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _lines(axis: Any, by_seed: dict[str, Any], metric: str, name: str) -> None:
    """Each seed thin, the mean thick."""
    steps = [row["step"] for row in next(iter(by_seed.values()))["history"]]
    values = np.array([[row[metric] for row in result["history"]] for result in by_seed.values()])
    colour = COLOURS.get(name)
    axis.plot(steps, values.T, color=colour, alpha=0.3, linewidth=0.8)
    axis.plot(steps, values.mean(0), color=colour, linewidth=2, label=name)


def _entropy(arms: dict[str, Any], results: dict[str, Any]) -> Figure:
    figure, (left, right) = _figure(2)
    for name in COLOURS:
        _lines(left, arms[name], "attention_entropy", name)
        _lines(right, arms[name], "output_spread", name)
    left.axhline(1.0, color="black", linewidth=0.8)
    left.text(0, 1.005, "uniform (1/50 each)", va="bottom", fontsize=8)
    for level, word in ((WARNING, "seed: 'warning' below"), (CRITICAL, "seed: 'critical (uniform)' below")):
        left.axhline(level, color="grey", linestyle=":", linewidth=1)
        left.text(0, level, word, va="bottom", fontsize=8, color="grey")
    left.set(title="attention entropy", xlabel="step", ylabel="entropy / ln 50", ylim=(0, 1.08))
    right.set(title="output spread", xlabel="step", ylabel="distance between outputs / targets")
    left.legend(fontsize=8, loc="lower right")
    return figure


def _uniqueness(arms: dict[str, Any], results: dict[str, Any]) -> Figure:
    figure, (left, right) = _figure(2)
    for name in COLOURS:
        _lines(left, arms[name], "output_uniqueness", name)
        _lines(right, arms[name], "within_vector_uniqueness", name)
    left.set(title="distinct merged CNNs among 64", xlabel="step", ylabel="share", ylim=(0, 1.05))
    right.set(title="distinct values inside one vector", xlabel="step", ylabel="share", ylim=(0, 1.05))
    left.legend(fontsize=8)
    return figure


def _comparison(arms: dict[str, Any], results: dict[str, Any]) -> Figure:
    names = list(arms)
    figure, axes = _figure(2, width=6.0, height=0.8 + 0.3 * len(names))
    titles = (
        ("output_spread", "output spread, all seeds and 95 % interval"),
        ("merged_accuracy", "accuracy of the merged CNN"),
    )
    for axis, (metric, title) in zip(axes, titles, strict=True):
        for row, name in enumerate(names):
            values = np.array([result["history"][-1][metric] for result in arms[name].values()])
            axis.plot(
                values, np.full(len(values), row), "o", color=COLOURS.get(name, "#555555"), markersize=4, alpha=0.7
            )
            if len(values) > 2:  # two seeds give an interval as wide as the picture
                effect = interval(values)
                axis.plot([effect.low, effect.high], [row, row], color=COLOURS.get(name, "#555555"), linewidth=2)
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names), fontsize=8)
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10)
    for (name, values), style in zip(results["references"].items(), (":", "--", "-"), strict=True):
        axes[1].axvline(
            values["merged_accuracy"], color="black", linestyle=style, linewidth=0.9, label=f"{name} (no transformer)"
        )
    axes[1].set_xlim(0, 1.02)
    axes[1].legend(fontsize=7, loc="lower left")
    return figure


def _gradients(arms: dict[str, Any], results: dict[str, Any]) -> Figure:
    figure, (left, right) = _figure(2)
    for name in ("ungated", "pooled gate", "elementwise gate", "gradient stabiliser"):
        for axis, key in ((left, "gradient_norm"), (right, "encoder_gradient_norm")):
            values = np.array([result[key] for result in arms[name].values()])
            values = np.where(values > 0, values, np.nan)  # an exact zero has no place on a log axis
            colour = COLOURS.get(name, "#b7950b")
            axis.plot(values.T, color=colour, alpha=0.3, linewidth=0.8)
            axis.plot(np.median(values, axis=0), color=colour, linewidth=2, label=name)
            axis.set_yscale("log")
    left.set(title="gradient norm, whole model", xlabel="step")
    right.set(title="gradient norm, encoder (gap: exactly 0)", xlabel="step")
    left.legend(fontsize=8)
    return figure
