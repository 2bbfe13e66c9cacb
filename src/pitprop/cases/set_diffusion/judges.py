"""How each claim is judged: a function of the stored numbers that returns a verdict and the numbers it rests on."""

import math

import numpy as np

from pitprop.cases._claims import Judgement, Results, Word
from pitprop.cases.set_diffusion.arms import ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.knobs import PAPER, Knobs
from pitprop.cases.set_diffusion.recipe import recipe
from pitprop.trials.interval import interval

NORMAL = "synchronised, adaLN normal"
FAR = 100.0
"""The seed's "100x or more"."""
UNIFORM = 0.95
"""Entropy over which attention counts as uniform: the gap of the rule `attention-uniformity`."""
SAME_SIZE = 3.0
"""Ratio of displacements under which blocks are moved alike. A convention."""
WARMED, DECAYED, DOUBLED = "warm-up and cosine", "weight decay", "LSA temperature doubled"


def last(results: Results, arm: str, metric: str) -> np.ndarray:
    """A number of an arm, one per seed; undefined ones are NaN."""
    return np.array([math.nan if v is None else v for v in results["arms"][arm][metric]], dtype=float)


def show(values: np.ndarray) -> str:
    """Mean with its 95 % interval over the seeds."""
    effect = interval(np.asarray(values, dtype=float))
    return f"{np.mean(values):.2g} [{effect.low:.2g}, {effect.high:.2g}]"


def effect(results: Results, arm: str, metric: str = "context_use") -> dict:
    """An arm against its control."""
    return next(c for c in results["comparisons"] if c["arm"] == arm and c["metric"] == metric)


def change(results: Results, arm: str, metric: str = "context_use") -> str:
    """That comparison in numbers, with its verdict."""
    found = effect(results, arm, metric)
    if found["low"] is None and found["effect"] == 0:
        return "exactly 0 at every seed"
    low, high = ("?" if found[side] is None else f"{found[side]:+.2g}" for side in ("low", "high"))
    return f"{found['effect']:+.2g} [{low}, {high}] ({found['verdict']})"


def said(results: Results, arm: str, metric: str = "context_use") -> str:
    """That comparison with the arm's name."""
    return f"{arm} {change(results, arm, metric)}"


def both(results: Results, arm: str) -> str:
    """That comparison of context use and of the loss."""
    return f"{said(results, arm)}, loss {change(results, arm, 'eval_loss')}"


def used(results: Results, arm: str) -> str:
    """In how many seeds the context came to be used, and after how many steps."""
    steps = [step for step in results["arms"][arm]["steps_until_used"] if step is not None]
    when = f", after {np.median(steps):.0f} steps in the median" if steps else ""
    return f"{arm}: used in {len(steps)} of {len(results['arms'][arm]['steps_until_used'])} seeds{when}"


def helps(results: Results, *arms: str) -> bool:
    """Whether any of the arms is better than its control."""
    return any(effect(results, arm)["verdict"] == "better" for arm in arms)


def in_both(arm: str) -> tuple[str, str]:
    """An arm of the original, and the same where gradients are averaged."""
    return arm, f"{SYNCHRONISED}, {arm}"


def unneeded(results: Results) -> bool:
    """Whether the context comes to be used in every seed by averaging alone."""
    return None not in results["arms"][SYNCHRONISED]["steps_until_used"]


def gradient(results: Results, arm: str) -> str:
    """Medians of the encoder's gradient norm at the first steps."""
    found = results["arms"][arm]["encoder_gradient"]
    return f"{arm} " + " ".join(f"{value:.2g}" for value in found["median"])


def c1(results: Results) -> Judgement:
    first, end = last(results, ORIGINAL, "context_first"), last(results, ORIGINAL, "context_last")
    use, idle = last(results, ORIGINAL, "context_use_last"), results["statics"]["idle_adamw"]["0"]
    moved = np.abs(end - first)
    synced = np.abs(last(results, SYNCHRONISED, "context_last") - last(results, SYNCHRONISED, "context_first"))
    moves = bool((moved > 0).all()) and idle == 0
    return Judgement(
        "REFUTED" if moves else "OPEN",
        f"without gradient and decay AdamW moves a parameter by {idle:g} in 1000 steps, so a drift is gradient at "
        f"work; the signed mean moves by {show(moved)} (size) where the context isn't used (use {show(use)}) and by "
        f"{show(synced)} where it is ({show(last(results, SYNCHRONISED, 'context_use_last'))})",
    )


