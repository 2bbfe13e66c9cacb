"""Terms of a loss that are nothing, targets that are ignored and counted, and copies that stay behind."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pitprop.checks import Subject
from pitprop.checks.ignored_targets_counted import CHECK as COUNTED
from pitprop.checks.loss_term_zero import CHECK as ZERO
from pitprop.checks.stale_copy import CHECK as STALE
from pitprop.remedies.torch.ema import EMA


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def terms(*returned):
    """What is said of steps that return these in turn."""
    rows = iter(returned * 8)
    subject = Subject(model=nn.Linear(2, 2), batches=(torch.randn(4, 2),), step=lambda _: next(rows))
    return [(f.severity, f.message, f.evidence["num_steps"]) for f in ZERO.run(subject)]


def test_a_term_that_changes_no_bit():
    lost = "`symmetry_loss` is at most 2e-09 at each of 8 steps, beside a loss of 1: it trains nothing."
    assert terms({"loss": 1.0, "symmetry_loss": torch.tensor(2e-9)}) == [("warning", lost, 8)]
    [(_, message, steps)] = terms({"loss": torch.tensor([1.0], requires_grad=True), "symmetry_loss": 0})
    assert "is 0 at each of 8 steps" in message and steps == 8
    [(_, _, steps)] = terms({"loss": 1.0}, {"loss": 1.0, "late_loss": 0.0})
    assert steps == 4


@pytest.mark.parametrize(
    "returned",
    [
        [{"loss": 1.0, "small_loss": 1e-6}],
        [{"loss": 1.0, "hinge_loss": 0.0}] * 7 + [{"loss": 1.0, "hinge_loss": 0.3}],
        [{"loss": 1.0, "off_loss": math.nan}],
        [{"loss": math.nan, "zero_loss": 0.0}],
        [{"zero_loss": 0.0}],
        [{"loss": 1.0, "dead_share": 0.0, "logits_of_loss": torch.zeros(4)}],
        [{"loss": 0.0}],
        [torch.tensor(1.0)],
        [{"loss": 1.0, "first_loss": 0.0}] + [{"loss": 1.0}] * 7,
    ],
)
def test_terms_that_count_or_are_not_measured(returned):
    assert terms(*returned) == []


class Staged(nn.Module):
    """Counts steps in a buffer and raises a flag."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.active = nn.Linear(4, 4), nn.BatchNorm1d(4), False
        self.register_buffer("step", torch.zeros(()))

    def forward(self, x):
        return self.norm(self.body(x))


def averaged(model, *, buffers, flag, weights=True):
    """A copy by hand, and what keeps it."""
    average = copy.deepcopy(model)

    @torch.no_grad()
    def update():
        for ours, theirs in zip(model.parameters(), average.parameters(), strict=True):
            if weights:
                theirs.lerp_(ours, 0.1)
        for ours, theirs in zip(model.buffers(), average.buffers(), strict=True):
            if buffers:
                theirs.copy_(ours)
        average.active = model.active if flag else average.active

    return average, update


def asked(model, average, update):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(x):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.step += 1
        model.active = True
        update()
        return {"loss": loss.detach()}

    before = {name: t.clone() for name, t in average.state_dict().items()}
    subject = Subject(model=model, batches=(torch.randn(8, 4),), step=step, copies={"ema": average})
    found = STALE.run(subject)
    assert all(torch.equal(before[name], t) for name, t in average.state_dict().items())
    assert model.step == 0 and not model.active
    return [(f.severity, f.message.partition(" stayed")[0], f.evidence["num_stale"]) for f in found]


@pytest.mark.parametrize(
    ("follows", "stale"),
    [
        ({"buffers": True, "flag": True}, []),
        ({"buffers": True, "flag": False}, [("warning", "active", 1)]),
        ({"buffers": False, "flag": True}, [("warning", "step, norm.num_batches_tracked, norm.running_mean, ...", 4)]),
        ({"buffers": False, "flag": False, "weights": False}, []),  # a target that is replaced now and then
    ],
)
def test_what_stays_behind_in_a_copy(follows, stale):
    model = Staged()
    assert asked(model, *averaged(model, **follows)) == stale


def test_averages_of_libraries_take_buffers_over():
    model = Staged()
    del model.active  # a flag by attribute is what they leave behind
    model.active = True
    for average in (EMA(model, 0.9), EMA(model, 0.9, keeps_buffers=True)):
        stale = asked_once(model, average, average.update)
        assert bool(stale) == average._keeps_buffers
    average = AveragedModel(model)
    assert asked_once(model, average, lambda: average.update_parameters(model)) == []


def asked_once(model, average, update):
    def step(x):
        with torch.no_grad():
            model.body.weight.add_(0.1)
        model(x)
        model.step += 1
        update()
        return {}

    return STALE.run(Subject(model=model, batches=(torch.randn(8, 4),), step=step, copies={"ema": average}))


def test_other_modules_are_no_copies():
    model = Staged()
    assert asked_once(model, nn.BatchNorm1d(4), lambda: None) == []


def cross_entropy(model, batch, reduction="mean"):
    x, targets = batch
    return F.cross_entropy(model(x).mT, targets, reduction=reduction)


def over_all(model, batch):
    return cross_entropy(model, batch, "none").mean() + model.weight.square().sum()


def by_sample(model, batch):
    cells = cross_entropy(model, batch, "none")
    return (cells.sum(1) / (batch[1] != -100).sum(1).clamp(min=1)).mean()


def over_the_size_of_the_batch(model, batch):
    return cross_entropy(model, batch, "sum") / len(batch[0])


def teacher_forced(model, batch):
    x, targets = batch
    shown = x + targets.clamp(min=0).sum(1)[:, None, None]
    return F.cross_entropy(model(shown).mT, targets, reduction="none").mean()


@pytest.mark.parametrize(
    ("loss_fn", "told"),
    [
        (over_all, True),
        (over_the_size_of_the_batch, True),
        (cross_entropy, False),
        (by_sample, False),
        (teacher_forced, False),
        (lambda model, batch: model(batch[0]).sum(), False),
    ],
)
def test_targets_that_are_ignored_and_counted(loss_fn, told):
    x, targets = torch.randn(8, 5, 4), torch.randint(0, 3, (8, 5))
    targets[:4, 2:] = -100
    model = nn.Linear(4, 3)

    def run(targets):
        return COUNTED.run(Subject(model=model, batches=((x, targets),), loss_fn=loss_fn))

    assert [(f.severity, f.evidence["weight_ratio"]) for f in run(targets)] == ([("note", 2.5)] if told else [])
    if loss_fn is not teacher_forced:
        assert run(targets.clamp(min=0)) == []
