"""Arrays that a loop hands to `watch.log`, and what is measured of each; on measured steps only.

One more kind of array is one more line in `FEEDS`. An array belongs to the run, or to places of the loop's own naming:
`codes={"vq.0": a, "vq.1": b}`. Nothing is kept of an array but scalars, and of loss weights the last few numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pitprop import indicators as measure
from pitprop._array import every
from pitprop._errors import PitpropError
from pitprop.records import RUN
from pitprop.watch._quiet import quiet

PAGE = "docs/watch.md"
ENTRIES, SAMPLES = 2**20, 512
"""Entries of a table (samples times classes, codes, experts) that are looked at, and samples of embeddings and targets;
evenly spaced ones where there are more."""

Measured = dict[str, Tensor]


def _outputs(outputs: Tensor, targets: Tensor | None = None) -> Measured:
    """Do the outputs differ from each other, and as much as the targets?"""
    found = {"output_uniqueness": measure.output_uniqueness(outputs)}
    if targets is not None and targets.shape == outputs.shape and targets.is_floating_point():
        found["output_spread"] = measure.output_spread(outputs, targets)
    return found


def _logits(logits: Tensor, labels: Tensor | None = None) -> Measured:
    """`[sample, class]`, `[sample, class, ...]` as torch's losses have it, or `[..., class]`."""
    if labels is not None and logits.dim() > 2 and labels.shape == (logits.shape[0], *logits.shape[2:]):
        logits = logits.movedim(1, -1)
    table = _thin(logits.reshape(-1, logits.shape[-1]), max(ENTRIES // logits.shape[-1], 1))
    coarse = torch.finfo(logits.dtype).eps / 2
    found = {
        # Losses of halves are computed in float32, also under autocast; their logits are rounded before.
        "certain_share": measure.certain_share(table, resolution=min(coarse, 2.0**-24)),
        "logit_rounding": measure.logit_rounding(table, resolution=coarse),
    }
    if labels is not None:
        names = _thin(labels.reshape(-1), len(table))
        for function in (measure.class_loss_ratio, measure.class_entropy_ratio, measure.class_divergence):
            found[function.__name__] = function(table, names)
    return found


def _embeddings(embeddings: Tensor) -> Measured:
    table = _thin(embeddings, SAMPLES)
    return {
        "embedding_spread": measure.embedding_spread(table),
        "embedding_rank": measure.embedding_rank(table),
    }


def _codes(codes: Tensor, num_codes: int) -> Measured:
    flat = _thin(codes.reshape(-1), max(4 * ENTRIES // num_codes, 1))
    return {"code_usage": measure.code_usage(flat, num_codes=num_codes)}


def _latents(latent_mean: Tensor, latent_log_variance: Tensor | None = None) -> Measured:
    mean = latent_mean.flatten(1)
    found = {"latent_active_share": measure.latent_active_share(mean)}
    if latent_log_variance is not None:
        found["latent_kl"] = measure.latent_kl(mean, latent_log_variance.flatten(1))
    return found


def _teacher(teacher: Tensor) -> Measured:
    table = _thin(teacher, SAMPLES)
    return {
        "teacher_information": measure.teacher_information(table),
        "teacher_entropy": measure.teacher_entropy(table),
    }


def _routing(routing: Tensor) -> Measured:
    table = routing.reshape(-1, routing.shape[-1])
    table = _thin(table, max(ENTRIES // table.shape[-1], 1))
    return {
        "load_entropy": measure.load_entropy(table),
        "load_chi_squared": measure.load_chi_squared(table),
    }


class Weighed(NamedTuple):
    """What is remembered of loss weights, from one measured step to the next."""

    first: Tensor
    last: Tensor
    losses: Tensor
    """Sum of the losses of all measured steps."""


def _weights(weights: Tensor, losses: Tensor, before: Weighed | None) -> tuple[Measured, Weighed]:
    w, values = (x.detach().flatten().to(torch.float64, copy=True) for x in (weights, losses))
    first, last, total = before or Weighed(w, w, torch.zeros_like(values))
    total = total + values.to(total.device)
    share = w / w.sum()
    vertex = total.argmin()
    found = {
        "loss_weight_alignment": measure.loss_weight_alignment(last, w, values.to(w.device)),
        "loss_weight_concentration": measure.simplex_concentration(w),
        "loss_weight_motion": measure.total_variation(first, w),
        "loss_weight_odds": torch.logit(share[vertex]),
        "loss_weight_vertex": vertex.to(torch.float32),
    }
    return found, Weighed(first, w, total)


def _same(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [shape]


def _without_classes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [shape[:-1], (*shape[:1], *shape[2:])]


@dataclass(frozen=True)
class Feed:
    """Arguments of `watch.log` that are measured together."""

    name: str
    """The argument that must be there; the others describe it."""
    axes: int
    """Axes that it has at least."""
    measure: Callable[..., Any]
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    shape: Callable[[tuple[int, ...]], list[tuple[int, ...]]] | None = None
    """Shapes that the others may have, by that of the first; any where absent."""


FEEDS = (
    Feed("outputs", 1, _outputs, may=("targets",)),
    Feed("logits", 2, _logits, may=("labels",), shape=_without_classes),
    Feed("embeddings", 2, _embeddings),
    Feed("codes", 0, _codes, needs=("num_codes",)),
    Feed("latent_mean", 2, _latents, may=("latent_log_variance",), shape=_same),
    Feed("teacher", 2, _teacher),
    Feed("routing", 2, _routing),
    Feed("weights", 1, _weights, needs=("losses",), shape=_same),
)
"""Every array that `watch.log` takes."""

ARGUMENTS = frozenset(name for feed in FEEDS for name in (feed.name, *feed.needs, *feed.may))
NUMBERS = frozenset({"num_codes"})
"""Arguments that are numbers, not arrays."""


class Feeds:
    """Takes arrays out of a call of `log`, and measures them."""

    def __init__(self) -> None:
        self._weighed: dict[str, Weighed] = {}

    def take(self, given: dict[str, Any]) -> list[tuple[Feed, str, dict[str, Any]]]:
        """Remove array arguments from `given`: `(feed, site, arguments)` for each place.

        An array that is None was not at hand on this step; what describes it is then left out as well.

        Raises:
            PitpropError: Something else than tensors, one without its companion, or shapes that do not fit.
        """
        fed = {name: given.pop(name) for name in list(given) if name in ARGUMENTS}
        taken = []
        for feed in FEEDS:
            names = (feed.name, *feed.needs, *feed.may)
            here = {name: fed[name] for name in names if fed.get(name) is not None}
            if not here or (feed.name in fed and feed.name not in here):
                continue
            lacking = [name for name in (feed.name, *feed.needs) if name not in here]
            if lacking:
                raise PitpropError(
                    f"`watch.log({next(iter(here))}=...)` got no `{lacking[0]}`",
                    means="They are measured together.",
                    do=f"Pass {' and '.join(f'`{name}=`' for name in (feed.name, *feed.needs))} in one call.",
                    read=PAGE,
                )
            # Outputs belong to the run: several models' outputs are several runs.
            places = here[feed.name] if isinstance(here[feed.name], Mapping) and feed.name != "outputs" else (RUN,)
            for site in places:
                parts = {n: v[site] if isinstance(v, Mapping) and site in v else v for n, v in here.items()}
                _check(feed, parts)
                taken.append((feed, site, parts))
        return taken

    def measure(self, taken: list[tuple[Feed, str, dict[str, Any]]]) -> dict[tuple[str, str], Tensor]:
        """`{(indicator, site): scalar}` of what `take` gave; scalars stay on the device."""
        found: dict[tuple[str, str], Tensor] = {}
        with quiet():
            for feed, site, parts in taken:
                parts = {name: part.detach() if isinstance(part, Tensor) else part for name, part in parts.items()}
                if feed.name == "weights":
                    numbers, self._weighed[site] = feed.measure(**parts, before=self._weighed.get(site))
                else:
                    numbers = feed.measure(**parts)
                found |= {(indicator, site): value for indicator, value in numbers.items()}
        return found


def _thin(table: Tensor, rows: int) -> Tensor:
    if len(table) <= rows:
        return table
    return table[torch.as_tensor(every(rows, len(table)), device=table.device)]


def _check(feed: Feed, parts: Mapping[str, Any]) -> None:
    for name, part in parts.items():
        if name in NUMBERS:
            if not isinstance(part, int) or part < 1:
                raise PitpropError(
                    f"`watch.log({name}=...)` got {part!r}", do="Pass a whole number from 1 up.", read=PAGE
                )
        elif not isinstance(part, Tensor):
            hint = {"outputs": "out.logits", "targets": "batch.labels"}.get(name, name)
            raise PitpropError(
                f"`watch.log({name}=...)` got a {type(part).__name__}",
                means="It is measured along the axes of one tensor.",
                do=f"Pass one tensor, e.g. `{name}={hint}`.",
                read=PAGE,
            )
    shape = tuple(parts[feed.name].shape)
    others = {name: tuple(part.shape) for name, part in parts.items() if isinstance(part, Tensor) and name != feed.name}
    odd = [] if feed.shape is None else [name for name, other in others.items() if other not in feed.shape(shape)]
    if len(shape) < feed.axes or odd:
        raise PitpropError(
            f"`watch.log` got `{feed.name}` of shape {shape}"
            + "".join(f" and `{name}` of shape {others[name]}" for name in odd),
            means="The shapes don't fit what is measured of them.",
            do=f"See the table of what `log` takes for the axes of `{feed.name}`.",
            read=PAGE,
        )