def c2(results: Results) -> Judgement:
    norms = np.array(results["arms"][ORIGINAL]["encoder_gradient_first"])
    asleep, awake = (norms[:, :2] == 0).all(1), (norms[:, 2:] > 0).all(1)
    steps = " ".join(map(str, results["arms"][ORIGINAL]["encoder_gradient"]["step"]))
    word: Word = "OPEN" if awake.any() else "CONFIRMED"
    if awake.all():
        word = "HALF" if asleep.all() else "REFUTED"
    return Judgement(
        word,
        f"exactly 0 at steps 0 and 1 in {asleep.sum()} of {len(norms)} seeds, more at steps 2 and 3 in {awake.sum()}; "
        f"medians at steps {steps}: Adam, adaLN zero: {gradient(results, ORIGINAL)}; "
        f"{gradient(results, 'adaLN normal')}; "
        + "; ".join(gradient(results, f"SGD, adaLN {name}") for name in ("zero", "normal", "scaled")),
    )


def c3(results: Results) -> Judgement:
    first, end = last(results, SYNCHRONISED, "eval_loss_first"), last(results, SYNCHRONISED, "eval_loss_last")
    gates = np.array(results["statics"]["gates"])
    awake = gates[:, 1] > 0
    return Judgement(
        "REFUTED" if (end < first / 2).all() and awake.all() else "OPEN",
        f"a gate of 0 hands the stream on as it is; the gradient of gates and modulations is exactly 0 before the "
        f"first step in {(gates[:, 0] == 0).sum()} of {len(gates)} seeds, and more after it in {awake.sum()} (median "
        f"{np.median(gates[:, 1]):.2g}); the loss falls from {first.mean():.3f} to {end.mean():.3f} with zero "
        "initialisation",
    )


def c4(results: Results) -> Judgement:
    zero, normal = last(results, ORIGINAL, "eval_loss_first"), last(results, "adaLN normal", "eval_loss_first")
    end, apart = last(results, ORIGINAL, "eval_loss_last"), interval(zero - normal)
    alike = -recipe.margin <= apart.low and apart.high <= recipe.margin
    return Judgement(
        "REFUTED" if alike and (end < zero / 2).all() else "OPEN",
        f"loss before the first step {zero.mean():.4f} with zeros, which predict the noise's mean; from normal(0.02) "
        f"it is {show(zero - normal)} apart; in training it falls to {end.mean():.3f}",
    )


def c5(results: Results) -> Judgement:
    return Judgement(
        _word(results, "adaLN normal", NORMAL),
        f"in the original: {both(results, 'adaLN normal')}; where gradients are averaged: {both(results, NORMAL)}; "
        f"{used(results, SYNCHRONISED)}; {used(results, NORMAL)}",
    )


def c6(results: Results) -> Judgement:
    found = results["statics"]["layer_norm"]
    same = found["same_output"] and found["same_gradient"]
    better = helps(results, "LayerNorm scale")
    return Judgement(
        "REFUTED" if same and not better else "HALF" if same else "OPEN",
        f"a fresh scale of 1 gives {'the same bits' if same else 'other bits'}, forward and backward; "
        f"trial: {said(results, 'LayerNorm scale')}",
    )


def c7(results: Results) -> Judgement:
    found = results["statics"]["layer_norm"]["use_scale_by_default"]
    return Judgement(
        "REFUTED" if all(found.values()) else "CONFIRMED",
        f"`use_scale` of Flax's LayerNorm by default: nnx {found['nnx']}, linen {found['linen']}",
    )


def c8(results: Results) -> Judgement:
    own, share = math.hypot(0.05, 0.5), last(results, ORIGINAL, "share_clipped")
    return Judgement(
        "HALF" if helps(results, "gradient clipping") else "REFUTED" if unneeded(results) else "OPEN",
        f"without any, {used(results, SYNCHRONISED)}; the seed's own largest norms make {own:.2f}, where a bound of 1 "
        f"never acts; here it acts in {share.mean():.1%} of the steps (largest norm "
        f"{last(results, ORIGINAL, 'largest_norm').max():.2g}); trial: {both(results, 'gradient clipping')}",
    )


def c9(results: Results) -> Judgement:
    before, after = (last(results, arm, "encoder_gradient_median") for arm in (ORIGINAL, "gradient clipping"))
    return Judgement(
        "REFUTED" if not helps(results, "gradient clipping") else "HALF",
        f"clipping multiplies by at most 1; median encoder gradient {before.mean():.3g} without, {after.mean():.3g} "
        "with",
    )


