"""Rules of the catalogue on real, tiny trainings: each with its fault and without, on three seeds."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pitprop.records import RUN, Row
from pitprop.rules import by_name, detect
from pitprop.watch.by_hand import loss_conflict, paired_gap
from pitprop.watch.feeds import Feeds


@pytest.fixture(params=[0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))], autouse=True)
def seed(request):
    torch.manual_seed(request.param)


class Trace:
    """Rows of what `log` would have measured."""

    def __init__(self):
        self.rows, self._feeds = [], Feeds()

    def log(self, **given):
        measured = self._feeds.measure(self._feeds.take(given))
        values = {name: float(value) for (name, _), value in measured.items()} | given
        self.rows.append(Row(step=len(self.rows), site=RUN, values=values))

    def findings(self, name):
        return detect(self.rows, (by_name(name),))


LOSSES = torch.tensor([0.02, 0.06, 0.15, 0.3, 0.47])  # shares as in the follow-up of seed 0
START = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3])


def weigh(objective, steps, watched, lr=1e-2, noise=0.1, power=lambda step: 1.0):
    """Softmax weights under Adam, from a schedule like that of seed 0; the share of the smallest loss, step by step."""
    logits = START.log().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr)
    trace, shares = Trace(), []
    for step in range(steps):
        losses = LOSSES ** power(step) * torch.exp(noise * torch.randn(5))
        weights = logits.softmax(0)
        if step < watched:
            trace.log(weights=weights, losses=losses)
        shares.append(weights[0].item())
        optimizer.zero_grad()
        objective(weights, losses).backward()
        optimizer.step()
    return trace, shares


def test_loss_weights_are_found_before_they_have_moved_and_with_their_vertex():
    trace, shares = weigh(lambda w, losses: w @ losses, 700, watched=60)
    [finding] = trace.findings("loss-weight-collapse")
    assert finding.severity == "warning" and finding.detected < 40
    assert shares[finding.detected] < 0.15 < 0.9 < shares[-1]
    assert finding.evidence["loss_weight_vertex"] == 0
    arrived = next(step for step, share in enumerate(shares) if share > 0.9)
    assert finding.evidence["vertex_at_step"] == pytest.approx(arrived, rel=0.3)


def test_loss_weights_that_nothing_trains_are_a_note():
    trace, _ = weigh(lambda w, losses: (w * 0.0).sum(), 120, watched=120)
    [finding] = trace.findings("loss-weight-collapse")
    assert finding.severity == "note" and "nothing trains them" in finding.message


@pytest.mark.parametrize(
    "power", [lambda step: 1.0, lambda step: 0.3 + 2.7 * 0.97**step], ids=["constant", "there and back"]
)
def test_loss_weights_that_follow_the_large_losses_are_fine(power):
    trace, _ = weigh(lambda w, losses: (w - losses / losses.sum()).square().sum(), 400, watched=400, power=power)
    assert trace.findings("loss-weight-collapse") == []


def test_under_descent_the_way_from_the_start_never_shrinks():
    """w ~ w(0) exp(-t L) solves dw_i = w_i (Lbar - L_i); fifty starts and losses."""
    start, losses = torch.rand(50, 5, dtype=torch.float64).softmax(-1), 5 * torch.rand(50, 5, dtype=torch.float64)
    time = torch.linspace(0, 10, 500, dtype=torch.float64)[:, None, None]
    way = ((start.log() - time * losses).softmax(-1) - start).abs().sum(-1) / 2
    assert (way.diff(dim=0) > -1e-12).all() and (way[-1] > 0.2).all()


def classify(learnable, steps=300):
    """Unbalanced classes (85 % background) that depend on the input, or do not."""
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    trace = Trace()
    for _ in range(steps):
        x = torch.randn(256, 8)
        score = x[:, 0] if learnable else torch.randn(256)
        labels = (score > 1.04).long() + (score > 1.64).long()
        logits = model(x)
        trace.log(logits=logits, labels=labels)
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    return trace


@pytest.mark.slow
def test_class_collapse_is_found():
    [finding] = classify(learnable=False).findings("class-collapse")
    assert finding.severity == "failure" and finding.detected < 250


@pytest.mark.slow
def test_transient_background_is_fine():
    trace = classify(learnable=True)
    background = [
        row.values["class_entropy_ratio"] < 0.5 and row.values["class_loss_ratio"] > 0.98 for row in trace.rows
    ]
    assert any(background) and not background[-1]
    assert trace.findings("class-collapse") == []
    assert trace.findings("softmax-saturation") == []


def autoencode(kl_weight, steps=400):
    """A linear VAE on data with two directions."""
    encoder, decoder = nn.Linear(10, 8), nn.Linear(4, 10)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-2)
    basis, trace = torch.randn(2, 10), Trace()
    for _ in range(steps):
        x = torch.randn(128, 2) @ basis + 0.1 * torch.randn(128, 10)
        mean, log_variance = encoder(x).chunk(2, dim=-1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        trace.log(latent_mean=mean, latent_log_variance=log_variance)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        loss = 0.5 * (decoder(z) - x).square().sum(-1).mean() + kl_weight * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trace


@pytest.mark.slow
def test_posterior_collapse_is_found():
    """A KL weight (a decoder variance) over the data's largest eigenvalue makes the prior the best posterior."""
    [finding] = autoencode(kl_weight=1000.0).findings("posterior-collapse")
    assert finding.severity == "failure"


