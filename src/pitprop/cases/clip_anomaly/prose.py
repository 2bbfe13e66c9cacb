"""What the README says of the numbers in words: a text whose every number comes from the stored results."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from pitprop.cases._claims import Results
from pitprop.cases.clip_anomaly.arms import BASE, FROZEN, NORMS, SCALES, at, scale_arm
from pitprop.cases.clip_anomaly.judges import HIGH, change, effect, gain, last, level, numbers, ratio, split
from pitprop.cases.clip_anomaly.learning import Pace, pace
from pitprop.cases.clip_anomaly.recipe import recipe

TEXT = """
### From the finished base: what does harm

Pixel AUROC after {steps} steps of stage 2, mean over {seeds} seeds with their range, and the effect against the base
trained on without cross-attention (paired by seed, 95 % interval, margin {margin:g}):

{finished}

The loaded base itself, untouched, has {loaded:.3f}: {untouched} against training on. **It has nothing left to gain in
these steps, so "no difference" here says that a variant does no harm, and nothing of learning.**

What breaks is the forward pass. In variant A at context norm {high:g} the loss is {broken} at the first step, where the
base has {base}: a random vector overwrites the stream that frozen blocks and trained adapters read. The original's
test script evaluates without the cross-attention that was trained; the table has both.

Effect by scale of the branch (`image_cross_attn_weight`, no norm matching) and context norm:

{scales}

### From the early base: what learns, and what stalls

The base broken off after {early_steps} of its {base_steps} steps (pixel AUROC {early:.3f}), then {more_steps} steps
of stage 2. Each arm is held against *adapters frozen*, in which nothing moves, and against the control, *none*, which
trains the adapters without cross-attention:

{learning}

*learns*: better than frozen, not worse than the control. *slow*: better than frozen, worse than the control. *stalls*:
no difference from frozen. *falls below*: worse than frozen. "Cross-attention frozen": the branch stays random.

* Of the arms with cross-attention, {stalled}. **The seed's order (A stalls, B learns in part, C learns) is not what
  happens here**: C learns, and A does too, A's end less C's being {a_less_c}.
* What the branch adds is its own training: left random it is at {a_random} (A) and {c_random} (C) against the control.
* **Evaluated without the cross-attention, as the original's test script does, the same A looks as if it had learned
  nothing**: {a_without} over frozen adapters; C {c_without}.
* Gradients times 0.3748 or the loss times 10 change nothing: Adam divides by their size.

### From the finished base, four times as long

{longer_steps} steps from a finished base (pixel AUROC {longer_loaded:.3f}, another than above):

{longer}

So A doesn't stall: it climbs by {climbed} from where its random branch puts it. After {longer_steps} steps it is still
at {behind} against the control. A finished base has much to lose to the branch, the early one little.

### The gradient ratio points nowhere

Gradient norm at the adapter, {batches} batches, same weights and batches with and without the cross-attention. The seed
calls a ratio over 0.8 in order. The adapter lies behind the addition, so the ratio is how much longer the branch makes
its input, times all the rest (the loss, and how blocks and normalisation behind answer):

{gradients}

