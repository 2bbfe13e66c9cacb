"""One question per file, asked of a model before it is trained; the file is its own page.

The registry is plain strings, so listing checks imports no torch. One more check is one new file and one line.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pitprop._errors import PitpropError, nearest
from pitprop.checks._check import Check, CheckEntry, LossFn, Subject
from pitprop.records import Finding

__all__ = ["CHECKS", "Check", "CheckEntry", "Subject", "by_name", "check"]

CHECKS: tuple[CheckEntry, ...] = (
    CheckEntry("attention-logits-at-initialisation", "pitprop.checks.attention_logits_at_initialisation"),
    CheckEntry("blind-metric", "pitprop.checks.blind_metric"),
    CheckEntry("branch-dilution", "pitprop.checks.branch_dilution"),
    CheckEntry("checkpoint-exactness", "pitprop.checks.checkpoint_exactness"),
    CheckEntry("clipping-without-effect", "pitprop.checks.clipping_without_effect"),
    CheckEntry("constant-data", "pitprop.checks.constant_data"),
    CheckEntry("dead-zero-chain", "pitprop.checks.dead_zero_chain"),
    CheckEntry("decay-without-gradient", "pitprop.checks.decay_without_gradient"),
    CheckEntry("frozen-in-part", "pitprop.checks.frozen_in_part"),
    CheckEntry("ignored-targets-counted", "pitprop.checks.ignored_targets_counted"),
    CheckEntry("label-from-shape", "pitprop.checks.label_from_shape"),
    CheckEntry("loss-at-initialisation", "pitprop.checks.loss_at_initialisation"),
    CheckEntry("loss-term-zero", "pitprop.checks.loss_term_zero"),
    CheckEntry("no-gradient", "pitprop.checks.no_gradient"),
    CheckEntry("outside-optimizer", "pitprop.checks.outside_optimizer"),
    CheckEntry("padding-read", "pitprop.checks.padding_read"),
    CheckEntry("positions-alike", "pitprop.checks.positions_alike"),
    CheckEntry("rank-collapse-at-initialisation", "pitprop.checks.rank_collapse_at_initialisation"),
    CheckEntry("saturated-at-initialisation", "pitprop.checks.saturated_at_initialisation"),
    CheckEntry("stale-copy", "pitprop.checks.stale_copy"),
    CheckEntry("stream-growth-at-initialisation", "pitprop.checks.stream_growth_at_initialisation"),
    CheckEntry("train-eval-activity", "pitprop.checks.train_eval_activity"),
    CheckEntry("unsynchronised-replicas", "pitprop.checks.unsynchronised_replicas"),
    CheckEntry("unused-input", "pitprop.checks.unused_input"),
    CheckEntry("update-underflow", "pitprop.checks.update_underflow"),
    CheckEntry("zero-gradient-update", "pitprop.checks.zero_gradient_update"),
)
"""Every check; `entry.load()` gives the check itself."""


def by_name(name: str) -> CheckEntry:
    """The check called `name`.

    Raises:
        PitpropError: There is none; the error names the nearest.
    """
    known = {entry.name: entry for entry in CHECKS}
    if name not in known:
        raise PitpropError(f"there is no check `{name}`", do=nearest(name, known), read="pitprop list checks")
    return known[name]


def check(
    model: Any,
    batch: Any = None,
    loss_fn: LossFn | None = None,
    *,
    optimizer: Any = None,
    step: Callable[[Any], Any] | None = None,
    allow: Iterable[str] = (),
) -> list[Finding]:
    """Every check on `model`, which stays as it is: parameters, gradients, buffers, modes, random and optimizer states.

    Questions that lack what they need are named in a note; a check that raises is a finding of `pitprop-internal`.

    Args:
        model: A torch module.
        batch: What the model takes: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
        loss_fn: `loss_fn(model, batch)` returns the loss. Without it, gradients are those of a random linear readout
            of the outputs, and nothing is said about the loss.
        optimizer: One optimizer, or several.
        step: `step(batch)` makes one whole training step of `model` by `optimizer`; a few are made, and
            undone as far as model, optimizers and random states go (a scheduler counts on).
        allow: What not to report: `"check"`, or `"check@site"`.

    Raises:
        PitpropError: `model` is no torch module, or `allow` names no check.
    """
    from pitprop.checks._forward import kept  # imports torch
    from pitprop.checks._run import run_all

    several = () if optimizer is None else tuple(optimizer) if isinstance(optimizer, Iterable) else (optimizer,)
    batches = () if batch is None else (batch,)
    subject = Subject(
        model=model,
        batches=batches,
        loss_fn=loss_fn,
        optimizers=several,
        step=step,
        kept=lambda: kept(model, several),
    )
    return run_all(CHECKS, subject, allow)
