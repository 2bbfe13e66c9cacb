"""How each claim is judged: a function of the stored numbers that returns a verdict and the numbers it rests on."""

import numpy as np

from pitprop.cases._claims import Judgement, Results
from pitprop.cases.timestep_attack.weights import INITIAL, PILOT
from pitprop.trials.interval import interval

COLLAPSED = 0.9
"""Weight of one timestep over which the rest counts as gone, as in the rule."""
FAR = 5.0
"""Ratio from which one loss is much smaller than another. The seed's example has 10; a convention."""
ENOUGH, CLAIMED = 100, 0.01
"""Pairs without which a gain as small as the seed's, 1 %, is not judged."""
SAME, NEAR = 0.01, 0.05
"""Total variation under which two weightings are the same, and near. Conventions."""
END_TO_END = ("kl", "dro", "uncertainty")
"""Modes that train the weights by an objective with the losses in it and an interior optimum."""
WITH_NETWORK = ("learnable", "separate", "importance", *END_TO_END)


def show(weights) -> str:
    """Weights in brackets."""
    return "[" + " ".join(f"{weight:.3f}" for weight in weights) + "]"


def motion(a, b) -> float:
    """Total variation, 0 to 1."""
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).sum() / 2)


def learned(results: Results) -> list[dict]:
    """Streams of the mode `learnable`, one per seed."""
    found = [(name, stream) for name, stream in results["streams"].items() if stream["stream"]["mode"] == "learnable"]
    return [stream for _, stream in found]


def ends(results: Results) -> np.ndarray:
    """Last weights of `learnable`, `[seed, timestep]`."""
    return np.array([stream["weights"][-1] for stream in learned(results)])


def starts(results: Results) -> np.ndarray:
    """First weights of `learnable`, `[seed, timestep]`."""
    return np.array([stream["weights"][0] for stream in learned(results)])


def losses(results: Results) -> np.ndarray:
    """Mean losses under the fixed schedule."""
    return np.array(results["streams"]["fixed"]["losses"])


def after(results: Results, images: int) -> np.ndarray:
    """Motion of `learnable` after so many images, one number per seed; the last where there were fewer."""
    return np.array(
        [motion(s["weights"][min(images, len(s["weights"]) - 1)], s["weights"][0]) for s in learned(results)]
    )


def mean(values: np.ndarray) -> str:
    """Mean with its 95 % interval."""
    effect = interval(np.asarray(values, dtype=float))
    return f"{np.mean(values):.3g} [{effect.low:.3g}, {effect.high:.3g}]"


def effect_of(results: Results, arm: str, metric: str) -> dict:
    """A stream against `fixed`, image by image."""
    return next(c for c in results["comparisons"] if c["arm"] == arm and c["metric"] == metric)


def differs(found: dict) -> bool:
    """Whether any pair does; where none does, the interval is a point, which says nothing of its width."""
    return (found["low"], found["effect"], found["high"]) != (0, 0, 0)


def said(results: Results, arm: str, metric: str) -> str:
    """That comparison in words."""
    found = effect_of(results, arm, metric)
    if not differs(found):
        return f"{metric}: no image differs, of {found['pairs']} ({found['verdict']})"
    low, high = ("?" if found[side] is None else f"{found[side]:+.2g}" for side in ("low", "high"))
    return f"{metric} {found['effect']:+.2g} [{low}, {high}] ({found['verdict']})"


def c1(results: Results) -> Judgement:
    final, values, images = ends(results), losses(results), _images(results)
    if long := results.get("long_run"):
        final, values, images = np.array(long["weights"])[:, -1], np.array(long["losses"]), long["marks"][-1]
    lowest, gone = int(values.argmin()), final.max(1) > COLLAPSED
    right = gone & (final.argmax(1) == lowest)
    replayed = results["replays"]["path"][-1]
    word = "CONFIRMED" if right.all() else "HALF" if gone.any() or max(replayed) > COLLAPSED else "REFUTED"
    return Judgement(
        word,
        f"{gone.sum()} of {len(gone)} networks have over {COLLAPSED:g} on one timestep after {images} images, "
        f"{right.sum()} on timestep {lowest}, the one of the smallest mean loss; mean weights {show(final.mean(0))}; "
        f"1000 images of the first 100's losses, replayed: {show(replayed)}",
    )


