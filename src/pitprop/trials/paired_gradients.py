"""The gradient at one module with and without another: same weights, batches and random numbers, pair by pair."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from pitprop._errors import PitpropError
from pitprop.checks._check import LossFn, Subject
from pitprop.checks._forward import one_pass, preserved, tensors_in
from pitprop.checks._measure import Branch, Measured, observed
from pitprop.trials.gradient_record import DILUTION, GAIN, GROWTH, REST, GradientShare, Position, ratio_of
from pitprop.trials.interventions._targets import is_under, modules_at, parameters_at
from pitprop.trials.interventions.ablate import Ablate

FEWEST = 20
"""Batches below which nothing is said: in the system of seed 1 the norm varies ninefold from batch to batch."""


@dataclass
class _Seen:
    """One pass of one batch."""

    norm: float = math.nan
    """Of the gradient of all parameters at `at`."""
    inputs: float = 0.0
    """Squared norm of what the modules at `at` were called with."""
    branches: list[Branch] = field(default_factory=list)
    """Additions of what `without` says."""
    before: bool = False
    """Whether a module at `at` ran before the first of them."""
    behind: bool = False
    """Whether one ran behind it."""


def gradient_share(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFn | None = None,
    *,
    at: str,
    without: str,
    num: int = 20,
    seed: int = 0,
    margin: float = 0.1,
    confidence: float = 0.95,
) -> GradientShare:
    """How much gradient arrives at module `at` when module `without` speaks, relative to when it says 0.

    Each batch goes through the model twice, from the same weights, buffers and random numbers, once as it is and once
    with the output of `without` multiplied by 0. The model stays as it is. Where the output of `without` is seen to be
    added to a stream x as a branch b, the ratio is split. For `at` before the addition, the gradient behind a
    normalisation is divided by the stream's length (norm dilution, |x| / |x + b|), the branch's own path adds to it
    (query-path gain), and the rest is what the loss answers to changed outputs.

    Args:
        model: A torch module, in the mode (train or eval) in which to measure.
        batches: At least `num`, each what the model takes, or what `loss_fn` does.
        loss_fn: `loss_fn(model, batch)` returns the loss. Without it, the gradient is that of a random linear readout.
        at: Dotted path of the module whose parameters' gradient is measured; wildcards stay between dots.
        without: Dotted path of the module to take away; outputs are tensors or tuples that begin with one.
        num: Batches, 20 or more.
        seed: Random numbers of batch i come from seed + i, on both sides.
        margin: Ratios from 1 / (1 + margin) to 1 + margin count as no difference.
        confidence: Nominal coverage of the intervals, which are over batches at this one state of the weights.

    Raises:
        PitpropError: Fewer than 20 batches; a path that matches nothing or one inside the other; a module that is never
            called; parameters that ask for no gradient.

    Source: own; derivation T4 of the catalogue, ratio = |x| / |x + a c| times |(I + a J)^T g|, for a scale-invariant
    head. Cost: two passes per batch, and the memory of one more copy of the parameters.
    """
    _expect(num, margin)
    training = SimpleNamespace(model=model)
    owned, silenced = modules_at(training, at), modules_at(training, without)
    overlap = [path for path in owned if any(is_under(path, s) or is_under(s, path) for s in silenced)]
    if overlap:
        raise PitpropError(
            f"`{overlap[0]}` is at `{at}` and at `{without}`, or one of them inside of the other.",
            do="name two modules of which neither holds the other.",
        )
    names = [name for name, parameter in parameters_at(training, at).items() if parameter.requires_grad]
    if not names:
        raise PitpropError(f"No parameter at `{at}` asks for a gradient.", do="unfreeze it, or name a trained module.")
    chosen = list(islice(iter(batches), num))
    if len(chosen) < num:
        raise PitpropError(
            f"There are {len(chosen)} batches, and {num} were asked for.", do="give more batches, different ones."
        )
    pairs = []
    for i, batch in enumerate(chosen):
        subject = Subject(model=model, batches=(batch,), loss_fn=loss_fn)
        pairs.append([_one(subject, names, without, seed + i, ablated=ablated) for ablated in (False, True)])
    return GradientShare(
        at=at, without=without, seed=seed, confidence=confidence, margin=margin, **_compared(pairs, confidence)
    )


def _expect(num: int, margin: float) -> None:
    if num < FEWEST:
        raise PitpropError(
            f"The gradient was to be compared over {num} batches.",
            means="Gradient norms vary several times over from batch to batch, so a ratio of few says nothing.",
            do=f"take {FEWEST} or more.",
            read="docs/gradient_share.md",
        )
    if not margin > 0:
        raise PitpropError(
            f"The margin is {margin}.", do="give a positive one, such as 0.1 for ratios from .91 to 1.1."
        )


def _one(subject: Subject, names: list[str], without: str, seed: int, *, ablated: bool) -> _Seen:
    """One pass of the subject's batch; the model is left as it was."""
    model, seen, found = subject.model, _Seen(), Measured()
    calls: list[int] = []
    with preserved(model), contextlib.ExitStack() as stack:
        if ablated:
            applied = Ablate(without).apply(SimpleNamespace(model=model))
            for hook in applied.hooks:
                stack.callback(hook.remove)
        else:
            stack.enter_context(observed(model, found))
        stack.enter_context(_inputs(model, names, seen, calls, found))
        gradients = one_pass(subject, subject.batches[0], seed=seed).gradients
        if ablated:
            applied.check(f"gradient_share without `{without}`")
    here = [gradient for name in names if (gradient := gradients[name]) is not None]
    seen.norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in here))
    matching = [i for i, b in enumerate(found.branches) if is_under(b.site, without) or is_under(without, b.site)]
    if matching:
        seen.branches = [found.branches[i] for i in matching]
        seen.before, seen.behind = any(c <= matching[0] for c in calls), any(c > matching[0] for c in calls)
    return seen


