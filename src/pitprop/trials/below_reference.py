"""A run that ends below what it should keep: the failure that a recipe declares, for no rule of a trace can know it.

A second stage that starts from a trained model is the example: it may learn all the way, and never get back to where
it was put down.
"""

import math
from collections.abc import Sequence

from pitprop._errors import PitpropError, nearest
from pitprop.records import RUN, Finding
from pitprop.trials.recipe import Recipe
from pitprop.trials.references import references_of

NAME = "below-reference"


def below_reference(recipe: Recipe, reference: str, curve: Sequence[Sequence[float | str]]) -> list[Finding]:
    """The failure of a run whose metric ends worse than `recipe.keeps` by more than the margin, or undefined.

    Args:
        recipe: What was trained; without `keeps` there is no finding.
        reference: Where the recipe is, to make its references.
        curve: The metric as `[step, value]` pairs, the end last.

    Returns:
        One finding at the whole run or none. Its onset is the step from which on the metric stayed below.

    Raises:
        PitpropError: `keeps` names no reference, or one without the metric.
    """
    if not recipe.keeps:
        return []
    kept = _value(recipe, reference)
    sign = 1 if recipe.higher_is_better else -1
    onset = None
    for step, value in curve:
        below = not sign * (float(value) - kept) >= -recipe.margin  # true of NaN as well
        onset = (int(step) if onset is None else onset) if below else None
    if onset is None:
        return []
    end = float(curve[-1][1])
    return [
        Finding(
            rule=NAME,
            severity="failure",
            site=RUN,
            onset=onset,
            detected=int(curve[-1][0]),
            message=f"{recipe.metric} ends at {end:.4g}, and `{recipe.keeps}`, which the run should keep, has "
            f"{kept:.4g}; margin {recipe.margin:g}.",
            evidence={recipe.metric: end, "reference": kept},
        )
    ]


def _value(recipe: Recipe, reference: str) -> float:
    made = references_of(reference)
    known = {name: float(metrics[recipe.metric]) for name, metrics in made.items() if recipe.metric in metrics}
    value = known.get(recipe.keeps, math.nan)
    if math.isnan(value):
        raise PitpropError(
            f"The recipe should keep `{recipe.keeps}`, and no reference of this name has a `{recipe.metric}`.",
            means="A run counts as collapsed when it ends below that reference.",
            do=f"name one of the recipe's `references`: {nearest(recipe.keeps, sorted(known))}",
        )
    return value