def c2(results: Results) -> Judgement:
    shift = float(np.abs(np.array([1, 0, 0, 0, 0]) - np.array(INITIAL)).sum())
    return Judgement(
        "CONFIRMED" if round(shift, 3) == 1.9 else "REFUTED",
        f"L1 distance {shift:.2f}, of at most 2: a total variation of {shift / 2:.2f}, of at most 1",
    )


def c3(results: Results) -> Judgement:
    values = losses(results)
    ratio = values[-1] / values[0]
    word = "CONFIRMED" if ratio > FAR else "HALF" if ratio > 1 else "REFUTED"
    return Judgement(word, f"shares of the self-attention loss {show(values / values.sum())}: ratio {ratio:.2f}")


def c4(results: Results) -> Judgement:
    found = results["small_weight"]
    return Judgement(
        "HALF",
        f"w = (0.999, 0.001): d/dw is {found['weight'][1]:.3g} for the small one, its loss, and doesn't vanish; "
        f"d/dlogit {found['logit'][1]:.2g} and the share that reaches the latent, {found['latent'][1]:.3g}, do",
    )


def c5(results: Results) -> Judgement:
    first, last, values, images = starts(results), ends(results), losses(results), _images(results)
    if long := results.get("long_run"):
        weights = np.array(long["weights"])
        first, last, values, images = weights[:, 0], weights[:, -1], np.array(long["losses"]), long["marks"][-1]
    change, lowest = (last @ values) / (first @ values) - 1, int(values.argmin())
    before, after = first[:, lowest], last[:, lowest]
    word = "REFUTED" if change.mean() >= 0 else "HALF" if (change >= 0).any() or (after < before).any() else "CONFIRMED"
    return Judgement(
        word,
        f"change of sum w L under the same losses: {mean(100 * change)} % over {len(change)} networks after {images} "
        f"images; the weight of timestep {lowest}, of the smallest mean loss, goes from {before.mean():.2g} to "
        f"{after.mean():.2g}, and ends lower than it began in {(after < before).sum()}",
    )


def c6(results: Results) -> Judgement:
    values = losses(results)
    start = np.array(INITIAL) @ values

    def towards(mode: str) -> float:
        return float(np.array(results["streams"][mode]["weights"][-1]) @ values / start - 1)

    minimised, maximised = towards("learnable"), towards("dro")
    return Judgement(
        "HALF" if minimised < 0 <= maximised or minimised < maximised else "OPEN",
        f"sum w L against the start: learnable {minimised:+.1%}, dro {maximised:+.1%}, importance "
        f"{towards('importance'):+.1%}; so a maximum over w asks for what the seed wants and a detached minimum "
        "doesn't. "
        f"Largest loss, against fixed: {said(results, 'dro', 'worst_loss')}, "
        f"{said(results, 'importance', 'worst_loss')}",
    )


def c7(results: Results) -> Judgement:
    dead, own, wired = results["census"]["dead"], results["initial_mismatch"], results["wired"]
    never = bool(dead) and all("cross_attention" in name for name in dead)
    moves = wired["total_variation"] > 0 and not results["census"]["wired"]
    return Judgement(
        "REFUTED" if never and moves else "OPEN",
        f"all {len(dead)} tensors of the cross-attention network have no gradient, for nothing reads its "
        "weights; read by "
        f"the loss, they move by {wired['total_variation']:.2g} in {wired['images']} images. The seed's shift of "
        "0.0036 "
        f"is how far a fresh network is from its schedule: median {own['median']:.2g}, 10 to 90 % {own['low']:.2g} to "
        f"{own['high']:.2g} of {own['seeds']} seeds",
    )


def c8(results: Results) -> Judgement:
    stream, names = results["streams"]["learnable_detached"], results["census"]["detached"]
    far = motion(stream["weights"][0], stream["weights"][-1])
    frozen = far == 0 and any("self_attention" in name for name in names)
    return Judgement(
        "REFUTED" if frozen else "OPEN",
        f"it prevents the collapse (motion {far:g}) because nothing trains the network: all {len(names)} tensors "
        "have no "
        "gradient; a fixed schedule with extra code",
    )


def c9(results: Results) -> Judgement:
    stream = results["streams"]["learnable_detached"]
    still = motion(stream["weights"][0], stream["weights"][-1]) == 0
    note = stream["detection"]["severity"] == "note"
    return Judgement(
        "VACUOUS" if still else "OPEN",
        "weights that nothing trains pass the test whatever they are good for"
        + (f"; the rule says so at iteration {stream['detection']['alarm']:.0f}, as a note" if note else ""),
    )


