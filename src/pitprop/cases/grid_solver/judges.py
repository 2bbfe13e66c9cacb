"""How each claim is judged: a function of the stored numbers that returns a verdict and the numbers it rests on."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from pitprop.cases._claims import Judgement, Results
from pitprop.cases.grid_solver.arms import MODULES, VARIANTS
from pitprop.cases.grid_solver.readings import background_at, effect, end, share, shift, show, static, stayed, verdict
from pitprop.cases.grid_solver.statics import FOREGROUND, SWINGING
from pitprop.trials.bisection.sequential import share_interval
from pitprop.trials.interval import interval

MOSTLY = 0.8
"""Share of an effect's energy from which on it is mostly one shift. A convention."""
SMALL = 0.1
"""Relative change that is barely one. A convention."""
ACCUSED = {
    "+ HyperLoRA": "use_hyperlora",
    "+ SolverCrossAttention": "use_solver_context",
    "+ CrossAttentionInjector": "use_cross_attention_context",
}
"""The seed's three, as arms and as knobs."""

Judge = Callable[[Results], Judgement]


def needs(*arms: str) -> Callable[[Judge], Judge]:
    """OPEN where one of the arms was not run on two seeds or more."""

    def wrap(judge: Judge) -> Judge:
        @wraps(judge)
        def judged(results: Results) -> Judgement:
            missing = [name for name in arms if len(results["arms"].get(name, {"seeds": []})["seeds"]) < 2]
            if missing:
                return Judgement("OPEN", f"not measured: {', '.join(missing)} (fewer than 2 seeds)")
            return judge(results)

        return judged

    return wrap


@needs("OLD", *MODULES, "+ all three")
def c1(results: Results) -> Judgement:
    """By the effect of each; where that leaves some of the accused open, by the bisection."""
    harmful, harmless = (
        {arm for arm in ACCUSED if verdict(results, arm) in words}
        for words in (("worse",), ("no difference within margin", "better"))
    )
    if not harmful | harmless == set(ACCUSED) and (found := results["bisection"]) is not None:
        brought = [set(culprit["changes"]) for culprit in found["found"]["bringing"]]
        harmful = {arm for arm, knob in ACCUSED.items() if any(knob in some for some in brought)}
        harmless = {arm for arm, knob in ACCUSED.items() if knob in found["found"]["exonerated"]}
    if not harmful | harmless == set(ACCUSED):
        word = "OPEN"
    else:
        word = "HALF" if harmful and harmless else "CONFIRMED" if harmful else "REFUTED"
    arms = (*MODULES, "+ all three")
    told = "; ".join(f"{arm} {effect(results, arm)}" for arm in arms)
    at_end = ", ".join("{} of {} of {}".format(*stayed(results, arm), arm) for arm in ("OLD", *arms))
    return Judgement(word, f"{told}; background everywhere at the end: {at_end}{_bisected(results)}")


def _bisected(results: Results) -> str:
    if (found := results["bisection"]) is None:
        return ""
    brought = " or ".join(" with ".join(culprit["changes"]) for culprit in found["found"]["bringing"])
    innocent = ", ".join(found["found"]["exonerated"])
    return f"; bisection in {found['runs']} runs: {brought or 'nothing'} brings it, innocent: {innocent or 'none'}"


def c2(results: Results) -> Judgement:
    shares = {
        key: static(results, "injector", f"constant_share_{key}") for key in ("full_1", "full_10", "here_1", "here_10")
    }
    mostly = all(min(values) > MOSTLY for values in shares.values())
    return Judgement(
        "REFUTED" if mostly else "HALF",
        f"of the attention's energy at initialisation {show(shares['full_1'])} is one shift for all cells at width 256 "
        f"({show(shares['full_10'])} with tokens 10 times as large), {show(shares['here_1'])} and "
        f"{show(shares['here_10'])} at width 32: FiLM's shift, not noise from cell to cell",
    )


