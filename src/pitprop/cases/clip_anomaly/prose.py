"""What the README says of the numbers in words: a text whose every number comes from the stored results."""

import numpy as np

from pitprop.cases._claims import Results
from pitprop.cases.clip_anomaly.arms import BASE, NORMS, at
from pitprop.cases.clip_anomaly.judges import HIGH, effect, last, numbers, ratio, show
from pitprop.cases.clip_anomaly.recipe import recipe

TEXT = """
Pixel AUROC after stage 2 from the loaded base, mean over {seeds} seeds with 95 % intervals, and the effect against the
base trained on without cross-attention (margin {margin:g}):

| variant | context norm | pixel AUROC | effect | evaluated without cross-attention | branch over stream |
|---|---|---|---|---|---|
{rows}

The loaded base itself, untouched: {loaded:.3f}.

* **The gradient ratio points nowhere.** At the adapter, with over without the cross-attention: {ratio_1} in variant A
  at context norm 1 and {ratio_50} at {high:g}. The seed calls everything over 0.8 in order.
* **Adam doesn't see it.** With the adapters' gradients times 0.3748 the effect is {rescaled}.
* **What breaks is the forward pass.** In variant A at context norm {high:g} the loss is {broken:.2f} at the first step,
  where the base has {base:.2f}: a random vector overwrites the stream that frozen blocks and trained adapters read.
* **The original's test script evaluates without the cross-attention** that was trained; the table has both.
"""


def prose(results: Results) -> str:
    """The text with its numbers."""
    arms = results["arms"]
    names = [BASE, *(at(name, norm) for norm in NORMS for name in ("A", "B", "C"))]
    names += [at(name, HIGH) for name in ("D", "E", "layer_scale")]
    return TEXT.format(
        seeds=len(last(results, BASE)),
        margin=recipe.margin,
        rows="\n".join(_row(results, name) for name in names),
        loaded=results["references"]["loaded base"][recipe.metric],
        ratio_1=ratio(results, at("A", 1.0)),
        ratio_50=ratio(results, at("A", HIGH)),
        high=HIGH,
        rescaled=effect(results, "adapter gradients x0.375"),
        broken=np.mean(numbers(arms[at("A", HIGH)]["loss_first"])),
        base=np.mean(numbers(arms[BASE]["loss_first"])),
    )


def _row(results: Results, name: str) -> str:
    variant, _, norm = name.partition(", context x")
    cells = (
        variant,
        norm or "-",
        show(last(results, name)),
        "-" if name == BASE else effect(results, name),
        show(last(results, name, "pixel_auroc_without")),
        f"{np.mean(last(results, name, 'branch_ratio')):.2g}",
    )
    return f"| {' | '.join(cells)} |"
