"""What the README says of the numbers in words: a text whose every number comes from the stored results."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np

from pitprop.cases._claims import Results
from pitprop.cases.set_diffusion.arms import AGAIN, APART, LISTED, LONG, ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.judges import both, effect, last, said, show, used
from pitprop.cases.set_diffusion.knobs import Knobs
from pitprop.cases.set_diffusion.recipe import recipe
from pitprop.cases.set_diffusion.statics import LIVE
from pitprop.trials.interval import interval

COLUMNS = (ORIGINAL, SYNCHRONISED, "real")
MEASURED = {
    "context_use": "context use",
    "novel_context_use": "context use on classes never trained on",
    "eval_loss": "held-out loss",
}
CAUSE = {
    "worse": "As many sets don't make up for all of it: it takes the larger batch.",
    "no difference within margin": "As many sets make up for all of it.",
    "better": "As many sets more than make up for it.",
    "inconclusive": "Whether as many sets make up for all of it isn't settled.",
}
"""By the verdict on the original that has seen as many sets, against averaged gradients."""
PACE = "What is lost is pace, at least in part: with as many sets the original uses its context at most seeds, too."
FLOOR = (
    " That says little of the list: the original hasn't begun to use its context by then, and does so later without it."
)

TEXT = """
* **What collapses is the use of the context: replicas that never hear of each other learn from {own} of the batch's
  {all} sets each.** By step {steps} the original's context saves {original:.1%} of the held-out loss, with averaged
  gradients {synchronised:.1%} (paired over {seeds} seeds: {repair}). {used_original}; {used_synchronised}. The
  original's replicas are {spread:.2g} apart after {spread_steps} steps, in the parameters' units; with averaged
  gradients {none:g}. Of classes never trained on less can be said: {novel}.
* {cause} Such a replica is a training with a batch of {own}: in as many steps it also sees fewer sets. Trained for
  {long} steps, until it has seen as many, the original's context saves {long_use:.1%}; against averaged gradients:
  {long_said}. {used_long}. Context use by sets seen, means over the seeds: {by_sets}. The learning rate was doubled on
  a seed of its own (100), so that averaging uses its context within 1000 steps; none was sought for a batch of {own}.
* **Of the seed's list, {using} makes the original use its context in {steps} steps.** Of its {num_listed} changes, the
  urgent ones together and the whole list, {better} are better than the original, and {same} make no difference within
  the margin.{floor} A learnable null context gives {null} (nothing ever reads it).
* **adaLN-Zero is a delay of two steps.** The encoder's gradient is exactly zero at steps 0 and 1, and then about as
  large as with another initialisation.
* **On a system that works**, of the {num_again} changes of the seed's that were tried, {again_better} are better:
  {again}. {used_normal}; {used_whole}.
* **What harms.** Worse than its control is, outside of chance, {harm}. {harm_drawn}
* **The rule `condition-ignored`**, asked on {batches} fresh batches of each trained model, speaks at {alarms} of
  {seeds} originals and at {false_alarms} of {seeds} synchronised ones. It sees signs, not sizes: an original's gap is
  {gap:.1g} of the loss, and where it is positive in most batches, the rule is silent. Live, on the training batches of
  every step it speaks at {live_1}; of every second, at {live_2};
  of every fourth, at {live_4}. An original is asked on one replica's batch of two sets, the others on all eight.
  `pitprop check` finds the missing average in the program, before the first step.
* **The context's size says nothing.** Its norm shrinks to {norm_original} of what it was where it isn't used and to
  {norm_synchronised} where it is, its standard deviation to {std_original} and {std_synchronised}. Between sets the
  deviation is {between_first} of that before training, then {between_original} and {between_synchronised}.
* **Depth.** {depth}. Over six untrained blocks the gradient's factor from the last to the first is {deep_encoder} in
  the encoder and {deep_dit} in the DiT (adaLN normal; with zeros nothing comes through before the first step).
* **Context dropout, and the shifts that SPT is named after.** {ways}.

### Every arm

Effects on context use, margin {margin:g}; intervals hold together within a control.

| arm | against | effect | verdict | on classes never trained on | on the loss |
|---|---|---|---|---|---|
{rows}

### New images, class by class

