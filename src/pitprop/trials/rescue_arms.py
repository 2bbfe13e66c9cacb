"""What a rescue starts from, and its arms: the single ways first, and what goes with rolling back after them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.records import Comparison, Finding
from pitprop.rules import replay
from pitprop.trace import Reader
from pitprop.trials.candidates import candidates, name_of
from pitprop.trials.checkpoint import read_checkpoint
from pitprop.trials.interventions import Intervention, Knob, Reinitialise, ResetOptimizer, Scale
from pitprop.trials.interventions._targets import model_of
from pitprop.trials.interventions.load_state import LoadState, fitted, start_from
from pitprop.trials.judge import gain, rank, saved
from pitprop.trials.knobs import alternatives, knobs_to_json
from pitprop.trials.plan import Arm
from pitprop.trials.recipe import Recipe
from pitprop.trials.run import build
from pitprop.watch.snapshots import last_good, taken

ROLLED_BACK, IN_PLACE = "rolled back", "in place"
FRESH_OPTIMIZER = f"{IN_PLACE}: fresh optimizer"

COMBINED = 2
"""Ways that did better in place and are tried rolled back."""

SITES = 3
"""Modules that are drawn anew at most, each by itself: where a collapse began comes before where it spread to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a rescue starts from."""

    collapsed: LoadState
    """The checkpoint that has collapsed; in a run its newest snapshot."""
    good: LoadState | None
    """The last good snapshot of its run, where there is one and it is another."""
    findings: tuple[Finding, ...] | None
    """Of the run's trace; None where there is no trace."""
    too_few: str = ""
    """Why the trace's silence would mean little; empty where enough was measured."""
    run: Path | None = None
    """Folder of its run, where that is known."""
    snapshots: tuple[int, ...] = ()
    """Steps of the run's snapshots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What of the recipe's model the arms can act on."""

    owners: Mapping[str, str | None]
    """Module path -> the nearest module at or above it that has parameters; None where that is the model."""
    knob_values: Sequence[tuple[str, Any]]
    """Other values of the knobs with which the model still takes the checkpoint."""
    remembers: bool
    """Whether the collapsed checkpoint holds an optimizer state that could be dropped."""


def find_origin(checkpoint: Path, run: Path | None) -> Origin:
    """What lies at `checkpoint` (a checkpoint, or the folder of a run), with the history in `run`.

    Raises:
        PitpropError: There is nothing, or the run has no snapshots.
    """
    if run is None and (checkpoint / "trace.sqlite").is_file():
        run = checkpoint
    if run is None:
        return Origin(collapsed=start_from(checkpoint), good=None, findings=None)
    with Reader(run) as trace:
        seen = replay(trace)
    snapshots = taken(run)
    if run == checkpoint and not snapshots:
        raise PitpropError(
            f"The run `{run}` has no snapshots.",
            means="There is no state in it to go on from.",
            do="watch with `snapshots=<GiB>`, or give a checkpoint of it: pitprop rescue CHECKPOINT RECIPE --run RUN.",
            read="docs/rescue.md",
        )
    collapsed = start_from(snapshots[max(snapshots)] if run == checkpoint else checkpoint)
    step = last_good(snapshots, seen.findings)
    good = None if step is None else start_from(snapshots[step])
    return Origin(
        collapsed=collapsed,
        good=None if good == collapsed else good,
        findings=seen.findings,
        too_few=seen.too_few,
        run=run.resolve(),
        snapshots=tuple(snapshots),
    )


def dissect(recipe: Recipe, values: Any, origin: Origin) -> Anatomy:
    """Build the recipe's model and hold it against the checkpoints.

    Raises:
        PitpropError: A checkpoint cannot be read, or does not fit the model.
    """
    knobs = knobs_to_json(values)
    model = model_of(build(recipe, knobs, 0, ())[0])
    for state in filter(None, (origin.good, origin.collapsed)):
        found = read_checkpoint(Path(state.path))
        fitted(model, found.weights, state.path)
    owners: dict[str, str | None] = {}
    for path, module in model.named_modules():
        if path:
            own = next(module.parameters(), None) is not None
            owners[path] = path if own else owners.get(path.rpartition(".")[0])
    shapes = {name: value.shape for name, value in model.state_dict().items()}

    def fits(name: str, value: Any) -> bool:
        other = model_of(build(recipe, {**knobs, name: value}, 0, ())[0]).state_dict()
        return shapes == {key: tensor.shape for key, tensor in other.items()}

    return Anatomy(
        owners=owners,
        knob_values=[kv for kv in alternatives(recipe, values) if fits(*kv)],
        remembers=any(state.get("state") for state in found.optimizers),
    )