@needs("OLD", "+ CrossAttentionInjector")
def c3(results: Results) -> Judgement:
    before, after = (static(results, "injector", name) for name in ("probe_before", "probe_after"))
    floor = 1 - np.mean(static(results, "injector", "foreground_share"))
    kept = np.mean(after) - floor > 0.5 * (np.mean(before) - floor)
    harmless = verdict(results, "+ CrossAttentionInjector") in ("no difference within margin", "better")
    return Judgement(
        "REFUTED" if kept and harmless else "HALF" if kept else "OPEN",
        f"a linear probe tells foreground from background at {show(before)} before the injector and {show(after)} "
        f"behind it (guessing: {floor:.2f}); trained, the injector's effect is "
        f"{effect(results, '+ CrossAttentionInjector')}",
    )


def c4(results: Results) -> Judgement:
    own = [static(results, "film", f"film_{name}") for name in ("full", "here")]
    unit = static(results, "film", "film_unit_context")
    parts = max(map(max, own)) < SMALL, max(unit) < SMALL
    return Judgement(
        "CONFIRMED" if all(parts) else "HALF" if any(parts) else "REFUTED",
        f"relative change by the seed's FiLM at its start: {show(own[0])} at width 256 and {show(own[1])} at 32, whose "
        f"pooled contexts are small; {show(unit)} for a context of unit size; FiLM with a zero generator "
        "(`remedies.torch.film`): 0",
    )


def c5(results: Results) -> Judgement:
    less, more, told = [], [], []
    for name, width in (("full", 256), ("here", 32)):
        film, attention, whole = (
            static(results, "film", f"{part}_{name}") for part in ("film", "attention", "injector")
        )
        less.append(max(attention) < min(film))
        more.append(min(whole) > max(film))
        told.append(
            f"at width {width} FiLM {show(film)}, attention alone {show(attention)}, the injector {show(whole)}"
        )
    return Judgement(
        "HALF" if all(less) and all(more) else "CONFIRMED" if all(more) else "REFUTED" if all(less) else "OPEN",
        f"relative change of the model's features at initialisation, {'; '.join(told)} (its norms act on the sum)",
    )


@needs("OLD", "+ HyperLoRA")
def c6(results: Results) -> Judgement:
    full, zero = static(results, "hyperlora", "full"), static(results, "hyperlora", "full_zero_b")
    others = [arm for arm in VARIANTS if len(results["arms"].get(arm, {"seeds": []})["seeds"]) > 1]
    ended = "; ".join(
        f"{arm} {effect(results, arm)}, background everywhere in {{}} of {{}}".format(*stayed(results, arm))
        for arm in ("+ HyperLoRA", *others)
    )
    return Judgement(
        "HALF" if min(full) > 1 and max(zero) == 0 else "OPEN",
        f"at width 256 and the seed's initialisation |h dW| / |h| is {show(full)} (closed form "
        f"{static(results, 'hyperlora', 'full_closed_form')[0]:.1f}), at 32 as scaled "
        f"{show(static(results, 'hyperlora', 'here'))}; with B = 0, as LoRA starts, 0, so that nothing is random at "
        f"the start. Trained: {ended}",
    )


def c7(results: Results) -> Judgement:
    return _exact(results, "none", "no context, so None in the place of tokens' mask and changes")


def c8(results: Results) -> Judgement:
    found = _exact(results, "dict", "a dictionary of changes and cross-attention")
    lost = static(results, "checkpointing", "reentrant_lost")
    return Judgement(
        found.verdict,
        found.evidence + f"; torch's older implementation (`use_reentrant=True`, which the seed doesn't use) drops "
        f"{np.mean(lost):.0%} of the gradients where no direct argument requires one",
    )


def _exact(results: Results, name: str, what: str) -> Judgement:
    largest = max(static(results, "checkpointing", name))
    return Judgement(
        "REFUTED" if largest == 0 else "OPEN",
        f"largest difference of any gradient with and without checkpointing, {what}: {largest:g} "
        f"({len(static(results, 'checkpointing', name))} seeds)",
    )


def c9(results: Results) -> Judgement:
    error = static(results, "checkpointing", "changed_value")
    return Judgement(
        "CONFIRMED" if min(error) > 0.01 else "REFUTED",
        f"a strength that goes from 1/2 to 1 between forward and backward pass: relative error of the gradient "
        f"{show(error)}, and nothing is raised",
    )