def c10(results: Results) -> Judgement:
    levels = results["statics"]["levels"]
    loss, norm = np.array(levels["loss"]), np.array(levels["gradient"])
    reverse = bool((loss[:, 0] > loss[:, -1]).all()) and bool((norm[:, 0] > norm[:, -1]).all())
    return Judgement(
        "REFUTED" if reverse else "CONFIRMED" if bool((norm[:, 0] < norm[:, -1]).all()) else "OPEN",
        f"noise levels {' '.join(map(str, levels['levels']))} of 250: loss {_row(loss)}, gradient {_row(norm)} (means "
        f"of {len(loss)} trained models): the least noise has the largest gradient",
    )


def c11(results: Results) -> Judgement:
    levels = results["statics"]["levels"]
    loss, norm = (np.array(levels[name]).mean(0) for name in ("loss", "gradient"))
    ratios = loss.max() / loss.min(), norm.max() / norm.min()
    word: Word = "CONFIRMED" if ratios[1] > FAR else "HALF" if max(ratios) > FAR / 10 else "REFUTED"
    return Judgement(word, f"largest over smallest: gradient {ratios[1]:.3g}, loss {ratios[0]:.3g}")


def c12(results: Results) -> Judgement:
    blocks = results["statics"]["blocks"]
    factors = {(name, part): np.array(rows) for name, parts in blocks.items() for part, rows in parts.items()}
    fades = [bool((values.mean(0) < 0.95).all()) for values in factors.values()]
    word: Word = "CONFIRMED" if all(fades) else "HALF" if any(fades) else "REFUTED"
    return Judgement(
        word,
        f"0.9^12 = {0.9**12:.2f} is right; measured factor from one block's gradient to the one before it: "
        + "; ".join(f"{name}, {part} {_row(values)}" for (name, part), values in factors.items())
        + f"; {said(results, f'{SYNCHRONISED}, depth 1')}; {said(results, 'two thirds of the depth')}",
    )


