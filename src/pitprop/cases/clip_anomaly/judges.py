"""How each claim is judged: a function of the stored numbers that returns a verdict and the numbers it rests on."""

import math

import numpy as np

from pitprop.cases._claims import Judgement, Results, Word
from pitprop.cases.clip_anomaly.arms import BASE, NORMS, SCALES, at
from pitprop.cases.clip_anomaly.recipe import recipe
from pitprop.trials.interval import interval

BEFORE, AFTER = (1.467525, 0.549976), (0.455933, 0.438084)
"""The seed's gradient norms without and with cross-attention, before and after its fix."""
FINE = ("no difference within margin", "better")
HIGH = 50.0
WEIGHT = 0.1
"""Where the learned scalar starts: the seed's fixed factor."""


def numbers(values) -> np.ndarray:
    """Stored numbers, undefined ones as NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def last(results: Results, arm: str, metric: str = recipe.metric) -> np.ndarray:
    """A metric of an arm at the end, one number per seed."""
    return numbers(results["arms"][arm]["last"][metric])


def show(values) -> str:
    """Mean with its 95 % interval over the seeds."""
    values = numbers(values)
    effect = interval(values)
    return f"{np.mean(values):.3g} [{effect.low:.3g}, {effect.high:.3g}]"


def verdict(results: Results, arm: str) -> str:
    """The verdict of an arm against the base."""
    return next(c["verdict"] for c in results["comparisons"] if c["arm"] == arm)


def effect(results: Results, arm: str) -> str:
    """The effect of an arm against the base, in words."""
    c = next(c for c in results["comparisons"] if c["arm"] == arm)
    return f"{c['effect']:+.3f} [{c['low']:.3f}, {c['high']:.3f}], {c['verdict']}"


def ratio(results: Results, arm: str) -> str:
    """The gradient ratio of an arm, over batches."""
    mean, low, high = numbers(results["gradients"][arm]["ratio"])
    return f"{mean:.2g} [{low:.2g}, {high:.2g}]"


def c1(results: Results) -> Judgement:
    arms = [at("A", norm) for norm in NORMS]
    verdicts = [results["gradients"][arm]["verdict"] for arm in arms]
    word = "CONFIRMED" if all(v == "smaller" for v in verdicts) else "HALF" if "smaller" in verdicts else "REFUTED"
    text = "; ".join(f"{arm}: {ratio(results, arm)}, {v}" for arm, v in zip(arms, verdicts, strict=True))
    position = {results["gradients"][arm]["position"] for arm in arms}.pop()
    return Judgement(
        word,
        f"gradient at the adapter with over without, 20 batches: {text}; the adapter lies {position} the addition, as "
        f"all six do in the original, and an addition copies the gradient",
    )


def c2(results: Results) -> Judgement:
    seen = BEFORE[1] / BEFORE[0]
    low = min(g["single"][0] for g in results["gradients"].values())
    high = max(g["single"][1] for g in results["gradients"].values())
    inside = low <= seen <= high
    longer = math.sqrt(seen**-2 - 1)  # |x| / |x + c| with c at a right angle to x
    return Judgement(
        "CONFIRMED" if inside else "OPEN",
        f"single batches gave {low:.2g} to {high:.2g} over all arms; the seed's {seen:.4f} lies "
        f"{'inside: a possible number of one batch' if inside else 'outside: this system and base never gave it'}; a "
        f"branch {longer:.2f} times as long as its stream dilutes to that what comes before it, but the original's "
        f"adapters all come behind it",
    )


def c3(results: Results) -> Judgement:
    moved = BEFORE[0] / AFTER[0]
    norms = numbers(results["gradients"][at("B", HIGH)]["without"])
    return Judgement(
        "REFUTED",
        f"the gradient *without* cross-attention fell {moved:.1f}-fold, which the fix doesn't touch, and the one with "
        f"it fell too ({BEFORE[1]:.2f} to {AFTER[1]:.2f}); here it spreads {norms.max() / norms.min():.1f}-fold over "
        f"{len(norms)} batches of one model",
    )


def c4(results: Results) -> Judgement:
    bad = {name: [verdict(results, at(name, norm)) == "worse" for norm in NORMS] for name in ("A", "B")}
    word: Word = "REFUTED" if not any(bad["A"]) else "CONFIRMED" if all(bad["A"]) and not any(bad["B"]) else "HALF"
    return Judgement(
        word, "; ".join(f"{at(n, norm)}: {effect(results, at(n, norm))}" for n in ("A", "B") for norm in NORMS)
    )


def c5(results: Results) -> Judgement:
    first = {norm: numbers(results["arms"][at("A", norm)]["raw_norm"]["first"]) for norm in NORMS}
    large = [bool((values > 1).all()) for values in first.values()]
    word: Word = "CONFIRMED" if all(large) else "HALF" if any(large) else "REFUTED"
    return Judgement(
        word,
        "output over stream before training: " + "; ".join(f"context x{n:g}: {show(v)}" for n, v in first.items()),
    )


def c6(results: Results) -> Judgement:
    arm = "adapter gradients x0.375"
    found = verdict(results, arm)
    word: Word = "REFUTED" if found in FINE else "CONFIRMED" if found == "worse" else "OPEN"
    return Judgement(word, f"adapters' gradients times 0.3748 under Adam: pixel AUROC {effect(results, arm)}")


def c7(results: Results) -> Judgement:
    arm, base = results["arms"][at("A", HIGH)], results["arms"][BASE]
    fell = numbers(arm["loss_first"]) - numbers(arm["loss_end"])
    behind = numbers(arm["loss_end"]) - numbers(base["loss_end"])
    worse = interval(behind).low > 0
    start, loaded = (results["references"][name] for name in ("untrained base", "loaded base"))
    word: Word = "REFUTED" if not worse else "HALF" if interval(fell).low > 0 else "CONFIRMED"
    return Judgement(
        word,
        f"the base learned (held-out loss {start['loss']:.2f} to {loaded['loss']:.2f}, pixel AUROC "
        f"{start[recipe.metric]:.3f} to {loaded[recipe.metric]:.3f}); A: loss {show(arm['loss_first'])} at "
        f"the first step, {show(arm['loss_end'])} at the end; the base on: {show(base['loss_first'])}, "
        f"{show(base['loss_end'])}; A ends above it by {show(behind)}, having fallen by "
        f"{show(fell)} from where the random cross-attention put it",
    )


def c8(results: Results) -> Judgement:
    names = [at("C", HIGH), at("only normalised, 0.1", HIGH), at("C at full scale", HIGH)]
    broken, mended = verdict(results, at("A", HIGH)) == "worse", verdict(results, names[0]) in FINE
    word: Word = "CONFIRMED" if broken and mended else "HALF" if mended else "OPEN"
    return Judgement(word, "; ".join(f"{arm}: {effect(results, arm)}" for arm in (at("A", HIGH), *names)))


def c9(results: Results) -> Judgement:
    arms = [at(name, norm) for name in ("B", "C") for norm in NORMS]
    found = [verdict(results, arm) for arm in arms]
    word: Word = (
        "CONFIRMED"
        if all(v == "better" for v in found)
        else "HALF"
        if "better" in found
        else "OPEN"
        if all(v == "inconclusive" for v in found)
        else "REFUTED"
    )
    return Judgement(word, "against the base: " + "; ".join(f"{arm}: {effect(results, arm)}" for arm in arms))


def c10(results: Results) -> Judgement:
    def norms(arm: str) -> np.ndarray:
        return numbers(results["arms"][arm]["gradient_norms"]["image_adapter"]["start"])

    times = norms("loss x10") / norms(BASE)
    same = verdict(results, "loss x10") in FINE
    return Judgement(
        "REFUTED" if same and times.min() > 5 else "OPEN",
        f"loss times 10: the gradient is {np.mean(times):.1f} times as long, pixel AUROC "
        f"{effect(results, 'loss x10')}; the healthy base's norm here is {show(norms(BASE))}",
    )


def c11(results: Results) -> Judgement:
    def arm(scale: float) -> str:
        return at({1.0: "A", 0.1: "B"}.get(scale, f"scale {scale:g}"), HIGH)

    small = verdict(results, arm(0.1))
    word: Word = "CONFIRMED" if small in FINE else "HALF" if verdict(results, at("C", HIGH)) in FINE else "REFUTED"
    return Judgement(
        word,
        "; ".join(f"{scale:g}: {effect(results, arm(scale))}" for scale in SCALES)
        + f"; 0.1 with norm matching: {effect(results, at('C', HIGH))}",
    )


def c12(results: Results) -> Judgement:
    arm, fixed = at("E", HIGH), at("B", HIGH)
    over = interval(last(results, arm) - last(results, fixed))
    found, measured = verdict(results, arm), results["arms"][arm]
    schedule = results["provenance"]["settings"]["schedule"]
    reach = schedule["image_steps"] * schedule["image_lr"]  # Adam's steps are at most about the learning rate
    settled = found == "worse" and reach >= WEIGHT
    word: Word = "CONFIRMED" if found in FINE else "HALF" if over.low > 0 else "REFUTED" if settled else "OPEN"
    learned = numbers(measured["last"]["branch_ratio"]) / numbers(measured["raw_norm"]["last"])
    return Judgement(
        word,
        f"learned scalar: {effect(results, arm)}; it went from {WEIGHT:g} to {show(learned)}, and could have gone by "
        f"{reach:.2g} in these steps; against the fixed 0.1: {over.mean:+.3f} [{over.low:.3f}, "
        f"{over.high:.3f}]; LayerScale: {effect(results, at('layer_scale', HIGH))}; zero-initialised projection: "
        f"{effect(results, at('D', HIGH))}",
    )


def c13(results: Results) -> Judgement:
    def gain(arm: str) -> np.ndarray:
        loops = results["arms"][arm]["loops"]
        return numbers(loops[-1][recipe.metric]) - numbers(loops[0][recipe.metric])

    arms = {name: gain(name) for name in ("loops: none", at("loops: C", HIGH), at("loops: A", HIGH))}
    with_feedback = interval(arms[at("loops: C", HIGH)] - arms["loops: none"])
    word: Word = (
        "CONFIRMED"
        if with_feedback.low > recipe.margin
        else "REFUTED"
        if with_feedback.high < recipe.margin
        else "OPEN"
    )
    return Judgement(
        word,
        "pixel AUROC, loop 3 minus loop 1: "
        + "; ".join(f"{name.removeprefix('loops: ')}: {show(values)}" for name, values in arms.items())
        + f"; what feedback adds (C minus none): {with_feedback.mean:+.3f} [{with_feedback.low:.3f}, "
        f"{with_feedback.high:.3f}], margin {recipe.margin:g}",
    )


def c14(results: Results) -> Judgement:
    raw = results["arms"][at("C", HIGH)]["raw_norm"]
    grown = numbers(raw["last"]) / numbers(raw["first"])
    return Judgement(
        "HALF" if interval(grown).low > 1 else "OPEN",
        f"behind the norm matching the raw output is {show(grown)} times as long at the end as at the start",
    )