@needs("OLD", "bias -0.5")
def c10(results: Results) -> Judgement:
    """Both halves: the bias makes a phase of foreground longer, in OLD or in NEW, and the training is worse for it."""
    found = results["statics"]["swing"]
    *names, new, biased = SWINGING
    longer = [
        np.subtract(found[f"{with_bias}, foreground"], found[f"{without}, foreground"])
        for without, with_bias in (names, (new, biased))
    ]
    backfires = any(min(by) > 0 for by in longer)
    told = verdict(results, "bias -0.5")
    same = told in ("no difference within margin", "better")
    words = "; ".join(
        f"{name} {show(found[f'{name}, step 0'])} before the first step, under {FOREGROUND:g} at the first "
        f"{show(found[f'{name}, foreground'])} evaluations, up to {show(found[f'{name}, largest'])} later"
        for name in SWINGING
    )
    return Judgement(
        "CONFIRMED" if backfires and told == "worse" else "OPEN" if not same else "HALF" if backfires else "REFUTED",
        f"OLD with bias -0.5: {effect(results, 'bias -0.5')}; excess of background on held-out tasks, looked at after "
        f"each of the first 30 steps: {words}: what is untrained says foreground, with the bias and without",
    )


@needs("OLD", "bias -0.5", "bias prior")
def c11(results: Results) -> Judgement:
    verdicts = [verdict(results, arm) for arm in ("bias -0.5", "bias prior")]
    if "worse" in verdicts and "better" not in verdicts:
        word = "CONFIRMED"
    elif set(verdicts) <= {"no difference within margin", "better"}:
        word = "HALF"
    else:
        word = "OPEN"
    return Judgement(
        word,
        "against bias 0: " + "; ".join(f"{arm} {effect(results, arm)}" for arm in ("bias -0.5", "bias prior")),
    )


def c12(results: Results) -> Judgement:
    largest = max(static(results, "average", "largest_difference"))
    old = results["arms"].get("OLD")
    told = ""
    if old is not None and len(old["seeds"]) > 1:
        averaged = [values[-1] for values in old["fg_accuracy"]]
        told = f"; OLD at the end: {show(averaged)} by the average, {show(end(results, 'OLD'))} by the weights"
    return Judgement(
        "REFUTED" if largest == 0 else "OPEN",
        f"losses and weights with and without the average differ by {largest:g}{told}",
    )


@needs("OLD", "half batch", "+ all three", "half batch, all three")
def c13(results: Results) -> Judgement:
    """By the two effects of half the batch, without the modules and with them, and by that of the modules."""
    old, small, three, both = map(
        np.array, _common(results, "OLD", "half batch", "+ all three", "half batch, all three")
    )
    alone, beside, modules = interval(small - old), interval(both - three), interval((three - old + both - small) / 2)
    margin = results["provenance"]["settings"]["margin"]
    no_cause = all(-margin < found.low and found.high < margin for found in (alone, beside))
    word = "CONFIRMED" if no_cause and modules.high < 0 else "REFUTED" if alone.high < -margin else "OPEN"
    return Judgement(
        word,
        f"factorial on {len(old)} seeds, at equal steps, so that half the batch is half the tasks seen too: half the "
        f"batch {shift(small - old)} without the three modules and {shift(both - three)} with them (where accuracy is "
        f"at its floor), the modules {shift((three - old + both - small) / 2)}; background everywhere at the end: "
        + ", ".join(
            f"{share(*stayed(results, arm))} of {arm}"
            for arm in ("OLD", "half batch", "+ all three", "half batch, all three")
        ),
    )


def rises(results: Results, name: str, *, relative: bool = False) -> list[float]:
    """Largest rise of a staged branch's held-out loss over the branch that stays off, seed by seed."""
    found = []
    for looks in results["staging"].values():
        off = {row["after"]: row["held_out_loss"] for row in looks["stays off"]["looks"]}
        over = [(row["held_out_loss"] - off[row["after"]], off[row["after"]]) for row in looks[name]["looks"]]
        found.append(max(rise / base if relative else rise for rise, base in over))
    return found


