"""The loss before the first step, beside the loss of knowing nothing.

## What it detects
A loss that is exactly zero or not finite (failure). A classification loss over twice ln K, a squared error over ten
times the variance of the targets, probabilities given to a loss that wants logits (warnings). Where the labels are
uneven, the loss that a bias of log prior would start from (note).

## Why it matters
A model that knows nothing should guess: ln K. Far above it the first steps are spent on shrinking the output layer.
With uneven labels, all the network learns at first is the prior, which a bias can have for nothing. And a loss of
exactly zero is mostly a mask that hides every target.

## Reads
Up to three batches; calls of `cross_entropy`, `nll_loss`, `binary_cross_entropy_with_logits` and `mse_loss` with their
predictions and targets. Of another loss only its value is known.

## Threshold
ln K and the entropy H of the batch's own labels are exact floors: no constant prediction has less than H. The factors 2
and 10 are conventions, and so is the level 1 in 1000 of the G-test that tells uneven labels from few.

## When it is wrong
Weighted losses are read without their weights. Pretrained models start anywhere, also below H: that is a note. A
squared error with targets of several units may hide one in the other.

## Remedies
Scale the output layer's initialisation down (with tied embeddings, the embedding's); set its bias to the logarithm of
the prior.

## Example
>>> import torch
>>> from torch import nn
>>> from pitprop.checks import Subject
>>> model, x = nn.Linear(16, 10), torch.randn(512, 16)
>>> y = torch.randint(0, 10, (512,))
>>> def loss(model, batch):
...     return nn.functional.cross_entropy(model(batch[0]), batch[1])
>>> CHECK.run(Subject(model=model, batches=((x, y),), loss_fn=loss))
[]
>>> _ = nn.init.normal_(model.weight, std=5.0)
>>> [finding] = CHECK.run(Subject(model=model, batches=((x, y),), loss_fn=loss))
>>> finding.severity, round(finding.evidence["loss_uniform"], 2)
('warning', 2.3)

## References
Lin et al., "Focal loss for dense object detection", arXiv 1708.02002 (the prior-matched bias). Catalogue of failure
modes, modes 15 and 39; the rule `loss-plateau-at-floor` sees the floor over time.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from scipy.stats import chi2
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pitprop.checks._check import Subject, found
from pitprop.checks._forward import one_pass, preserved
from pitprop.records import RUN, Finding

LOGITS = (F.cross_entropy, F.nll_loss)


class _Losses(TorchFunctionMode):
    """The first call of each loss function, with what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[Any, tuple[Tensor, Tensor, int]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (*LOGITS, F.mse_loss, F.binary_cross_entropy_with_logits) and func not in self.calls:
            given = dict(zip(("input", "target"), args, strict=False)) | kwargs
            predicted, target = (given[name].detach() for name in ("input", "target"))
            self.calls[func] = predicted, target, given.get("ignore_index", -100)
        return func(*args, **kwargs)


@dataclass(frozen=True, kw_only=True)
class LossAtInitialisation:
    """The loss against the loss of guessing."""

    name: ClassVar[str] = "loss-at-initialisation"
    needs: ClassVar[tuple[str, ...]] = ("batches",)

    times_uniform: float = 2.0
    """Multiple of ln K over which a classification starts badly."""
    times_variance: float = 10.0
    """Multiple of the targets' variance over which a regression starts badly."""
    uneven: float = 0.9
    """Entropy of the labels over ln K, under which a prior-matched bias is worth its line."""
    level: float = 1e-3
    """Chance under even labels, under which the labels are uneven."""

    def run(self, subject: Subject) -> list[Finding]:
        losses, seen = [], _Losses()
        for batch in subject.batches:
            with preserved(subject.model), seen:
                done = one_pass(subject, batch)
            if done.loss is not None:
                losses.append(float(done.loss))
        for loss in losses:
            if not math.isfinite(loss):
                return [self._finding("failure", f"the loss is {loss} before the first step.", {"loss": loss})]
        if losses and not any(losses):
            return [self._finding("failure", f"the loss is exactly 0 on {len(losses)} batches.", {"loss": 0.0})]
        findings = []
        for func, (predicted, target, ignored) in seen.calls.items():
            if func is F.mse_loss:
                findings += self._squared(predicted, target)
            elif func is F.binary_cross_entropy_with_logits:
                findings += self._binary(predicted, target)
            elif not target.is_floating_point():
                findings += self._classes(predicted, target, ignored, func)
        return findings

    def _classes(self, predicted: Tensor, target: Tensor, ignored: int, func) -> list[Finding]:
        num_classes = predicted.shape[1] if predicted.dim() > 1 else predicted.shape[0]
        predicted = predicted.movedim(1, -1) if predicted.dim() > 1 else predicted
        logits, labels = predicted.reshape(-1, num_classes).double(), target.reshape(-1)
        logits, labels = logits[labels != ignored], labels[labels != ignored]
        if not labels.numel():
            return [self._finding("failure", "every target of the batch is the ignored one.", {"num_targets": 0})]
        findings = []
        if func is F.cross_entropy and _are_probabilities(logits):
            least = math.log1p((num_classes - 1) / math.e)
            message = (
                f"`cross_entropy` is given probabilities, as after a softmax; it wants logits, and with these it can't "
                f"fall under {least:.2f}."
            )
            findings.append(self._finding("warning", message, {"loss_least": least}))
        prior = torch.bincount(labels, minlength=num_classes).double() / labels.numel()
        answer = logits.log_softmax(-1).exp().mean(0)
        loss = float(F.cross_entropy(logits, labels))
        return findings + self._against_prior(loss, prior, answer, labels.numel())

    def _binary(self, predicted: Tensor, target: Tensor) -> list[Finding]:
        on = target.double().mean().clamp(0, 1)
        answer = predicted.double().sigmoid().mean()
        loss = float(F.binary_cross_entropy_with_logits(predicted.double(), target.double()))
        prior, answers = torch.stack([1 - on, on]), torch.stack([1 - answer, answer])
        return self._against_prior(loss, prior, answers, target.numel())

    def _against_prior(self, loss: float, prior: Tensor, answer: Tensor, num_labels: int) -> list[Finding]:
        uniform = math.log(len(prior))
        floor = float(-torch.special.xlogy(prior, prior).sum())
        apart = float((torch.special.xlogy(prior, prior) - torch.special.xlogy(prior, answer)).sum())
        evidence = {"loss": loss, "loss_uniform": uniform, "loss_prior": floor, "prior_divergence_nats": apart}
        if loss > self.times_uniform * uniform:
            message = f"the loss starts at {loss:.3g}; guessing gives {uniform:.3g}: the logits are too large."
            return [self._finding("warning", message, evidence)]
        if floor and loss < floor / 2:
            message = (
                f"the loss starts at {loss:.3g}, and no constant answer has less than {floor:.3g}: the model knows the "
                "labels already, by training or by a leak."
            )
            return [self._finding("note", message, evidence)]
        # A few even labels look uneven: the G-test says whether these could be such.
        chance = float(chi2.sf(2 * num_labels * (uniform - floor), len(prior) - 1))
        if floor < self.uneven * uniform and chance < self.level:
            message = (
                f"the labels are uneven: an output bias of log prior would start at {floor:.3g}, the loss starts at "
                f"{loss:.3g} (the answers are {apart:.2g} nats from the prior)."
            )
            return [self._finding("note", message, evidence)]
        return []

    def _squared(self, predicted: Tensor, target: Tensor) -> list[Finding]:
        loss = float((predicted.double() - target.double()).square().mean())
        variance = float(target.double().var(0, correction=0).mean()) if target.dim() and len(target) > 1 else 0.0
        if not variance or not loss > self.times_variance * variance:
            return []
        message = (
            f"the squared error starts at {loss:.3g}, {loss / variance:.3g} times what the targets' mean would have."
        )
        return [self._finding("warning", message, {"loss": loss, "target_variance": variance})]

    def _finding(self, severity, message: str, evidence: dict[str, float]) -> Finding:
        return found(self.name, severity, RUN, message, evidence, ("Reinitialise", "Knob"))


def _are_probabilities(rows: Tensor) -> bool:
    return bool((rows >= 0).all()) and bool(((rows.sum(-1) - 1).abs() < 1e-3).all())


CHECK = LossAtInitialisation()
