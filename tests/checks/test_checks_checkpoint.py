"""Checkpointing: exact where torch says so, and every way in which it isn't."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pitprop.checks import Subject
from pitprop.checks.checkpoint_exactness import CHECK


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.drop, self.alpha, self.active = nn.Linear(8, 8), nn.Dropout(0.3), 1.0, True

    def forward(self, x, extra=None, lora=None):
        y = torch.tanh(self.alpha * self.a(x))
        if lora is not None and self.active:
            y = y + y @ lora["A"] @ lora["B"]
        return self.drop(y)


class Checkpointed(nn.Module):
    """The ways of calling a checkpoint that a post-mortem blamed, and those that are to blame."""

    def __init__(self, *, reentrant, lora=False, preserve=True):
        super().__init__()
        self.step, self.head = Step(), nn.Linear(8, 1)
        self.hyper = nn.Linear(4, 32) if lora else None
        self.reentrant, self.preserve = reentrant, preserve

    def forward(self, x):
        lora = None
        if self.hyper is not None:
            w = self.hyper(torch.ones(4))
            lora = {"A": w[:16].view(8, 2), "B": w[16:].view(2, 8)}
        options = {"use_reentrant": self.reentrant, "preserve_rng_state": self.preserve}
        return self.head(checkpoint(self.step, x, None, lora, **options))


def ask(model, loss_fn=lambda model, x: model(x).square().mean()):
    return CHECK.run(Subject(model=model, batches=(torch.randn(5, 8),), loss_fn=loss_fn))


@pytest.mark.parametrize("lora", [False, True])
def test_without_reentrance_none_dicts_and_dropout_are_exact(lora):
    assert ask(Checkpointed(reentrant=False, lora=lora)) == []


def test_a_model_without_checkpoints_is_silent():
    assert ask(nn.Sequential(Step(), nn.Linear(8, 1))) == []


@pytest.mark.parametrize("lora", [False, True])
def test_reentrance_without_a_direct_gradient_loses_all_of_it(lora):
    [finding] = ask(Checkpointed(reentrant=True, lora=lora))
    assert finding.severity == "failure" and finding.evidence["num_lost"] == (4 if lora else 2)
    assert "step.a.weight" in finding.message


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_ramp_that_moves_between_forward_and_backward(reentrant):
    model = Checkpointed(reentrant=reentrant)

    def loss_fn(model, x):
        loss = model(x.requires_grad_()).square().mean()
        model.step.alpha *= 0.1
        return loss

    [finding] = ask(model, loss_fn)
    assert (finding.severity, finding.site) == ("failure", "step.a")
    # By hand: the gradient of the ramped function instead of the function's.
    assert 0.05 < finding.evidence["relative_error"] < 2
    assert model.step.alpha == 1.0  # the flag is put back


def test_a_flag_that_flips_makes_backward_raise():
    def loss_fn(model, x):
        loss = model(x).square().mean()
        model.step.active = False
        return loss

    [finding] = ask(Checkpointed(reentrant=False, lora=True), loss_fn)
    assert finding.severity == "failure" and "with checkpointing the backward pass raises" in finding.message


def test_dropout_that_is_drawn_anew():
    [finding] = ask(Checkpointed(reentrant=False, preserve=False))
    assert finding.severity == "failure" and finding.evidence["relative_error"] > 0.1


def test_the_shim_is_taken_out_after_an_error():
    kept = torch.utils.checkpoint.CheckpointFunction

    def loss_fn(model, x):
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        ask(Checkpointed(reentrant=True), loss_fn)
    assert torch.utils.checkpoint.CheckpointFunction is kept
