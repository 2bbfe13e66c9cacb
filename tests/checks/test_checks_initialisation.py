"""The checks that read one pass: branches, attention, tokens, stream; each number against one made by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from check_models import GPT, AttentionOnly, DiT, denoising, ids, next_token, noisy, squares, tokens
from torch import nn

from pitprop.checks import Subject, check
from pitprop.checks._measure import measure
from pitprop.checks.branch_dilution import CHECK as BRANCH
from pitprop.checks.no_gradient import CHECK as NO_GRADIENT
from pitprop.checks.rank_collapse_at_initialisation import CHECK as RANK
from pitprop.checks.stream_growth_at_initialisation import CHECK as GROWTH


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def subject(model, batch, loss_fn=None):
    return Subject(model=model, batches=(batch,), loss_fn=loss_fn)


class Injected(nn.Module):
    """S1's adapter in small: cross-attention to a context added to features, then a normalised head."""

    def __init__(self, scale=1.0, match=False):
        super().__init__()
        self.adapter = nn.Linear(16, 16, bias=False)
        self.cross = nn.MultiheadAttention(16, 2, batch_first=True)
        self.scale, self.match = scale, match
        self.head = nn.Linear(16, 3, bias=False)

    def parts(self, x, context):
        x = self.adapter(x)
        c = self.cross(x, context, context, need_weights=False)[0]
        if self.match:
            c = c * x.norm(dim=-1, keepdim=True) / c.norm(dim=-1, keepdim=True)
        return x, self.scale * c

    def forward(self, x, context):
        x, c = self.parts(x, context)
        return self.head(F.normalize(x + c, dim=-1))


def squared(model, batch):
    return (model(*batch) - 1).square().mean()


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_ratio_dilution_and_gain_are_those_of_autograd(scale):
    model = Injected(scale).double()
    batch = torch.randn(4, 5, 16).double(), torch.randn(4, 7, 16).double()
    [branch] = measure(subject(model, batch, squared)).branches
    with torch.no_grad():
        x, c = model.parts(*batch)
    ratio = (c.flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).mean()
    assert branch.ratio == pytest.approx(float(ratio), rel=1e-5)
    assert branch.dilution == pytest.approx(float((x.norm(dim=-1) / (x + c).norm(dim=-1)).mean()), rel=1e-5)
    x = x.detach().requires_grad_()
    c = scale * model.cross(x, batch[1], batch[1], need_weights=False)[0]
    y = x + c
    loss = (model.head(F.normalize(y, dim=-1)) - 1).square().mean()
    g_x, g_y = torch.autograd.grad(loss, (x, y))
    assert branch.before / branch.after == pytest.approx(float(g_x.norm() / g_y.norm()), rel=1e-5)


@pytest.mark.parametrize("a", [0.1, 0.3, 1.0])
def test_norm_matching_dilutes_by_t4_whatever_the_context(a):
    model = Injected(a, match=True)
    for size in (1.0, 50.0):
        batch = torch.randn(64, 5, 16), size * torch.randn(64, 7, 16)
        [branch] = measure(subject(model, batch, squared)).branches
        assert branch.ratio == pytest.approx(a, rel=1e-4)
        # Two random directions of width 16 are orthogonal up to 1/4.
        assert branch.dilution == pytest.approx(1 / math.sqrt(1 + a * a), abs=0.25 * a)


def test_a_branch_that_gives_the_gradient_back_is_a_note():
    """A tiny embedding before a pre-LN block: its attention is much longer, and its path carries the gradient."""
    model = GPT()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    nn.init.normal_(model.token.weight, std=0.005)
    nn.init.normal_(model.position.weight, std=0.005)
    [finding] = BRANCH.run(subject(model, ids(), next_token))
    assert (finding.severity, finding.site) == ("note", "blocks.0.attn")
    assert finding.evidence["branch_ratio"] > 10 and finding.evidence["norm_dilution"] < 0.1
    assert finding.evidence["norm_dilution"] * finding.evidence["query_path_gain"] > 0.5


def test_every_branch_of_a_stack_has_its_number():
    [finding] = BRANCH.run(subject(GPT(layers=2), ids(), next_token))
    assert {name for name in finding.evidence if "@" in name} == {
        f"{name}@blocks.{i}.{part}"
        for name in ("branch_ratio", "norm_dilution", "query_path_gain")
        for i in range(2)
        for part in ("attn", "mlp")
    }