Fréchet distance to the real images of the class in a small classifier's features, and the share that the classifier
takes for the class; means over the seeds. Each image is drawn from the six others of its set; "real" are the sets' own
images, as many. After {steps} steps no arm draws its class well: a tenth would be recognised by chance. Averaged
gradients against the original, paired over the seeds: {drawn}.

| class | original | synchronised | real |
|---|---|---|---|
{images}
"""


def prose(results: Results) -> str:
    """The text with its numbers, means over the seeds."""

    def use(arm: str) -> float:
        return fmean(results["arms"][arm]["context_use_last"])

    spread, seen = results["replica_spread"], results["statics"]["detection"]
    again = [
        "synchronised, adaLN normal",
        "synchronised, the whole list",
        *(f"{SYNCHRONISED}, {name}" for name in AGAIN),
    ]
    named = (*LISTED, "all urgent", "the whole list")
    listed = [effect(results, arm)["verdict"] for arm in named]
    return TEXT.format(
        steps=results["provenance"]["settings"]["steps"],
        seeds=len(results["provenance"]["settings"]["seeds"]),
        original=use(ORIGINAL),
        synchronised=use(SYNCHRONISED),
        repair=said(results, SYNCHRONISED),
        novel=said(results, SYNCHRONISED, "novel_context_use"),
        own=Knobs().batch_size // Knobs().replicas,
        all=Knobs().batch_size,
        cause=_cause(results),
        long=results["provenance"]["settings"]["steps"] * Knobs().replicas,
        long_use=use(LONG),
        long_said=both(results, LONG),
        used_long=used(results, LONG),
        by_sets=_by_sets(results),
        floor=FLOOR if _uses(results, LONG) else "",
        num_again=len(again),
        again_better=sum(effect(results, arm)["verdict"] == "better" for arm in again),
        again="; ".join(both(results, arm) for arm in again),
        harm=_harm(results),
        harm_drawn=_harm_drawn(results),
        used_original=used(results, ORIGINAL),
        used_synchronised=used(results, SYNCHRONISED),
        spread=fmean(spread[ORIGINAL]),
        spread_steps=spread["steps"],
        none=fmean(spread[SYNCHRONISED]),
        using=" and ".join(arm for arm in named if _uses(results, arm)) or "nothing",
        num_listed=len(LISTED),
        better=sum(verdict == "better" for verdict in listed),
        same=sum(verdict == "no difference within margin" for verdict in listed),
        null="the same bits at every seed" if results["null_is_idle"] else said(results, "learnable null context"),
        used_normal=used(results, again[0]),
        used_whole=used(results, again[1]),
        batches=seen[ORIGINAL]["rows"],
        alarms=sum(at is not None for at in seen[ORIGINAL]["fired_at"]),
        false_alarms=sum(at is not None for at in seen[SYNCHRONISED]["fired_at"]),
        gap=fmean(seen[ORIGINAL]["gap"]),
        **{f"live_{every}": _spoke(results, every) for every in LIVE},
        drawn="; ".join(_nearer(results, kind) for kind in results["generated"]["classes"]),
        depth=_synchronised(results, "depth 1"),
        deep_encoder=_whole_factor(results, "encoder"),
        deep_dit=_whole_factor(results, "dit"),
        ways=_synchronised(results, "context dropout", "real shifts"),
        images="\n".join(_images(results)),
        **{
            f"{name}_{arm}": show(last(results, arm, metric))
            for name, metric in (
                ("norm", "context_norm_kept"),
                ("std", "context_std_kept"),
                ("between", "between_set_share"),
            )
            for arm in (ORIGINAL, SYNCHRONISED)
        },
        between_first=show(last(results, ORIGINAL, "between_set_share_first")),
        margin=recipe.margin,
        rows="\n".join(_row(results, arm) for arm in [*list(APART)[1:], *_of_synchronised(results)]),
    )


def _spoke(results: Results, every: int) -> str:
    def at(arm: str, name: str) -> str:
        steps = results["statics"]["live"][arm][str(every)]
        found = sorted(step for step in steps if step is not None)
        when = f" (first at step {found[0]}, last at {found[-1]})" if found else ""
        return f"{len(found)} of {len(steps)} {name}{when}"

    return f"{at(ORIGINAL, 'originals')} and {at(SYNCHRONISED, 'synchronised ones')}"


def _nearer(results: Results, kind: str) -> str:
    distance, recognised = (show(_change(results, kind, number)) for number in ("distance", "recognised"))
    return f"{kind}, distance {distance}, share recognised {recognised}"


def _change(results: Results, kind: str, number: str) -> np.ndarray:
    """Averaged gradients less the original, by seed, the mean over the classes."""
    found = (
        np.array([fmean(own[number].values()) for own in results["generated"][arm][kind]])
        for arm in (SYNCHRONISED, ORIGINAL)
    )
    return np.subtract(*found)


def _synchronised(results: Results, *arms: str) -> str:
    return "; ".join(both(results, f"{SYNCHRONISED}, {arm}") for arm in arms)


def _uses(results: Results, arm: str) -> bool:
    """Whether most of its trainings come to use the context."""
    steps = results["arms"][arm]["steps_until_used"]
    return sum(step is not None for step in steps) > len(steps) / 2


def _cause(results: Results) -> str:
    """What a replica that has seen as many sets says of the cause."""
    settled = CAUSE[effect(results, LONG)["verdict"]]
    return f"**{PACE}** {settled}" if _uses(results, LONG) else f"**{settled}**"


def _by_sets(results: Results) -> str:
    """At each quarter of the training, the original's replica beside the averaged training that saw as many sets."""
    long, short = (results["arms"][arm]["context_use_curve"] for arm in (LONG, SYNCHRONISED))
    quarter, sets = max(1, (len(short) - 1) // 4), results["provenance"]["settings"]["every"] * Knobs().batch_size
    return "; ".join(
        f"{at * sets} sets, original {long[at * Knobs().replicas]:.2g}, averaged {short[at]:.2g}"
        for at in range(quarter, len(short), quarter)
    )


def _harm(results: Results) -> str:
    worse = [
        f"{said(results, c['arm'], c['metric'])} by {MEASURED[c['metric']]}, against {c['control']}"
        for c in results["comparisons"]
        if c["verdict"] == "worse"
    ]
    return "; ".join(worse) or "no arm"


def _harm_drawn(results: Results) -> str:
    found = [
        f"{kind}, {said_so} {show(values)}"
        for kind in results["generated"]["classes"]
        for said_so, number, sign in (("distance", "distance", 1), ("share recognised", "recognised", -1))
        if interval(sign * (values := _change(results, kind, number))).low > 0
    ]
    return f"Averaging draws worse images, paired over the seeds: {'; '.join(found)}." if found else ""


def _whole_factor(results: Results, part: str) -> str:
    factors = results["statics"]["blocks"]["six blocks, adaLN normal, untrained"][part]
    return show(np.prod(factors, 1))


def _images(results: Results) -> Iterator[str]:
    found = results["generated"]
    for kind, classes in found["classes"].items():
        for k in map(str, classes):
            cells = [_image([found[arm][kind]] if arm == "real" else found[arm][kind], k) for arm in COLUMNS]
            yield f"| {k}{'' if kind == 'trained classes' else ', never trained on'} | {' | '.join(cells)} |"


def _image(by_seed: Sequence[Mapping[str, Mapping[str, float]]], k: str) -> str:
    return f"{fmean(own['distance'][k] for own in by_seed):.3g}, {fmean(own['recognised'][k] for own in by_seed):.0%}"


def _of_synchronised(results: Results) -> list[str]:
    seen = [c["arm"] for c in results["comparisons"] if c["metric"] == "context_use"]
    return [arm for arm in seen if arm not in APART]


def _row(results: Results, arm: str) -> str:
    found = effect(results, arm)
    others = [
        f"{effect(results, arm, metric)['effect']:+.2g} ({effect(results, arm, metric)['verdict']})"
        for metric in ("novel_context_use", "eval_loss")
    ]
    return f"| {arm} | {found['control']} | {_interval(found)} | {found['verdict']} | {' | '.join(others)} |"


def _interval(found: dict) -> str:
    low, high = ("?" if found[side] is None else f"{found[side]:+.2g}" for side in ("low", "high"))
    return f"{found['effect']:+.2g} [{low}, {high}]"
