"""Two rounds: every arm on a few seeds, then the best again on seeds that did not choose them."""

from collections.abc import Callable, Sequence

from pitprop._errors import PitpropError
from pitprop.records import Comparison
from pitprop.trials.conclude import winners
from pitprop.trials.execute import Results
from pitprop.trials.judge import judge
from pitprop.trials.plan import Arm, Plan
from pitprop.trials.progress import Meter
from pitprop.trials.recipe import Recipe
from pitprop.trials.run import RunSpec

SCREEN_SEEDS = 3
"""Seeds of the screening round, unless others are asked for."""

CONFIRM_ARMS = 3
"""Arms that go into the confirming round at most."""


def plan_rounds(
    recipe: Recipe, control: RunSpec, arms: tuple[Arm, ...], *, seeds: int, screen_seeds: int, fork_step: int = 0
) -> Plan:
    """The plan of both rounds: `arms` against `control`, by the recipe's metric and to the end of its length."""
    return Plan(
        recipe=control.recipe,
        source=control.source,
        knobs=control.knobs,
        arms=arms,
        seeds=tuple(range(screen_seeds)),
        metric=recipe.metric,
        higher_is_better=recipe.higher_is_better,
        margin=recipe.margin,
        horizon=recipe.steps - fork_step,
        fork_step=fork_step,
        confirm_seeds=tuple(range(screen_seeds, screen_seeds + seeds)),
        confirm_arms=CONFIRM_ARMS,
        guards=recipe.guards,
    )


def refuse_single_seeds(seeds: int, screen_seeds: int) -> None:
    """Raise where a round would have no spread."""
    if min(seeds, screen_seeds) < 2:
        raise PitpropError(f"A round of {min(seeds, screen_seeds)} seeds has no spread.", do="give at least 2 seeds.")


def runs_of(arms: int, screen_seeds: int, seeds: int) -> int:
    """Runs of so many arms, at most: two rounds with the control, and a watched run of each finalist."""
    finalists = min(CONFIRM_ARMS, arms)
    return (1 + arms) * screen_seeds + (1 + finalists) * seeds + finalists


def confirm_best(
    plan: Plan,
    arms: Sequence[Arm],
    screen: Sequence[Comparison],
    run: Callable[[Sequence[Arm], Sequence[int]], Results],
    meter: Meter,
) -> tuple[list[Arm], Results, tuple[Comparison, ...]]:
    """The confirming round.

    Args:
        plan: What was planned.
        arms, screen: All arms, and their comparisons in the screening round.
        run: Runs the control and the arms that it is given on the seeds that it is given.
        meter: Told of the round.

    Returns:
        The arms that were good enough to confirm, their records and the control's, and their comparisons.
    """
    chosen = [arm for name in winners(screen, plan) for arm in arms if arm.name == name]
    if not chosen:
        return [], {}, ()
    seeds = plan.confirm_seeds
    meter.enter(
        f"confirming {len(chosen)} on {len(seeds)} fresh seeds",
        total=meter.done + runs_of(len(chosen), 0, len(seeds)),
    )
    fresh = run(chosen, seeds)
    return chosen, fresh, judge(plan, chosen, seeds, fresh)