def test_attention_alone_collapses_and_the_residual_prevents_it():
    model, x = AttentionOnly(), tokens()
    [finding] = RANK.run(subject(model, x, squares))
    assert (finding.severity, finding.site) == ("failure", "layers.1")
    y = model.layers[1](model.layers[0](x)).detach().double()
    cosines = F.cosine_similarity(y[:, :, None], y[:, None], dim=-1)
    off = ~torch.eye(y.shape[1], dtype=torch.bool)
    distance = (2 * (1 - cosines[:, off].mean())).sqrt()
    assert finding.evidence["token_distance"] == pytest.approx(float(distance), rel=0.05)
    for healthy, batch, loss_fn in ((GPT(), ids(), next_token), (DiT(), noisy(), denoising)):
        assert RANK.run(subject(healthy, batch, loss_fn)) == []


def test_equal_tokens_at_the_entrance_are_no_collapse():
    assert RANK.run(subject(AttentionOnly(), torch.randn(8, 1, 32).expand(8, 16, 32), squares)) == []


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(8, 8, bias=False)
        nn.init.eye_(self.mix.weight)

    def forward(self, x):
        return x + self.mix(x)


@pytest.mark.parametrize(("layers", "severity"), [(3, "note"), (5, "warning")])
def test_growth_of_known_size(layers, severity):
    [finding] = GROWTH.run(subject(nn.Sequential(*(Doubling() for _ in range(layers))), torch.randn(2, 4, 8)))
    assert finding.severity == severity  # 2^(n-1) behind the first block, against sqrt(1 + n) and 1 + n
    assert finding.evidence["growth"] == pytest.approx(2 ** (layers - 1))


class Cut(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.encoder, self.head, self.way = nn.Linear(4, 4), nn.Linear(4, 2), way

    def forward(self, x):
        h = self.encoder(x)
        if self.way == "detach":
            h = h.detach()
        elif self.way == "numpy":
            h = torch.as_tensor(h.detach().numpy().copy())
        elif self.way == "round":
            h = h.round()
        return self.head(h)


@pytest.mark.parametrize("way", ["detach", "numpy", "round"])
def test_what_cuts_off_is_told_from_what_is_unused(way):
    model = Cut(way)
    model.spare = nn.Linear(4, 4)
    found = NO_GRADIENT.run(subject(model, 3 * torch.randn(8, 4)))
    assert [(f.severity, f.site) for f in found] == [("warning", "encoder"), ("note", "spare")]
    assert NO_GRADIENT.run(subject(Cut("none"), torch.randn(8, 4))) == []


def test_many_modules_that_are_cut_off_are_all_named():
    model = nn.Module()
    model.parts, model.head = nn.ModuleList(nn.Linear(4, 4) for _ in range(40)), nn.Linear(4, 1)
    model.forward = lambda x: model.head(sum(part(x) for part in model.parts).detach())
    found = NO_GRADIENT.run(subject(model, torch.randn(8, 4)))
    assert {f.severity for f in found} == {"warning"} and sum(f.evidence["num_tensors"] for f in found) == 80
    assert len(found) == 33 and found[-1].site == "parts"


def test_where_outputs_change_by_themselves_nothing_is_claimed():
    model, generator = Cut("detach"), torch.Generator()
    model.forward = lambda x: Cut.forward(model, x + torch.randn(x.shape, generator=generator))
    [finding] = NO_GRADIENT.run(subject(model, torch.randn(8, 4)))
    assert finding.severity == "note" and "can't be told" in finding.message


def test_a_loss_without_the_model_and_a_frozen_model_are_failures():
    model, x = Cut("none"), torch.randn(8, 4)
    [cut] = NO_GRADIENT.run(subject(model, x, lambda model, x: model(x).detach().sum()))
    [frozen] = NO_GRADIENT.run(subject(model.requires_grad_(False), x))
    assert cut.severity == frozen.severity == "failure"
    assert "no parameter gets a gradient" in cut.message and "everything is frozen" in frozen.message


HEALTHY = {"GPT": (GPT, ids, next_token), "DiT": (DiT, noisy, denoising)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_models_get_notes_at_most(name, seed):
    torch.manual_seed(seed)
    make, batch, loss_fn = HEALTHY[name]
    model = make()
    optimizer = torch.optim.AdamW(model.parameters())
    loud = [f for f in check(model, batch(), loss_fn, optimizer=optimizer) if f.severity != "note"]
    assert loud == []