A's ratios at context norm 1 and {high:g} are nearly one number, {ratio_low} and {ratio_high}, made of
{split_low} and of {split_high}.
"""


WITHOUT = "pixel_auroc_without"


def prose(results: Results) -> str:
    """The text with its numbers."""
    arms, learning, longer = results["arms"], results["learning"], results["longer"]
    low, high = at("A", NORMS[0]), at("A", HIGH)
    loaded = results["references"]["loaded base"][recipe.metric]
    trained = learning["provenance"]["settings"]
    return TEXT.format(
        steps=results["provenance"]["settings"]["schedule"]["image_steps"],
        seeds=len(last(results, BASE)),
        margin=recipe.margin,
        finished=_finished(results),
        loaded=loaded,
        untouched=change(loaded - last(results, BASE), ".3f"),
        high=HIGH,
        broken=level(arms[high]["loss_first"]),
        base=level(arms[BASE]["loss_first"]),
        scales=_scales(results),
        early_steps=trained["data"]["base"]["image_steps"],
        base_steps=results["provenance"]["settings"]["data"]["base"]["image_steps"],
        early=learning["references"]["loaded base"][recipe.metric],
        more_steps=trained["schedule"]["image_steps"],
        learning=_learning(learning),
        stalled=_stalled(learning),
        a_less_c=change(last(learning, high) - last(learning, at("C", HIGH)), ".3f"),
        a_random=effect(learning, at("A, cross-attention frozen", HIGH)),
        c_random=effect(learning, at("C, cross-attention frozen", HIGH)),
        a_without=change(last(learning, high, WITHOUT) - last(learning, FROZEN), ".3f"),
        c_without=change(last(learning, at("C", HIGH), WITHOUT) - last(learning, FROZEN), ".3f"),
        longer_steps=longer["provenance"]["settings"]["schedule"]["image_steps"],
        longer_loaded=longer["references"]["loaded base"][recipe.metric],
        longer=_longer(longer),
        climbed=change(last(longer, high) - numbers(longer["arms"][high]["first"][recipe.metric]), ".3f"),
        behind=effect(longer, high),
        batches=len(results["gradients"][low]["with"]),
        gradients=_gradients(results),
        ratio_low=ratio(results, low),
        ratio_high=ratio(results, high),
        split_low=split(results, low),
        split_high=split(results, high),
    )


def _finished(results: Results) -> str:
    names = [BASE, *(at(name, norm) for norm in NORMS for name in ("A", "B", "C"))]
    names += [at(name, HIGH) for name in ("D", "E", "layer_scale")]
    heads = ("variant", "context norm", "pixel AUROC", "effect", "without cross-attention", "branch over stream")
    return _table(
        heads,
        (
            (
                *_named(name),
                level(last(results, name), ".3f"),
                "-" if name == BASE else effect(results, name),
                level(last(results, name, WITHOUT), ".3f"),
                f"{np.mean(last(results, name, 'branch_ratio')):.2g}",
            )
            for name in names
        ),
    )


def _scales(results: Results) -> str:
    heads = ("scale", *(f"context x{norm:g}" for norm in NORMS))
    return _table(
        heads, ((f"{scale:g}", *(effect(results, scale_arm(scale, norm)) for norm in NORMS)) for scale in SCALES)
    )


def _learning(learning: Results) -> str:
    def row(name: str) -> Iterable[str]:
        return (
            *_named(name),
            level(learning["arms"][name]["first"][recipe.metric], ".3f"),
            level(last(learning, name), ".3f"),
            level(last(learning, name, WITHOUT), ".3f"),
            "-" if name == FROZEN else gain(learning, name),
            "-" if name == BASE else effect(learning, name),
            {BASE: "the control", FROZEN: "-"}.get(name) or f"**{pace(learning, name)}**",
        )

    heads = (
        "variant",
        "context norm",
        "start",
        "end",
        "end, without cross-attention",
        "over frozen",
        "against the control",
        "so it",
    )
    names = sorted(learning["arms"], key=lambda name: (name != BASE, name != FROZEN, name))
    return _table(heads, (row(name) for name in names if not name.startswith("loops: ")))


def _stalled(learning: Results) -> str:
    """Which arms with cross-attention did what beside learning."""
    names = [name for name in learning["arms"] if ", context x" in name and not name.startswith("loops: ")]
    counts = Counter(pace(learning, name) for name in names)
    words: dict[Pace, str] = {
        "stalls": "stall",
        "falls below": "fall below frozen adapters",
        "slow": "are slow",
        "learns": "learn",
        "open": "stay open",
    }
    return ", ".join(f"{counts[key]} {word}" for key, word in words.items())


def _longer(longer: Results) -> str:
    def row(name: str, arm: Results) -> Iterable[str]:
        first, end = (numbers(arm[when][recipe.metric]) for when in ("first", "last"))
        return (
            *_named(name),
            level(first, ".3f"),
            level(end, ".3f"),
            change(end - first, ".3f"),
            "-" if name == BASE else effect(longer, name),
        )

    heads = ("variant", "context norm", "start", "end", "end less start", "against the control")
    return _table(heads, (row(name, arm) for name, arm in longer["arms"].items()))


def _gradients(results: Results) -> str:
    def row(name: str) -> Iterable[str]:
        found = results["gradients"][name]
        growth, rest = (found["factors"][key] for key in ("input growth", "rest"))
        return (
            *_named(name),
            level(found["without"]),
            level(found["with"]),
            ratio(results, name),
            *(f"{mean:.3g} [{low:.3g}, {high:.3g}]" for mean, low, high in (growth, rest)),
        )

    heads = ("variant", "context norm", "without", "with", "ratio", "= input growth", "x rest")
    return _table(heads, (row(at(name, norm)) for norm in NORMS for name in ("A", "B", "C")))


def _named(name: str) -> tuple[str, str]:
    variant, _, norm = name.partition(", context x")
    return variant, norm or "-"


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