@pytest.mark.slow
def test_posterior_that_leaves_unneeded_latents_is_fine():
    assert [f for f in autoencode(kl_weight=1.0).findings("posterior-collapse") if f.severity != "note"] == []


def embed(repulsion, steps=300):
    """Two views of each input drawn together, with or without something that holds different inputs apart."""
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    trace = Trace()
    for _ in range(steps):
        x = torch.randn(128, 10)
        a, b = (F.normalize(model(x + 0.3 * torch.randn_like(x)), dim=-1) for _ in range(2))
        trace.log(embeddings=a)
        together = -(a * b).sum(-1).mean()
        apart = torch.logsumexp((a @ b.T / 0.2), dim=-1).mean() * 0.2
        optimizer.zero_grad()
        (together + repulsion * apart).backward()
        optimizer.step()
    return trace


@pytest.mark.slow
def test_embedding_collapse_is_found():
    findings = embed(repulsion=0.0, steps=450).findings("embedding-collapse")
    assert [finding.severity for finding in findings] == ["warning", "failure"]


@pytest.mark.slow
def test_contrastive_embeddings_are_fine():
    trace = embed(repulsion=1.0)
    assert trace.findings("embedding-collapse") == trace.findings("dimensional-collapse") == []


class Conditional(nn.Module):
    """adaLN-Zero in small: the condition comes in through a zero-initialised projection."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 32), nn.Linear(32, 4)
        self.modulate = nn.Linear(4, 32)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x, c):
        return self.head(torch.tanh(self.body(x) + self.modulate(c)))


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
def test_condition_that_is_used_and_one_that_is_not(given):
    model, trace = Conditional(), Trace()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(300):
        x, c = torch.randn(64, 6), torch.randn(64, 4)
        y = x[:, :4] + 0.5 * c
        used = c if given else torch.randn(64, 4)  # a loader that pairs wrongly

        def loss(condition, x=x, y=y):
            return F.mse_loss(model(x, condition), y)

        gap = paired_gap(
            model, lambda used=used, loss=loss: loss(used), lambda used=used, loss=loss: loss(used.roll(1, 0))
        )
        trace.log(condition_gap=gap)
        optimizer.zero_grad()
        loss(used).backward()
        optimizer.step()
    assert [f.severity for f in trace.findings("condition-ignored")] == ([] if given else ["warning"])


@pytest.mark.parametrize(("sign", "found"), [(1.0, []), (-1.0, ["note"])])
def test_gradient_conflict(sign, found):
    model, trace = nn.Linear(6, 1), Trace()
    for _ in range(60):
        x = torch.randn(32, 6)
        out = model(x)[:, 0]
        conflict = loss_conflict((out - 2).square().mean(), (out - 2 * sign).square().mean(), model)
        trace.log(gradient_cosine=float(conflict))
    assert [f.severity for f in trace.findings("gradient-conflict")] == found


def teach(temperature, steps=160):
    """A student learns the centred targets of its own average, on data with eight clusters."""
    student = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16))
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    clusters, centre, trace = 2 * torch.randn(8, 10), torch.zeros(16), Trace()
    for _ in range(steps):
        x = clusters[torch.randint(0, 8, (128,))] + 0.5 * torch.randn(128, 10)
        a, b = (x + 0.2 * torch.randn_like(x) for _ in range(2))
        out = teacher(a)
        targets = ((out - centre) / temperature).softmax(-1)
        centre = 0.9 * centre + 0.1 * out.mean(0)
        trace.log(teacher=targets)
        loss = -(targets * (student(b) / 0.1).log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.data.lerp_(new.data, 0.1)
    return trace


@pytest.mark.slow
def test_teacher_that_is_not_sharpened_collapses_to_uniform():
    [finding] = teach(temperature=1.0).findings("teacher-collapse")
    assert finding.severity == "failure" and "uniform" in finding.message


@pytest.mark.slow
def test_sharpened_and_centred_teacher_is_fine():
    assert teach(temperature=0.04).findings("teacher-collapse") == []


def quantise(codebook, steps=150):
    """A VQ autoencoder with a straight-through gradient."""
    encoder, decoder, codebook = nn.Linear(10, 4), nn.Linear(4, 10), nn.Parameter(codebook)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), codebook], 3e-3)
    trace = Trace()
    for _ in range(steps):
        x = torch.randn(256, 10)
        z = encoder(x)
        codes = torch.cdist(z, codebook).argmin(1)
        q = codebook[codes]
        trace.log(codes=codes, num_codes=len(codebook))
        loss = F.mse_loss(decoder(z + (q - z).detach()), x) + F.mse_loss(q, z.detach()) + F.mse_loss(z, q.detach()) / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trace


def test_codebook_far_from_the_data_collapses():
    """The nearest code of all wins, learns, and stays the nearest."""
    [finding] = quantise(0.01 * torch.randn(64, 4) + 3.0).findings("codebook-collapse")
    assert finding.severity == "warning"


def test_codebook_among_the_data_is_fine():
    assert quantise(torch.randn(64, 4)).findings("codebook-collapse") == []


def route(bias, steps=80):
    """Top-1 experts with a balance loss; the first expert is preferred by `bias` at the start."""
    gate, experts, true = nn.Linear(10, 8), nn.Parameter(0.1 * torch.randn(8, 10, 4)), torch.randn(10, 4)
    gate.bias.data[0] += bias
    optimizer = torch.optim.Adam([*gate.parameters(), experts], 1e-2)
    trace = Trace()
    for _ in range(steps):
        x = torch.randn(256, 10)
        p = gate(x).softmax(-1)
        chosen = F.one_hot(p.argmax(-1), 8).float()
        trace.log(routing=chosen)
        loss = F.mse_loss(torch.einsum("nd,edo,ne->no", x, experts, chosen * p), x @ true)
        loss = loss + (0.0 if bias else 8.0) * (chosen.mean(0) * p.mean(0)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return trace


@pytest.mark.parametrize(("bias", "found"), [(3.0, ["warning"]), (0.0, [])])
def test_router_that_prefers_one_expert_and_one_that_is_balanced(bias, found):
    assert [f.severity for f in route(bias).findings("router-collapse")] == found