def c14(results: Results) -> Judgement:
    staging = results["staging"]
    if len(staging) < 2:
        return Judgement("OPEN", "not measured: the staged branches (fewer than 2 seeds)")

    def late(name: str) -> np.ndarray:
        ends = [[s[branch]["looks"][-1]["held_out_loss"] for branch in (name, "stays off")] for s in staging.values()]
        return np.array([ours - off for ours, off in ends])

    def alarms(name: str) -> int:
        return sum("stage-switch-shock" in looks[name]["alarms"] for looks in staging.values())

    rows = "; ".join(
        f"{name}: {show(rises(results, name))}, after 60 steps {shift(late(name))}, `stage-switch-shock` in "
        f"{alarms(name)}"
        for name in ("hard", "ramp", "zero")
    )
    # Off until N leaves the start alone by construction; whether switching on is safe is the other half.
    word = "HALF" if interval(late("hard")).low > 0 else "OPEN"
    return Judgement(
        word, f"largest rise of the held-out loss over the branch that stays off, {len(staging)} seeds: {rows}"
    )


def c15(results: Results) -> Judgement:
    changes = {scale: values for scale, values in results["statics"]["identity"].items()}
    least = min(min(values) for values in changes.values())
    return Judgement(
        "HALF" if least > SMALL else "CONFIRMED",
        "the injector with attention and feed-forward part at exactly 0 changes features of size "
        + ", ".join(f"{scale} by {show(values)}" for scale, values in changes.items())
        + " of themselves: it must be bypassed, as `Staged` does; HyperLoRA with B = 0 is the identity by itself",
    )


def c16(results: Results) -> Judgement:
    skipped, times = static(results, "decay", "skipped"), static(results, "decay", "times_zero")
    split = min(skipped) == 1 and max(times) < 1
    return Judgement(
        "HALF" if split else "OPEN",
        f"weights after 200 steps of AdamW while off: {show(skipped)} of before where the flag skips the module, "
        f"{show(times)} where it multiplies by 0 ((1 - lr wd)^200 = {static(results, 'decay', 'expected')[0]:.3f})",
    )


@needs("OLD", "NEW", "option C")
def c17(results: Results) -> Judgement:
    """By shares with 95 % intervals: no collapse in a few runs is no proof of none."""
    (kept, runs), (new, of_new) = stayed(results, "option C"), stayed(results, "NEW")
    fewer = share_interval(kept, runs)[1] < share_interval(new, of_new)[0]
    return Judgement(
        "REFUTED" if kept > runs / 2 else "CONFIRMED" if kept == 0 and fewer else "OPEN",
        f"option C ends with background everywhere in {share(kept, runs)} runs, NEW in {share(new, of_new)}; against "
        f"OLD {effect(results, 'option C')}",
    )


@needs("OLD")
def c18(results: Results) -> Judgement:
    seen = {arm: background_at(results, arm) for arm in results["arms"]}
    early = sum(int(found.any(1).sum()) for found in seen.values())
    left = sum(int((found.any(1) & ~found[:, -1]).sum()) for found in seen.values())
    runs = sum(len(found) for found in seen.values())
    old = seen["OLD"]
    return Judgement(
        "REFUTED" if old.any(1).all() and not old[:, -1].any() else "HALF" if old.any() else "CONFIRMED",
        f"{early} of {runs} runs of all arms say background everywhere at some evaluation, "
        f"{old.any(1).sum()} of {len(old)} of OLD; {left} of the {early} have left it by the end",
    )


@needs("OLD", "softmax")
def c19(results: Results) -> Judgement:
    found = verdict(results, "softmax")
    word = "CONFIRMED" if found == "no difference within margin" else "HALF" if found == "better" else "OPEN"
    return Judgement(word, f"softmax in the place of stablemax: {effect(results, 'softmax')}")


def _common(results: Results, *names: str) -> list[list[Any]]:
    """Foreground accuracy of several arms at the seeds that all of them have."""
    every = [results["arms"][name]["seeds"] for name in names]
    common = sorted(set.intersection(*map(set, every)))
    return [
        [end(results, name)[seeds.index(seed)] for seed in common] for name, seeds in zip(names, every, strict=True)
    ]
