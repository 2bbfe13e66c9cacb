"""What the training step does: clipping, accumulation, decay, resolution; and what runs in one mode only."""

import copy
import dataclasses

import pytest
import torch
from check_models import ReZero, squares, tokens
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm

from pitprop.checks import Subject
from pitprop.checks.clipping_without_effect import CHECK as CLIPPING
from pitprop.checks.decay_without_gradient import CHECK as DECAY
from pitprop.checks.train_eval_activity import CHECK as ACTIVITY
from pitprop.checks.update_underflow import CHECK as UNDERFLOW
from pitprop.checks.zero_gradient_update import CHECK as EMPTY


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def given_norm(parameters, bound):
    parameters = list(parameters)
    clip_grads_with_norm_(parameters, bound, get_total_norm([p.grad for p in parameters if p.grad is not None]))


CLIPS = (clip_grad_norm_, clip_grad_value_, given_norm)


def loop(order, *, bound=1.0, make=torch.optim.Adam, scale=1.0, clip=clip_grad_norm_):
    """A training whose step does the parts of `order`: backward, clip, step, zero; `1/4` from there on each fourth."""
    model = nn.Linear(4, 1)
    optimizer = make(model.parameters(), lr=1e-2)
    count = 0

    def step(x):
        nonlocal count
        count += 1
        for part in order.split():
            if part == "backward":
                (scale * model(x).square().mean()).backward()
            elif part == "clip":
                clip(model.parameters(), bound)
            elif part == "step":
                optimizer.step()
            elif part == "zero":
                optimizer.zero_grad()
            elif part == "zeros":
                optimizer.zero_grad(set_to_none=False)
            elif count % 4:  # 1/4
                return

    batches = tuple(torch.randn(8, 4) for _ in range(3))
    return Subject(model=model, batches=batches, optimizers=(optimizer,), step=step)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(
    ("order", "severities"),
    [
        ("zero backward clip step", []),
        ("backward clip step zero", []),
        ("backward 1/4 clip step zero", []),  # accumulation
        ("zero clip backward step", ["failure"]),
        ("backward step clip zero", ["failure"]),
        ("backward step zero clip ", ["failure"]),
        ("zero backward zeros clip step", ["failure"]),
    ],
)
def test_where_clipping_stands(order, severities, clip):
    if clip is clip_grad_value_:  # torch itself refuses where no parameter has a gradient
        order = order.replace("zero ", "zeros ") if order.startswith("backward") else order
        if order == "zero clip backward step":
            with pytest.raises(RuntimeError, match="empty"):
                CLIPPING.run(loop(order, clip=clip))
            return
    assert [f.severity for f in CLIPPING.run(loop(order, bound=0.1, clip=clip))] == severities


def test_torchs_functions_are_put_back_and_clip_within():
    subject = loop("zero backward clip step", bound=1e-3, clip=clip_grad_value_)
    CLIPPING.run(subject)
    for clip in CLIPS:
        p = nn.Parameter(torch.zeros(2))
        p.grad = torch.tensor([3.0, 4.0])
        clip([p], 1.0)
        expected = [1.0, 1.0] if clip is clip_grad_value_ else [0.6, 0.8]
        assert p.grad.tolist() == pytest.approx(expected, rel=1e-5)
    seen = []
    subject.optimizers[0].register_step_pre_hook(
        lambda one, *_: seen.append(max(p.grad.abs().max() for g in one.param_groups for p in g["params"]))
    )
    CLIPPING.run(dataclasses.replace(subject))  # a new subject: its steps are made anew
    assert seen and max(seen) <= 1e-3


@pytest.mark.parametrize("clip", CLIPS)
def test_a_bound_out_of_reach_is_a_note(clip):
    [finding] = CLIPPING.run(loop("zero backward clip step", scale=1e-3, clip=clip))
    assert finding.severity == "note" and finding.evidence["bound"] == 1.0
    assert 0 < finding.evidence["largest_norm"] < 0.1


@pytest.mark.parametrize(
    ("make", "severities"),
    [
        (torch.optim.Adam, ["failure"]),
        (torch.optim.SGD, ["warning"]),
        (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9), ["failure"]),
    ],
)
def test_steps_on_nothing(make, severities):
    # `apply_every` before the optimizer: the gradient is zeroed on all steps but each fourth.
    subject = loop("zeros backward step", make=make)
    inner, count = subject.step, 0

    def step(x):
        nonlocal count
        count += 1
        inner(x * (count % 4 == 0))

    model = subject.model
    model.bias.requires_grad_(False)
    findings = EMPTY.run(Subject(model=model, batches=subject.batches, optimizers=subject.optimizers, step=step))
    assert [f.severity for f in findings] == severities
    assert findings[0].evidence == {"num_empty": 6, "num_updates": 8}


@pytest.mark.parametrize("order", ["zero backward step", "backward 1/4 step zero"])
def test_sound_updates_are_silent(order):
    assert EMPTY.run(loop(order)) == []


