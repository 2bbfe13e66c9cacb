"""The loss before the first step, inputs that move nothing, metrics that see nothing."""

import math

import pytest
import torch
import torch.nn.functional as F
from check_models import DiT, denoising, noisy
from torch import nn

from pitprop.checks import Subject
from pitprop.checks.blind_metric import CHECK as BLIND
from pitprop.checks.loss_at_initialisation import CHECK as LOSS
from pitprop.checks.unused_input import CHECK as UNUSED


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def classes(labels, *, scale=1.0, change=lambda logits: logits, **options):
    """Findings on a linear classifier of 10 classes."""
    model, x = nn.Linear(16, 10), torch.randn(len(labels), 16)
    with torch.no_grad():
        model.weight.mul_(scale)

    def loss_fn(model, batch):
        return F.cross_entropy(change(model(batch)), labels, **options)

    return LOSS.run(Subject(model=model, batches=(x,), loss_fn=loss_fn))


EVEN, UNEVEN = torch.arange(200) % 10, (torch.arange(200) % 20 == 0).long()


def test_guessing_is_silent_and_shouting_is_a_warning():
    assert classes(EVEN) == []
    [finding] = classes(EVEN, scale=40.0)
    assert finding.severity == "warning" and "the logits are too large" in finding.message
    assert finding.evidence["loss_uniform"] == pytest.approx(math.log(10))