@contextlib.contextmanager
def _inputs(model: nn.Module, names: list[str], seen: _Seen, calls: list[int], found: Measured) -> Iterator[None]:
    """Within, calls of the modules that own `names` add to `seen.inputs`, and to `calls` the additions before them."""

    def enter(_module, args):
        calls.append(len(found.branches))
        first = next((t for t in tensors_in(args) if t.is_floating_point()), None)
        if isinstance(first, Tensor):
            seen.inputs += float(first.detach().double().square().sum())

    owners = {name.rpartition(".")[0] for name in names}
    hooks = [model.get_submodule(path).register_forward_pre_hook(enter) for path in sorted(owners)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _compared(pairs: list[list[_Seen]], confidence: float) -> dict[str, Any]:
    """What the pairs say: norms, ratios and factors."""
    ratios = [_over(spoken.norm, silent.norm) for spoken, silent in pairs]
    places: set[Position] = {_place(spoken) for spoken, _ in pairs}
    position: Position = places.pop() if len(places) == 1 else "both"
    parts: dict[str, list[float]] = {}
    if position == "before":
        parts[DILUTION] = [_product(spoken.branches, lambda b: b.dilution) for spoken, _ in pairs]
        parts[GAIN] = [_product(spoken.branches, lambda b: _over(b.before, b.after)) for spoken, _ in pairs]
    elif position == "behind":
        parts[GROWTH] = [math.sqrt(_over(spoken.inputs, silent.inputs)) for spoken, silent in pairs]
    if parts:
        known = [math.prod(values) for values in zip(*parts.values(), strict=True)]
        parts[REST] = [_over(ratio, product) for ratio, product in zip(ratios, known, strict=True)]
    return {
        "with_norms": tuple(spoken.norm for spoken, _ in pairs),
        "without_norms": tuple(silent.norm for _, silent in pairs),
        "ratio": ratio_of(ratios, confidence),
        "position": position,
        "factors": {name: ratio_of(values, confidence) for name, values in parts.items()},
        "branch_ratio": ratio_of([_longest(spoken.branches) for spoken, _ in pairs], confidence),
    }


def _place(seen: _Seen) -> Position:
    if not (seen.before or seen.behind):
        return "unseen"
    return "both" if seen.before and seen.behind else "before" if seen.before else "behind"


def _product(branches: list[Branch], factor) -> float:
    """Over sites, which follow each other; of one site's several uses the geometric mean."""
    sites: dict[str, list[float]] = {}
    for branch in branches:
        sites.setdefault(branch.site, []).append(factor(branch))
    return math.prod(math.prod(values) ** (1 / len(values)) for values in sites.values())


def _longest(branches: list[Branch]) -> float:
    return max((b.ratio for b in branches), default=math.nan)


def _over(a: float, b: float) -> float:
    return a / b if b else math.inf if a > 0 else math.nan
