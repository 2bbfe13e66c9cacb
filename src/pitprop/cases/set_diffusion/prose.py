"""What the README says of the numbers in words: a text whose every number comes from the stored results."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np

from pitprop.cases._claims import Results
from pitprop.cases.set_diffusion.arms import APART, LISTED, ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.judges import effect, last, said, show, used
from pitprop.cases.set_diffusion.recipe import recipe
from pitprop.cases.set_diffusion.statics import LIVE

COLUMNS = (ORIGINAL, SYNCHRONISED, "real")

TEXT = """
* **What collapses is the use of the context, and the cause is that replicas never hear of each other.** After {steps}
  steps the original's context saves {original:.1%} of the held-out loss, with averaged gradients {synchronised:.1%}
  (paired over {seeds} seeds: {repair}). {used_original}; {used_synchronised}. The original's replicas are
  {spread:.2g} apart after {spread_steps} steps, in the parameters' units; with averaged gradients {none:g}. Of classes
  never trained on less can be said: {novel}.
* **Nothing on the seed's list repairs it.** Of its {num_listed} changes, the urgent ones together and the whole list,
  {better} are better than the original, and {same} make no difference within the margin. A learnable null context gives
  {null} (nothing ever reads it).
* **adaLN-Zero is a delay of two steps.** The encoder's gradient is exactly zero at steps 0 and 1, and then about as
  large as with another initialisation.
* **On a system that works** the seed's changes aren't shown to help either: {normal}; {whole}. {used_normal};
  {used_whole}.
* **The rule `condition-ignored`**, asked on {batches} fresh batches of each trained model, speaks at {alarms} of
  {seeds} originals and at {false_alarms} of {seeds} synchronised ones. It sees signs, not sizes: an original's gap is
  {gap:.1g} of the loss, and where it is positive in most batches, the rule is silent. Live, on the training batches of
  every step it speaks at {live_1}; of every second, at {live_2};
  of every fourth, at {live_4}. An original is asked on one replica's batch of two sets, the others on all eight.
  `pitprop check` finds the missing average in the program, before the first step.
* **The context's size says nothing.** Its norm shrinks to {norm_original} of what it was where it isn't used and to
  {norm_synchronised} where it is, its standard deviation to {std_original} and {std_synchronised}. Between sets the
  deviation is {between_first} of that before training, then {between_original} and {between_synchronised}.
* **Depth.** {depth}. Over six blocks the gradient's factor from the last to the first is {deep_encoder} in
  the encoder and {deep_dit} in the DiT.
* **Other ways in.** {ways}.

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
    listed = [effect(results, arm)["verdict"] for arm in (*LISTED, "all urgent", "the whole list")]
    return TEXT.format(
        steps=results["provenance"]["settings"]["steps"],
        seeds=len(results["provenance"]["settings"]["seeds"]),
        original=use(ORIGINAL),
        synchronised=use(SYNCHRONISED),
        repair=said(results, SYNCHRONISED),
        novel=said(results, SYNCHRONISED, "novel_context_use"),
        used_original=used(results, ORIGINAL),
        used_synchronised=used(results, SYNCHRONISED),
        spread=fmean(spread[ORIGINAL]),
        spread_steps=spread["steps"],
        none=fmean(spread[SYNCHRONISED]),
        num_listed=len(LISTED),
        better=sum(verdict == "better" for verdict in listed),
        same=sum(verdict == "no difference within margin" for verdict in listed),
        null="the same bits at every seed" if results["null_is_idle"] else said(results, "learnable null context"),
        used_normal=used(results, "synchronised, adaLN normal"),
        used_whole=used(results, "synchronised, the whole list"),
        batches=seen[ORIGINAL]["rows"],
        alarms=sum(at is not None for at in seen[ORIGINAL]["fired_at"]),
        false_alarms=sum(at is not None for at in seen[SYNCHRONISED]["fired_at"]),
        gap=fmean(seen[ORIGINAL]["gap"]),
        **{f"live_{every}": _spoke(results, every) for every in LIVE},
        drawn="; ".join(_nearer(results, kind) for kind in results["generated"]["classes"]),
        depth="; ".join(_both(results, depth) for depth in ("depth 1", "depth 6")),
        deep_encoder=_whole_factor(results, "encoder"),
        deep_dit=_whole_factor(results, "dit"),
        ways="; ".join(_both(results, arm) for arm in ("context dropout", "real shifts", "cross-attention")),
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
        normal=said(results, "synchronised, adaLN normal"),
        whole=said(results, "synchronised, the whole list"),
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
    def change(number: str) -> str:
        found = (
            np.array([fmean(own[number].values()) for own in results["generated"][arm][kind]])
            for arm in (SYNCHRONISED, ORIGINAL)
        )
        return show(np.subtract(*found))

    return f"{kind}, distance {change('distance')}, share recognised {change('recognised')}"


def _both(results: Results, arm: str) -> str:
    return f"{said(results, arm)}; {said(results, f'{SYNCHRONISED}, {arm}')}"


def _whole_factor(results: Results, part: str) -> str:
    factors = results["statics"]["blocks"]["depth 6, adaLN zero, trained"][part]
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