class Flagged(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.body, self.late, self.how = nn.Linear(4, 1), nn.Linear(4, 1), how

    def forward(self, x):
        y = self.body(x)
        return y if self.how == "if" else y + (0.0 if self.how == "times zero" else 1.0) * self.late(x)


def trained(model, loss_fn, batch, make=torch.optim.AdamW, **options):
    optimizer = make(model.parameters(), lr=options.pop("lr", 1e-3), **options)

    def step(x):
        optimizer.zero_grad()
        loss_fn(model, x).backward()
        optimizer.step()

    return Subject(model=model, batches=(batch,), loss_fn=loss_fn, optimizers=(optimizer,), step=step)


@pytest.mark.parametrize(("how", "sites"), [("if", []), ("on", []), ("times zero", ["late"])])
def test_decay_alone(how, sites):
    subject = trained(Flagged(how), squares, torch.randn(8, 4), weight_decay=0.1)
    assert [f.site for f in DECAY.run(subject)] == sites
    assert DECAY.run(trained(Flagged(how), squares, torch.randn(8, 4), weight_decay=0.0)) == []


def test_what_wakes_up_late_is_not_decay_alone():
    assert DECAY.run(trained(ReZero(dead=False), squares, tokens(), weight_decay=0.1)) == []


@pytest.mark.parametrize(
    ("dtype", "lr", "severities"),
    [
        (torch.bfloat16, 1e-5, ["warning"]),
        (torch.bfloat16, 1e-1, []),
        (torch.bfloat16, 0.0, []),
        (torch.float32, 1e-5, []),
    ],
)
def test_updates_under_the_resolution(dtype, lr, severities):
    model = nn.Linear(32, 32).to(dtype)
    subject = trained(model, squares, torch.randn(8, 32, dtype=dtype), lr=lr, weight_decay=0.0)
    assert [f.severity for f in UNDERFLOW.run(subject)] == severities


def test_steps_leave_the_model_as_it_was():
    subject = trained(ReZero(dead=False), squares, tokens())
    before = copy.deepcopy(subject.model.state_dict())
    EMPTY.run(subject)
    assert all(torch.equal(v, before[k]) for k, v in subject.model.state_dict().items())
    assert all(p.grad is None and not p._post_accumulate_grad_hooks for p in subject.model.parameters())


class Moody(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.helper, self.late = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 4)
        self.noise, self.active = nn.Dropout(), True

    def forward(self, x):
        if self.training:
            return self.noise(self.base(x) + self.helper(x))
        return self.base(x) + self.late(x)


def test_what_runs_in_one_mode_only():
    findings = ACTIVITY.run(Subject(model=Moody(), batches=(torch.randn(8, 4),)))
    assert [(f.site, f.severity) for f in findings] == [("helper", "warning"), ("late", "warning")]
    assert "is never trained" in findings[1].message


class Optional(nn.Module):
    """A branch that an argument switches on, as seed 1's cross-attention."""

    def __init__(self):
        super().__init__()
        self.base, self.branch = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x, use_branch=False):
        return self.base(x) + (self.branch(x) if use_branch else 0)


def test_what_is_trained_and_not_evaluated():
    model, x = Optional(), torch.randn(8, 4)

    def findings(evaluate):
        def loss_fn(m, batch):
            return m(batch, use_branch=True).square().mean()

        return ACTIVITY.run(Subject(model=model, batches=(x,), loss_fn=loss_fn, evaluate=evaluate))

    [finding] = findings(lambda: {"loss": float(model(x).detach().mean())})
    assert (finding.site, finding.severity) == ("branch", "warning")
    assert "is trained in a step, and doesn't run in `evaluate()`" in finding.message
    assert findings(lambda: {"loss": float(model(x, use_branch=True).detach().mean())}) == []
    assert findings(lambda: {"loss": 0.0}) == []  # calls nothing: it may evaluate a copy
    model.branch.requires_grad_(False)  # frozen: not what was trained
    assert findings(lambda: {"loss": float(model(x).detach().mean())}) == []
    model.branch.requires_grad_(True)

    def without_branch(m, batch):
        m(batch, use_branch=True)  # runs, and the loss doesn't read it
        return m(batch).square().mean()

    def evaluate():
        return {"loss": float(model(x).detach().mean())}

    subject = Subject(model=model, batches=(x,), loss_fn=without_branch, evaluate=evaluate)
    assert ACTIVITY.run(subject) == []
    assert not any(module._forward_hooks for module in model.modules())


def test_torchs_encoder_runs_the_same_in_both_modes():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    assert ACTIVITY.run(Subject(model=model, batches=(torch.randn(4, 5, 8),))) == []
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_copy_with_another_flag():
    model = Flagged("on")
    wrapped = [copy.deepcopy, torch.optim.swa_utils.AveragedModel, lambda one: nn.ModuleList([copy.deepcopy(one), one])]
    for make in wrapped:
        ema = make(model)
        subject = Subject(model=model, batches=(torch.randn(8, 4),), copies={"ema": ema})
        assert ACTIVITY.run(subject) == []
        inner = next(part for part in ema.modules() if isinstance(part, Flagged) and part is not model)
        inner.how = "if"
        [finding] = ACTIVITY.run(Subject(model=model, batches=subject.batches, copies={"ema": ema}))
        assert "<model>.how is 'on' in the model and 'if' in its copy `ema`" in finding.message
