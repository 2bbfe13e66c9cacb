"""How each claim is judged: a function of the stored numbers that returns a verdict and the numbers it rests on."""

import math

import numpy as np

from pitprop.cases._claims import Judgement, Results, Word
from pitprop.cases.clip_anomaly.arms import BASE, FROZEN, NORMS, SCALES, at, scale_arm
from pitprop.cases.clip_anomaly.learning import Pace, can_learn, pace
from pitprop.cases.clip_anomaly.recipe import recipe
from pitprop.trials.interval import interval

BEFORE, AFTER = (1.467525, 0.549976), (0.455933, 0.438084)
"""The seed's gradient norms without and with cross-attention, before and after its fix."""
FINE = ("no difference within margin", "better")
HIGH = 50.0
WEIGHT = 0.1
"""Where the learned scalar starts: the seed's fixed factor."""

CANNOT_LEARN: dict[Pace, Word] = {
    "learns": "REFUTED",
    "slow": "HALF",
    "stalls": "CONFIRMED",
    "falls below": "CONFIRMED",
    "open": "OPEN",
}
"""Verdict on "this arm doesn't learn"."""


def numbers(values) -> np.ndarray:
    """Stored numbers, undefined ones as NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def last(results: Results, arm: str, metric: str = recipe.metric) -> np.ndarray:
    """A metric of an arm at the end, one number per seed."""
    return numbers(results["arms"][arm]["last"][metric])


def level(values, digits: str = ".3g") -> str:
    """Mean of what was measured at each seed, with its range over them."""
    values = numbers(values)
    return f"{np.mean(values):{digits}} ({values.min():{digits}} to {values.max():{digits}})"


def change(values, digits: str = ".3g") -> str:
    """Mean of what changed at each seed, with its interval."""
    found = interval(numbers(values))
    return f"{found.mean:+{digits}} [{found.low:{digits}}, {found.high:{digits}}]"


def verdict(results: Results, arm: str) -> str:
    """The verdict of an arm against the base."""
    return next(c["verdict"] for c in results["comparisons"] if c["arm"] == arm)


def effect(results: Results, arm: str) -> str:
    """The effect of an arm against the base, in words."""
    c = next(c for c in results["comparisons"] if c["arm"] == arm)
    return f"{c['effect']:+.3f} [{c['low']:.3f}, {c['high']:.3f}], {c['verdict']}"


def beside(results: Results, arm: str) -> str:
    """What an arm does from the early base, beside frozen adapters and beside the control."""
    learning = results["learning"]
    own, other = gain(learning, arm), effect(learning, arm)
    return f"{pace(learning, arm)} ({own} over frozen adapters; against the control {other})"


def gain(learning: Results, arm: str) -> str:
    """What an arm has over frozen adapters."""
    return change(last(learning, arm) - last(learning, FROZEN), ".3f")


def ratio(results: Results, arm: str) -> str:
    """The gradient ratio of an arm, over batches."""
    mean, low, high = numbers(results["gradients"][arm]["ratio"])
    return f"{mean:.2g} [{low:.2g}, {high:.2g}]"


def split(results: Results, arm: str) -> str:
    """The two factors of a gradient ratio, where the adapter lies behind the addition."""
    factors = results["gradients"][arm]["factors"]
    return " x ".join(f"{name} {factors[name][0]:.2g}" for name in ("input growth", "rest"))


def c1(results: Results) -> Judgement:
    arms = [at("A", norm) for norm in NORMS]
    verdicts = [results["gradients"][arm]["verdict"] for arm in arms]
    word = "CONFIRMED" if all(v == "smaller" for v in verdicts) else "HALF" if "smaller" in verdicts else "REFUTED"
    text = "; ".join(
        f"{arm}: {ratio(results, arm)}, {v} ({split(results, arm)})" for arm, v in zip(arms, verdicts, strict=True)
    )
    position = {results["gradients"][arm]["position"] for arm in arms}.pop()
    return Judgement(
        word,
        f"gradient at the adapter with over without, 20 batches: {text}; the adapter lies {position} the addition, as "
        f"all six do in the original: an addition copies the gradient and absorbs none; what differs is the adapter's "
        f"input, which the branch makes longer, and the loss",
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
        "output over stream before training: " + "; ".join(f"context x{n:g}: {level(v)}" for n, v in first.items()),
    )


def c6(results: Results) -> Judgement:
    arm = "adapter gradients x0.375"
    return Judgement(
        CANNOT_LEARN[pace(results["learning"], arm)],
        f"adapters' gradients times 0.3748 under Adam, from the early base: {beside(results, arm)}",
    )


def c7(results: Results) -> Judgement:
    learning, name = results["learning"], at("A", HIGH)
    found, arm = pace(learning, name), learning["arms"][name]
    rose = numbers(arm["last"][recipe.metric]) - numbers(arm["first"][recipe.metric])
    word = CANNOT_LEARN[found]
    if (word == "CONFIRMED" and interval(rose).low > 0) or (word == "REFUTED" and verdict(results, name) == "worse"):
        word = "HALF"  # below what it started from and rising; or learning, and yet below the finished base
    start, loaded = (results["references"][key] for key in ("untrained base", "loaded base"))
    losses = {key: [level(results["arms"][key][end]) for end in ("loss_first", "loss_end")] for key in (BASE, name)}
    longer = results["longer"]
    climbed = last(longer, name) - numbers(longer["arms"][name]["first"][recipe.metric])
    steps = longer["provenance"]["settings"]["schedule"]["image_steps"]
    return Judgement(
        word,
        f"the base learned (held-out loss {start['loss']:.2f} to {loaded['loss']:.2f}, pixel AUROC "
        f"{start[recipe.metric]:.3f} to {loaded[recipe.metric]:.3f}); from the early base the control has "
        f"{gain(learning, BASE)} over frozen adapters, and A {beside(results, name)}, {change(rose, '.3f')} from where "
        f"its random cross-attention put it; from the finished one A's loss goes from {' to '.join(losses[name])}, the "
        f"control's from {' to '.join(losses[BASE])}; in {steps} steps from another finished one A climbs "
        f"{change(climbed, '.3f')}, and ends at {effect(longer, name)}",
    )


def c8(results: Results) -> Judgement:
    names = [at("C", HIGH), at("only normalised, 0.1", HIGH), at("C at full scale", HIGH)]
    broken, mended = verdict(results, at("A", HIGH)) == "worse", verdict(results, names[0]) in FINE
    learns = pace(results["learning"], names[0]) == "learns"
    word: Word = "CONFIRMED" if broken and mended and learns else "HALF" if mended else "OPEN"
    return Judgement(
        word,
        "from the finished base: "
        + "; ".join(f"{arm}: {effect(results, arm)}" for arm in (at("A", HIGH), *names))
        + "".join(f"; from the early one {name} {beside(results, at(name, HIGH))}" for name in ("A", "C")),
    )


def c9(results: Results) -> Judgement:
    learning = results["learning"]
    arms = [*(at("B", norm) for norm in NORMS), at("C", HIGH)]
    found = [verdict(learning, arm) for arm in arms]
    harmed = "worse" in (verdict(results, arm) for arm in arms)
    word: Word = (
        "OPEN"
        if not can_learn(learning)
        else "CONFIRMED"
        if all(v == "better" for v in found) and not harmed
        else "HALF"
        if "better" in found
        else "OPEN"
        if "inconclusive" in found
        else "REFUTED"
    )
    early, finished = (
        "; ".join(f"{arm}: {effect(of, arm)}" for arm in names)
        for of, names in ((learning, [*arms, at("A", HIGH)]), (results, arms))
    )
    return Judgement(
        word,
        f"from the early base, against the control: {early} (that one without the fix); from the finished one, with "
        f"nothing left to gain: {finished}",
    )


def c10(results: Results) -> Judgement:
    learning = results["learning"]

    def norms(arm: str) -> np.ndarray:
        return numbers(learning["arms"][arm]["gradient_norms"]["image_adapter"]["start"])

    times = norms("loss x10") / norms(BASE)
    same = pace(learning, "loss x10") == "learns"
    return Judgement(
        "REFUTED" if same and times.min() > 5 else "OPEN",
        f"loss times 10, from the early base: the gradient is {level(times)} times as long, and the run "
        f"{beside(results, 'loss x10')}; the healthy control's norm is {level(norms(BASE))}",
    )


def c11(results: Results) -> Judgement:
    small = verdict(results, scale_arm(0.1, HIGH))
    word: Word = "CONFIRMED" if small in FINE else "HALF" if verdict(results, at("C", HIGH)) in FINE else "REFUTED"
    return Judgement(
        word,
        "; ".join(f"{scale:g}: {effect(results, scale_arm(scale, HIGH))}" for scale in SCALES)
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
        f"learned scalar: {effect(results, arm)}; it went from {WEIGHT:g} to {level(learned)}, and could have gone by "
        f"{reach:.2g} in these steps; against the fixed 0.1: {over.mean:+.3f} [{over.low:.3f}, "
        f"{over.high:.3f}]; LayerScale: {effect(results, at('layer_scale', HIGH))}; zero-initialised projection: "
        f"{effect(results, at('D', HIGH))}",
    )


def c13(results: Results) -> Judgement:
    def gains(of: Results) -> tuple[np.ndarray, np.ndarray]:
        loops = [of["arms"][name]["loops"] for name in ("loops: none", at("loops: C", HIGH))]
        none, c = (numbers(each[-1][recipe.metric]) - numbers(each[0][recipe.metric]) for each in loops)
        return none, c

    learning = results["learning"]
    none, c = gains(learning)
    feedback = interval(c - none)
    shown = [change(values, ".3f") for values in (none, c, c - none, np.subtract(*gains(results)[::-1]))]
    word: Word = (
        "OPEN"
        if not can_learn(learning)
        else "CONFIRMED"
        if feedback.low > recipe.margin
        else "REFUTED"
        if feedback.high < recipe.margin
        else "OPEN"
    )
    return Judgement(
        word,
        f"pixel AUROC, loop 3 minus loop 1, from the early base: without feedback {shown[0]}, C {shown[1]}; what "
        f"feedback adds: {shown[2]}, margin {recipe.margin:g} (from the finished base, with nothing left to gain: "
        f"{shown[3]})",
    )


def c14(results: Results) -> Judgement:
    raw = results["arms"][at("C", HIGH)]["raw_norm"]
    grown = numbers(raw["last"]) / numbers(raw["first"]) - 1
    return Judgement(
        "HALF" if interval(grown).low > 0 else "OPEN",
        f"behind the norm matching the raw output grows by {change(100 * grown)} % from start to end",
    )