def test_uneven_labels_are_a_note_with_the_loss_of_the_prior():
    [finding] = classes(UNEVEN)
    assert finding.severity == "note"
    assert finding.evidence["loss_prior"] == pytest.approx(-(0.05 * math.log(0.05) + 0.95 * math.log(0.95)))
    # With the prior as its answer, the model starts at that loss: the floor is one.
    prior = torch.tensor([0.95, 0.05] + [1e-12] * 8).log()
    model, x = nn.Linear(16, 10), torch.zeros(200, 16)
    with torch.no_grad():
        model.bias.copy_(prior)
    assert float(F.cross_entropy(model(x), UNEVEN).detach()) == pytest.approx(finding.evidence["loss_prior"], rel=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_a_few_even_labels_are_not_uneven(seed):
    torch.manual_seed(seed)
    assert classes(torch.randint(0, 10, (12,))) == []


def test_probabilities_for_logits():
    findings = classes(EVEN, change=lambda logits: logits.softmax(-1))
    assert [f.severity for f in findings] == ["warning"]
    assert findings[0].evidence["loss_least"] == pytest.approx(math.log(math.e + 9) - 1)


def test_targets_that_are_all_ignored_and_losses_that_are_zero_or_not_finite():
    ignored = classes(torch.full((200,), -100), reduction="sum")
    assert [f.severity for f in ignored] == ["failure"]  # torch gives 0
    for value in (0.0, math.nan, math.inf):
        model = nn.Linear(4, 1)
        loss_fn = lambda model, x, value=value: (model(x) * 0).sum() + value  # noqa: E731
        [finding] = LOSS.run(Subject(model=model, batches=(torch.randn(3, 4),), loss_fn=loss_fn))
        assert (finding.severity, finding.site) == ("failure", "<run>")


@pytest.mark.parametrize(("offset", "severities"), [(0.0, []), (10.0, ["warning"])])
def test_squared_error_against_the_variance(offset, severities):
    loss_fn = lambda model, batch: F.mse_loss(model(batch[0]), batch[1] + offset)  # noqa: E731
    subject = Subject(model=nn.Linear(4, 2), batches=((torch.randn(64, 4), torch.randn(64, 2)),), loss_fn=loss_fn)
    assert [f.severity for f in LOSS.run(subject)] == severities


def test_a_binary_loss_with_rare_positives_is_a_note():
    y = (torch.arange(400) % 100 == 0).float()[:, None]
    loss_fn = lambda model, x: F.binary_cross_entropy_with_logits(model(x), y)  # noqa: E731
    [finding] = LOSS.run(Subject(model=nn.Linear(4, 1), batches=(torch.randn(400, 4),), loss_fn=loss_fn))
    assert finding.severity == "note" and finding.evidence["loss_prior"] == pytest.approx(0.056, abs=1e-3)


class Two(nn.Module):
    """Two inputs, of which some count."""

    def __init__(self, used):
        super().__init__()
        self.x, self.c, self.used = nn.Linear(4, 3), nn.Linear(2, 3), used
        self.drop = nn.Dropout(0.5)

    def forward(self, x, *, options):
        y = torch.zeros(len(x), 3)
        if "x" in self.used:
            y = y + self.x(x)
        if "c" in self.used:
            y = y + self.c(options["condition"])
        return self.drop(y + self.x.bias)


def two(used):
    batch = {"x": torch.randn(8, 4), "options": {"condition": torch.randn(8, 2)}}
    return UNUSED.run(Subject(model=Two(used), batches=(batch,)))


def test_inputs_that_move_nothing_are_named():
    assert two("xc") == []
    [condition] = two("x")
    assert condition.severity == "warning" and "`options.condition`" in condition.message
    [everything] = two("")
    assert everything.severity == "failure" and "the output is the same whatever goes in" in everything.message


def test_behind_zero_initialisation_the_condition_counts():
    model = DiT()
    assert not model(*noisy()[:2]).any()  # before the first step nothing shows
    assert UNUSED.run(Subject(model=model, batches=(noisy(),), loss_fn=denoising)) == []


def test_an_input_that_is_the_same_for_all_is_not_asked():
    batch = {"x": torch.randn(8, 4), "options": {"condition": torch.ones(8, 2)}}
    assert UNUSED.run(Subject(model=Two("x"), batches=(batch,))) == []


def test_a_noisy_model_and_a_loss_past_the_model_are_said():
    generator = torch.Generator()
    model = nn.Linear(4, 2)
    model.forward = lambda x: nn.Linear.forward(model, x) + torch.randn(len(x), 2, generator=generator)
    [finding] = UNUSED.run(Subject(model=model, batches=(torch.randn(8, 4),)))
    assert finding.severity == "note" and "different outputs" in finding.message
    inner = nn.Sequential(nn.Linear(4, 2))
    past = Subject(model=inner, batches=(torch.randn(8, 4),), loss_fn=lambda model, x: model[0](x).sum())
    [finding] = UNUSED.run(past)
    assert finding.severity == "note" and "never called the model" in finding.message


def test_metrics_that_see_nothing():
    model, x, y = nn.Linear(4, 2), torch.randn(16, 4), torch.randn(16, 2)

    @torch.no_grad()
    def evaluate():
        out = model(x)
        return {
            "error": float((out - y).square().mean()),
            "spread": float(out.std(0).mean()),
            "weights": float(model.weight.norm()),
            "targets": float(y.std()),
        }

    before = model.weight.detach().clone()
    findings = BLIND.run(Subject(model=model, evaluate=evaluate, metric="targets"))
    assert {(f.severity, *f.evidence) for f in findings} == {("note", "weights"), ("warning", "targets")}
    assert torch.equal(before, model.weight)
    past = Subject(model=nn.Linear(4, 2), evaluate=evaluate, metric="targets")
    assert BLIND.run(past) == []  # another model is evaluated: nothing can be asked


def test_no_metric_is_blamed_for_a_model_that_ignores_its_input():
    x, y = torch.randn(16, 8), torch.randn(16, 3)

    class Pooled(nn.Linear):
        def forward(self, x):
            return super().forward(x).mean(0, keepdim=True).expand(len(x), -1)

    def asked(model):
        def evaluate():
            with torch.no_grad():
                out = model(x)
            return {"spread": float(torch.pdist(out).mean()), "targets": float(y.std())}

        findings = BLIND.run(Subject(model=model, evaluate=evaluate, metric="spread"))
        return {name for finding in findings for name in finding.evidence}

    assert asked(Pooled(8, 3)) == set()
    assert asked(nn.Linear(8, 3)) == {"targets"}
