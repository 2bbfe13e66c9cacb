"""How each claim is judged: a function of the stored numbers that returns a verdict and the numbers it rests on."""

import math

import numpy as np

from pitprop.cases._claims import Judgement, Results
from pitprop.cases.model_merging import model
from pitprop.cases.model_merging.arms import CLIP
from pitprop.cases.model_merging.experiment import MOSTLY
from pitprop.cases.model_merging.measurements import METRICS
from pitprop.cases.model_merging.monitor import WARNING, correct_reading, seed_reading
from pitprop.cases.model_merging.recipe import recipe
from pitprop.rules.attention_uniformity import AttentionUniformity
from pitprop.trials.interval import interval

UNIFORM = 1 - AttentionUniformity().gap
"""Entropy over which attention counts as uniform: the rule's threshold."""
DIVERSE = WARNING
"""Entropy under which attention counts as diverse. The seed gives no number; this is its own level of "warning"."""
SPIKE, VANISHED = 1.5, 0.01
"""Gradient norm over the first one's that is a spike, and under it that has vanished. Conventions."""
SAME_TOKENS, DIFFERENT_TOKENS = 0.99, 0.9
"""Token cosine over which tokens count as one, and under which they don't. Conventions."""
GATES = ("pooled gate", "elementwise gate", "headwise gate")


def last(results: Results, arm: str, metric: str, when: str = "last") -> np.ndarray:
    """A metric of an arm at the end (or at another stored moment), one number per seed; undefined ones are NaN."""
    return np.array([math.nan if v is None else v for v in results["arms"][arm][metric][when]])


def show(values: np.ndarray) -> str:
    """Mean with its 95 % interval over the seeds."""
    effect = interval(np.asarray(values, dtype=float))
    return f"{np.mean(values):.3g} [{effect.low:.3g}, {effect.high:.3g}]"


def collapsed(results: Results, arm: str) -> np.ndarray:
    """Which seeds of an arm ended with an output spread inside the margin of 0."""
    return last(results, arm, "output_spread") < recipe.margin


def verdict_of(results: Results, arm: str) -> str:
    """What the trial says of an arm against the one it is paired with."""
    found = next(c for c in results["comparisons"] if c["arm"] == arm)
    return f"{found['effect']:+.3g} [{found['low']:.3g}, {found['high']:.3g}], {found['verdict']}"


def c1(results: Results) -> Judgement:
    tokens, inputs = model.NUM_TOKENS, model.NUM_INPUTS
    right = (tokens, inputs, inputs / 2) == (50, 2464, 1232) and math.isclose(1 / tokens, 0.02)
    return Judgement(
        "CONFIRMED" if right else "REFUTED",
        f"24 x 16 + 26 x 80 = {inputs} = 2 x {inputs // 2}; {tokens} tokens; 1/{tokens} = {1 / tokens:g}; ln "
        f"{tokens} = {math.log(tokens):.2f}",
    )


def c2(results: Results) -> Judgement:
    first, end = last(results, "ungated", "attention_entropy", "first"), last(results, "ungated", "attention_entropy")
    diverse, uniform = bool((first < DIVERSE).all()), bool((end > UNIFORM).all())
    word = "CONFIRMED" if diverse and uniform else "HALF" if diverse or uniform else "REFUTED"
    return Judgement(
        word,
        f"entropy {show(first)} before the first step, {show(end)} at the end of the collapsed run (diverse: under "
        f"{DIVERSE:g}; uniform: over {UNIFORM:g})",
    )


def c3(results: Results) -> Judgement:
    highest = np.array(results["arms"]["ungated"]["highest_entropy"])
    dead = collapsed(results, "ungated")
    warned = int((highest[dead] > UNIFORM).sum())
    looks = min(results["arms"]["ungated"]["evaluations"])
    return Judgement(
        "REFUTED" if dead.any() and warned == 0 else "OPEN",
        f"{dead.sum()} of {len(dead)} runs collapsed; attention was at 1/50 before or during {warned} of them "
        f"(highest entropy {highest.max():.3f}, of {looks} evaluations in each of the runs)",
    )