def c10(results: Results) -> Judgement:
    seed, own = results["replays"]["seed_shares"], results["replays"]
    near = seed["at_10"] < NEAR
    return Judgement(
        "REFUTED" if near else "OPEN",
        f"the collapse under the seed's own loss shares, after 10 images: {show(seed['path'][1])}, total variation "
        f"{seed['at_10']:.3f} from the pilot schedule {show(PILOT)}; after 1000: {show(seed['path'][-1])}. It is "
        "a stop "
        f"on the way. Under the losses measured here the path passes it at {own['nearest']['total_variation']:.3f} "
        f"(image {own['nearest']['image']})",
    )


def c11(results: Results) -> Judgement:
    early, late = after(results, 10), after(results, _images(results))
    growing = bool((late > early).all() and (early > SAME).all())
    longer = ""
    if long := results.get("long_run"):
        moved = [motion(path[-1], path[0]) for path in long["weights"]]
        longer = f", {mean(np.array(moved))} after {long['marks'][-1]}"
    return Judgement(
        "HALF" if growing else "OPEN",
        f"the same motion from the first images on: total variation to the start {mean(early)} after 10 images, "
        f"{mean(late)} after {_images(results)}{longer}; iterations count, not the scale",
    )


def c12(results: Results) -> Judgement:
    arm = "fixed (pilot schedule)"
    found = [effect_of(results, arm, metric) for metric in ("success", "transfer")]
    enough = all(f["pairs"] >= ENOUGH and f["low"] is not None for f in found)
    gained, excluded = any(f["low"] > 0 for f in found if enough), all(f["high"] < CLAIMED for f in found if enough)
    word = "OPEN" if not enough else "CONFIRMED" if gained else "REFUTED" if excluded else "OPEN"
    return Judgement(
        word,
        f"pilot against initial schedule, {_images(results)} paired images: {said(results, arm, 'success')}, "
        f"{said(results, arm, 'transfer')}, {said(results, arm, 'l2')}",
    )


def c13(results: Results) -> Judgement:
    stream = results["streams"]["importance"]
    target = np.array(stream["losses"]) / sum(stream["losses"])
    far, start = motion(stream["weights"][-1], target), motion(stream["weights"][0], target)
    return Judgement(
        "HALF" if far < start else "REFUTED",
        f"weights {show(stream['weights'][-1])} after {_images(results)} images, L / sum L = {show(target)}: total "
        f"variation {start:.3f} at the start, {far:.3f} at the end; it works and is one line of loss, no refactor. "
        f"Against fixed: {said(results, 'importance', 'success')}, {said(results, 'importance', 'transfer')}",
    )


def c14(results: Results) -> Judgement:
    final = {mode: results["streams"][mode]["weights"][-1] for mode in END_TO_END}
    interior = [mode for mode, weights in final.items() if max(weights) < COLLAPSED]
    collapses = bool((ends(results).max(1) > COLLAPSED).any())  # before that, "in the interior" says nothing
    return Judgement(
        "REFUTED" if interior and collapses else "OPEN",
        f"learnable {show(ends(results).mean(0))}; "
        + "; ".join(f"{mode} {show(weights)}" for mode, weights in final.items())
        + f" after {_images(results)} images: {len(interior)} of {len(final)} learned in the interior",
    )


def c15(results: Results) -> Judgement:
    adam, plain = (results["replays"]["gamma"][name] for name in ("adam", "sgd"))
    difference, moved = np.array(adam["difference"]), np.array(adam["moved"])
    small, large = adam["ends"].values()
    same = small == large and difference.max() < SAME
    marks = ", ".join(
        f"{mean(far)} after {mark} images, both having moved by {on_average:.2g}"
        for mark, far, on_average in zip(adam["marks"], difference, moved.mean(1), strict=True)
    )
    return Judgement(
        "CONFIRMED" if same else "HALF" if difference.max() < moved.mean() / 2 else "REFUTED",
        f"Adam, gamma 1 against 100, {sum(small)} networks, replayed: total variation {marks}; timestep {_most(small)} "
        f"has the largest weight at the end in {max(small)} and timestep {_most(large)} in {max(large)}. Plain descent "
        f"of the same rate moves by {plain['1']:.2g} and {plain['100']:.2g} in {adam['marks'][0]} images",
    )


def _most(counts: list[int]) -> int:
    return int(np.argmax(counts))


def _images(results: Results) -> int:
    return results["provenance"]["settings"]["images"]