def c13(results: Results) -> Judgement:
    ours, theirs = (PAPER.image_size // PAPER.patch_size) ** 2, (256 // 8 // 2) ** 2
    return Judgement(
        "REFUTED" if ours == theirs else "CONFIRMED",
        f"DiT sees latents of 256 / 8 = 32 pixels a side: {theirs} tokens, here {ours}; its depth of 12 is DiT-B's",
    )


def c14(results: Results) -> Judgement:
    one, two = (np.array(results["statics"]["entropy"][name]) for name in (ORIGINAL, DOUBLED))
    uniform = bool((one > UNIFORM).all())
    return Judgement(
        "HALF" if uniform and not helps(results, *in_both(DOUBLED)) else "REFUTED" if not uniform else "CONFIRMED",
        f"entropy of the encoder's first block before training {show(one)} (1 is uniform), doubled {show(two)}; "
        f"1/sqrt(64) = 0.125 is the scale of every transformer with heads of 64; {_elsewhere()}; "
        + "; ".join(said(results, arm) for arm in in_both(DOUBLED)),
    )


def c15(results: Results) -> Judgement:
    found = {name: np.array(values) for name, values in results["statics"]["temperature"].items()}
    moved = all((np.abs(values - 1) > 0.05).any(1).all() for values in found.values())
    return Judgement(
        "REFUTED" if moved else "OPEN",
        "scale at the end over that at the start, by block: "
        + "; ".join(f"{name} {_row(values)}" for name, values in found.items())
        + f"; {_elsewhere()}",
    )


def c16(results: Results) -> Judgement:
    arms = in_both(DOUBLED)
    return Judgement(_word(results, *arms), "; ".join([*(both(results, arm) for arm in arms), _elsewhere()]))


def c17(results: Results) -> Judgement:
    found = results["statics"]["null_layer"]
    return Judgement(
        "HALF" if found["kernel"] == 0 < found["bias"] else "OPEN",
        f"with zeros as its input the kernel's gradient is {found['kernel']:g}, the bias's {found['bias']:.2g}: one "
        "free vector is trained",
    )


def c18(results: Results) -> Judgement:
    return Judgement(
        "REFUTED",
        "dropping the condition at random is how classifier-free guidance is trained (DiT's LabelEmbedder does it); "
        "and the original never drops it. Dropped in a tenth of the sets: "
        + both(results, f"{SYNCHRONISED}, context dropout"),
    )


def c19(results: Results) -> Judgement:
    idle = results["null_is_idle"]
    return Judgement(
        "VACUOUS" if idle else _word(results, "learnable null context"),
        f"the original always gives a context, so the null one is never used: with a learnable one all "
        f"{len(results['arms'][ORIGINAL]['context_use_last'])} runs are {'the same bits' if idle else 'different'}",
    )


def c20(results: Results) -> Judgement:
    found = {part: np.array(rows) for part, rows in results["statics"]["displacement"].items()}
    early, late = found["encoder"][:, 0], found["dit"][:, -1]
    ratio = late / early
    return Judgement(
        "REFUTED" if (ratio < SAME_SIZE).all() else "HALF" if np.median(ratio) < SAME_SIZE else "CONFIRMED",
        "judged is the second half, as no arm has another rate: rms displacement of the blocks' kernels over the "
        f"training: encoder {_row(found['encoder'])}, DiT {_row(found['dit'])}; last over first "
        f"{show(ratio)}: Adam steps alike whatever the gradient's size",
    )


def c21(results: Results) -> Judgement:
    arms = (*in_both(WARMED), DECAYED)
    word = _word(results, *arms)
    return Judgement(
        "OPEN" if word == "REFUTED" else word,  # decay was tried only where nothing makes the context used
        "; ".join(both(results, arm) for arm in arms)
        + "; decay wasn't tried where gradients are averaged; it moves a parameter without gradient by "
        f"{results['statics']['idle_adamw']['0.01']:.1%} in 1000 steps at the seed's rate, which is the drift "
        "that it takes for a lack of gradient",
    )


def c22(results: Results) -> Judgement:
    width = PAPER.patch_size**2 * PAPER.sample_size * PAPER.channels
    return Judgement(
        "HALF" if helps(results, "SPT variance doubled") else "REFUTED" if unneeded(results) else "OPEN",
        f"{width} numbers to 450 are no bottleneck; Flax's default is lecun_normal, and no ReLU follows that would ask "
        f"for twice the variance; with the usual one, {used(results, SYNCHRONISED)}; "
        f"{said(results, 'SPT variance doubled')}; with the shifts that SPT is named after: "
        f"{both(results, f'{SYNCHRONISED}, real shifts')}",
    )


def c23(results: Results) -> Judgement:
    found = results["statics"]["accumulation"]
    moved = found["displacement"]
    return Judgement(
        "REFUTED" if found["zeros"] > 0 and moved["apply_every"] != moved["multi_steps"] else "CONFIRMED",
        f"before Adam, `apply_every(4)` hands it zeros at {found['zeros']:.0%} of the steps; displacement under the "
        f"same noisy gradients, relative to none: {moved['apply_every']:.2f}, with MultiSteps "
        f"{moved['multi_steps']:.2f}; {said(results, 'apply_every before Adam')}; {said(results, 'MultiSteps')}",
    )


def c24(results: Results) -> Judgement:
    shares = {arm: last(results, arm, "share_over_healthy") for arm in (ORIGINAL, SYNCHRONISED)}
    use = last(results, SYNCHRONISED, "context_use_last")
    below = bool((shares[SYNCHRONISED] < 0.5).all()) and float(np.mean(use)) > recipe.margin
    return Judgement(
        "REFUTED" if below else "OPEN",
        "share of steps at which the encoder's gradient is over the seed's 0.1: "
        + "; ".join(f"{arm} {show(values)} (context use {show(last(results, arm, 'context_use_last'))})"
                    for arm, values in shares.items())
        + f"; {used(results, ORIGINAL)}; {used(results, 'the whole list')}",
    )  # fmt: skip


def c25(results: Results) -> Judgement:
    return Judgement(
        "REFUTED",
        "Pascanu et al. 2013 (arXiv 1211.5063) is about gradients that explode over the time steps of a recurrent "
        "network; a noise level is drawn, not unrolled",
    )


def _word(results: Results, *arms: str) -> Word:
    """Whether it helps: by context use and by the loss, as long as neither of any arm may still be better."""
    use, loss = ([effect(results, arm, metric)["verdict"] for arm in arms] for metric in ("context_use", "eval_loss"))
    if all(verdict == "better" for verdict in use):
        return "CONFIRMED"
    if "better" in use + loss:
        return "HALF"
    return "OPEN" if "inconclusive" in use + loss else "REFUTED"


def _elsewhere() -> str:
    """At what scale the encoder's attention is looked at here."""
    small, tokens = Knobs(), [(knobs.image_size // knobs.patch_size) ** 2 + 2 for knobs in (Knobs(), PAPER)]
    return f"looked at with a scale of 1/sqrt({small.dim_head}) and {tokens[0]} tokens (there {tokens[1]})"


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.3g}" for value in np.asarray(values, dtype=float).mean(0))