def c4(results: Results) -> Judgement:
    wrong = seed_reading(1.0) == "healthy" and seed_reading(0.0) == "critical" and correct_reading(1.0) == "uniform"
    two_hot = math.log(2) / math.log(model.NUM_TOKENS)
    return Judgement(
        "REFUTED" if wrong else "CONFIRMED",
        f"H/ln 50 is 1 for uniform, {two_hot:.3f} for two keys, 0 for one; the seed's thresholds call uniform "
        f"'{seed_reading(1.0)}' "
        f"and two keys '{seed_reading(two_hot)}'",
    )


def c5(results: Results) -> Judgement:
    return Judgement(
        "REFUTED",
        f"a sink puts all mass on one token (entropy 0, '{correct_reading(0.0)}'), uniform attention puts "
        f"{1 / model.NUM_TOKENS:g} on it "
        f"(entropy 1, '{correct_reading(1.0)}'): opposite ends (term: Xiao et al., arXiv 2309.17453)",
    )


def c6(results: Results) -> Judgement:
    arm = "mean bottleneck, uniform attention"
    spread, unique = last(results, arm, "output_spread"), last(results, arm, "output_uniqueness")
    alive = interval(spread).low > recipe.margin
    return Judgement(
        "REFUTED" if alive else "OPEN",
        f"attention forced to 1/50, no saturation: spread {show(spread)}, distinct outputs {show(unique)}; "
        f"the same with learned attention: {show(last(results, 'mean bottleneck', 'output_spread'))}",
    )


def c7(results: Results) -> Judgement:
    dead, entropy = collapsed(results, "ungated"), last(results, "ungated", "attention_entropy")
    refuted = bool((entropy[dead] < UNIFORM).all()) and bool(dead.any())
    return Judgement(
        "REFUTED" if refuted else "OPEN",
        f"{dead.sum()} of {len(dead)} runs give duplicates (distinct "
        f"{show(last(results, 'ungated', 'output_uniqueness'))}) with attention at "
        f"entropy {show(entropy)}; saturated neck units {show(last(results, 'ungated', 'saturated_share'))}",
    )


def c8(results: Results) -> Judgement:
    gate = results["gates"]["pooled"]
    change = max(gate["change_with_entropy"])
    return Judgement(
        "REFUTED" if change == 0 else "OPEN",
        f"entropy driven from {np.mean(gate['entropy']):.2f} to {np.mean(gate['entropy_sharp']):.2f}: the gate's "
        f"factors change by {change:g}",
    )


def c9(results: Results) -> Judgement:
    over = {
        name: float(np.mean(results["gates"][name]["spread_over_tokens"]))
        for name in ("pooled", "elementwise", "headwise")
    }
    return Judgement(
        "REFUTED" if over["pooled"] < 1e-6 < over["elementwise"] else "OPEN",
        f"relative variation of the gate over tokens: the seed's {over['pooled']:.2g}, the paper's elementwise "
        f"{over['elementwise']:.2g}, "
        f"headwise {over['headwise']:.2g}; the seed pools the tokens first",
    )


def c10(results: Results) -> Judgement:
    unique = {arm: last(results, arm, "output_uniqueness") for arm in GATES}
    held = [bool((values > 0.95).all()) for values in unique.values()]
    failed = [bool(collapsed(results, arm).all()) for arm in GATES]
    word = "CONFIRMED" if all(held) else "REFUTED" if all(failed) else "HALF" if any(held) else "OPEN"
    return Judgement(
        word, "; ".join(f"{arm}: distinct {show(v)}, spread {verdict_of(results, arm)}" for arm, v in unique.items())
    )


