"""What the README says of the numbers in words: a text whose every number comes from the stored results."""

from statistics import fmean

from pitprop.cases._claims import Results
from pitprop.cases.set_diffusion.arms import APART, LISTED, ORIGINAL, SYNCHRONISED
from pitprop.cases.set_diffusion.judges import effect, said, used
from pitprop.cases.set_diffusion.recipe import recipe

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
  {gap:.1g} of the loss, and where it is positive in most batches, the rule is silent. `pitprop check` finds the missing
  average in the program, before the first step.

### Every arm

Effects on context use, margin {margin:g}; intervals hold together within a control.

| arm | against | effect | verdict | on classes never trained on | on the loss |
|---|---|---|---|---|---|
{rows}
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
        normal=said(results, "synchronised, adaLN normal"),
        whole=said(results, "synchronised, the whole list"),
        margin=recipe.margin,
        rows="\n".join(_row(results, arm) for arm in [*list(APART)[1:], *_of_synchronised(results)]),
    )


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