def single_arms(
    origin: Origin, anatomy: Anatomy, findings: Iterable[Finding], suspects: Sequence[Intervention] = ()
) -> tuple[Arm, ...]:
    """One thing each: roll back, or in place every candidate, a fresh optimizer, and the offending modules drawn anew.

    Args:
        origin: The states to start from.
        anatomy: What can be acted on.
        findings: Of the collapsed run.
        suspects: The user's own candidates.
    """
    findings = list(findings)
    changes = [arm.interventions[0] for arm in candidates(findings, anatomy.knob_values, anatomy.owners, suspects)]
    # Divided by what it was on one batch: that tells a cause, but a checkpoint can't carry it.
    changes = [change for change in changes if not (isinstance(change, Scale) and change.factor == "unit")]
    arms = [] if origin.good is None else [Arm(ROLLED_BACK, (origin.good,))]
    arms += [Arm(f"{IN_PLACE}: {name_of(change)}", _ordered(origin.collapsed, change)) for change in changes]
    if anatomy.remembers and ResetOptimizer() not in changes:
        arms.append(Arm(FRESH_OPTIMIZER, (origin.collapsed, ResetOptimizer())))
    arms += [
        Arm(f"{IN_PLACE}: {site} re-initialised", (origin.collapsed, Reinitialise(site)))
        for site in _offending(anatomy, findings)
        if Reinitialise(site) not in changes
    ]
    return tuple(arms)


def combined_arms(
    origin: Origin, singles: Sequence[Arm], screen: Sequence[Comparison], margin: float, inert: Sequence[str]
) -> tuple[Arm, ...]:
    """Rolling back together with a single way, the most promising first; nothing where there is no way back.

    The ways in place that did better are rolled back too, and one offending module drawn anew. Where none did better,
    all are: nothing works on weights that are past help, and what works before they are is not known yet.

    Args:
        origin: The states to start from.
        singles: Arms of the first round.
        screen: Their comparisons.
        margin: Difference that is too small to matter.
        inert: Arms that did nothing.
    """
    good = origin.good
    if good is None:
        return ()
    told = {c.arm: c for c in screen}
    placed = [arm for arm in singles if arm.name.startswith(f"{IN_PLACE}: ") and arm.name not in inert]
    placed = sorted(
        (arm for arm in placed if arm.name != FRESH_OPTIMIZER), key=lambda arm: rank(told[arm.name]), reverse=True
    )
    again = [arm for arm in placed if any(isinstance(change, Reinitialise) for change in arm.interventions)]
    remedies = [arm for arm in placed if arm not in again]
    better = [arm for arm in remedies if saved(told[arm.name]) > 0 or gain(told[arm.name]) > margin]
    return tuple(
        Arm(
            arm.name.replace(IN_PLACE, ROLLED_BACK, 1),
            tuple(good if change == origin.collapsed else change for change in arm.interventions),
        )
        for arm in [*better[:COMBINED], *again[:1], *(() if better else remedies)]
    )


def _offending(anatomy: Anatomy, findings: Sequence[Finding]) -> list[str]:
    """The first modules with parameters that findings speak of; one inside another goes with it."""
    earliest = sorted((f for f in findings if f.severity != "note"), key=lambda f: f.onset)
    spoken = (anatomy.owners.get(finding.site) for finding in earliest)
    sites = list(dict.fromkeys(site for site in spoken if site))
    return [site for site in sites if not any(site.startswith(f"{other}.") for other in sites)][:SITES]


def _ordered(start: LoadState, change: Intervention) -> tuple[Intervention, ...]:
    return (change, start) if isinstance(change, Knob) else (start, change)