def c11(results: Results) -> Judgement:
    names = ("recover: pooled gate", "recover: elementwise gate")
    others = ("recover: neck re-initialised", "recover: rolled back", "recover: unit-rms")
    failed = [bool(collapsed(results, name).all()) for name in names]
    word = "REFUTED" if all(failed) else "HALF" if any(failed) else "CONFIRMED"
    return Judgement(
        word,
        f"spread after recovery, ungated: {show(last(results, 'recover: ungated', 'output_spread'))}; against it, "
        + "; ".join(f"{name.removeprefix('recover: ')}: {verdict_of(results, name)}" for name in (*names, *others))
        + f"; rolled back to the last state with over {MOSTLY:.0%} distinct outputs or, without one, to the untrained "
        f"model: steps {', '.join(map(str, results['arms']['ungated']['last_good_step']))}",
    )


def c12(results: Results) -> Judgement:
    arm, base = results["arms"]["gradient stabiliser"], results["arms"]["ungated"]
    dead, peak = collapsed(results, "gradient stabiliser"), last(results, "ungated", "gradient_norm", "peak")
    idle = peak.max() < CLIP and all(arm[key] == base[key] for key in (*METRICS, "gradient_norm"))
    word = "VACUOUS" if idle else "REFUTED" if dead.all() else "HALF" if dead.any() else "CONFIRMED"
    seen = f"{dead.sum()} of {len(dead)} runs collapse with it; largest norm without it {peak.max():.2g}"
    return Judgement(
        word,
        f"{seen}, so the bound of {CLIP:g} never acted: these are the ungated runs again, number for number; whether a "
        "clipping that acts would help isn't tested"
        if idle
        else seen,
    )


def c13(results: Results) -> Judgement:
    def ratios(arm: str) -> tuple[np.ndarray, np.ndarray]:
        whole = results["arms"][arm]["gradient_norm"]
        encoder = results["arms"][arm]["encoder_gradient_norm"]
        return np.array(whole["early_peak"]) / np.array(whole["first"]), np.array(encoder["last"]) / np.array(
            encoder["first"]
        )

    spike, vanish = ratios("ungated")
    healthy_spike, healthy_vanish = ratios("mean bottleneck")
    parts = bool((spike > SPIKE).all()), bool((vanish < VANISHED).all())
    word = "CONFIRMED" if all(parts) else "HALF" if any(parts) else "REFUTED"
    return Judgement(
        word,
        f"peak in 20 steps over the first: {show(spike)}; the encoder's last over its first: median "
        f"{np.median(vanish):.2g}, range "
        f"{vanish.min():.2g} to {vanish.max():.2g}; healthy runs (mean bottleneck): {show(healthy_spike)} and "
        f"{show(healthy_vanish)}",
    )


def c14(results: Results) -> Judgement:
    arms = ("mean bottleneck", "unit-rms")
    alive = {arm: ~collapsed(results, arm) for arm in arms}
    word = "REFUTED" if all(values.all() for values in alive.values()) else "OPEN"
    return Judgement(
        word,
        "; ".join(
            f"ungated with {arm}: {v.sum()} of {len(v)} healthy, spread {verdict_of(results, arm)}"
            for arm, v in alive.items()
        ),
    )


def c15(results: Results) -> Judgement:
    members = results["provenance"]["zoo"]["members"]
    return Judgement(
        "REFUTED",
        f"the paper (arXiv 2305.17493) is about training on generated data; here every target is one of {members} "
        f"CNNs trained on real digits",
    )


def c16(results: Results) -> Judgement:
    gated, residual = (
        results["attention_only"]["attention only, pooled gate"],
        results["attention_only"]["residual, no gate"],
    )
    broken = min(gated["token_cosine"]) > SAME_TOKENS and max(residual["token_cosine"]) < DIFFERENT_TOKENS
    return Judgement(
        "REFUTED" if broken else "OPEN",
        f"before any training, 4 layers of attention with the seed's gate and no residual: token cosine "
        f"{np.mean(gated['token_cosine']):.3f}, entropy "
        f"{np.mean(gated['attention_entropy']):.3f}; residual and ungated: {np.mean(residual['token_cosine']):.2f}, "
        f"{np.mean(residual['attention_entropy']):.2f}",
    )
