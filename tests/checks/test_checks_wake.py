"""Wake-up order: the delays that are healthy, the chains that are dead, and the structure that never alarms."""

import pytest
import torch
from check_models import GPT, DiT, LoRA, ReZero, denoising, ids, next_token, noisy, squares, tokens
from torch import nn

import pitprop
from pitprop.checks import Subject
from pitprop.checks._forward import preserved
from pitprop.checks._wake import wake
from pitprop.checks.dead_zero_chain import CHECK


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def ask(model, batch, loss_fn=squares, optimizers=()):
    return CHECK.run(Subject(model=model, batches=(batch,), loss_fn=loss_fn, optimizers=optimizers))


@pytest.mark.parametrize("loss_fn", [denoising, None])
def test_adaln_zero_is_0_1_2_and_healthy(loss_fn):
    model = DiT()
    batch = noisy() if loss_fn else noisy()[:2]
    [finding] = ask(model, batch, loss_fn)
    assert (finding.severity, finding.rule) == ("note", "dead-zero-chain")
    with preserved(model):
        orders = wake(Subject(model=model, batches=(batch,), loss_fn=loss_fn)).orders
    assert orders.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, order in orders.items() if order == 0} == {"out.weight", "out.bias"}
    assert {orders[f"blocks.0.modulation.1.{kind}"] for kind in ("weight", "bias")} == {1}
    assert {order for name, order in orders.items() if name.startswith(("encoder", "blocks.0.attn"))} == {2}
    assert set(finding.evidence) == {"num_order_0", "num_order_1", "num_order_2"}


def slow_orders(model, loss_fn, batch, most=6):
    """The definition, by real steps: an order is the first SGD step at which the gradient isn't exactly zero."""
    orders = {}
    for step in range(most):
        model.zero_grad()
        loss_fn(model, batch).backward()
        for name, p in model.named_parameters():
            if p.grad is not None and bool((p.grad != 0).any()):
                orders.setdefault(name, step)
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= 0.5 * p.grad
    return orders


@pytest.mark.parametrize(
    ("make", "loss_fn", "batch"),
    [(DiT, denoising, noisy), (lambda: LoRA(False), squares, tokens), (lambda: ReZero(False), squares, tokens)],
    ids=["DiT", "LoRA", "ReZero"],
)
def test_orders_are_those_of_real_training_steps(make, loss_fn, batch):
    model, b = make(), batch()
    with preserved(model):
        orders = wake(Subject(model=model, batches=(b,), loss_fn=loss_fn)).orders
    assert orders == slow_orders(model, loss_fn, b)


def test_lora_with_both_factors_zero_is_dead():
    [finding] = ask(LoRA(dead=True), tokens())
    assert (finding.severity, finding.evidence["num_dead"]) == ("failure", 2)
    assert "2 zero tensors (A, B) wait for each other" in finding.message
    [healthy] = ask(LoRA(dead=False), tokens())
    assert healthy.severity == "note"


def test_rezero_with_a_zero_projection_is_dead_and_what_is_behind_it_too():
    [finding] = ask(ReZero(dead=True), tokens())
    assert finding.severity == "failure"
    assert finding.evidence["num_dead"] == 1 + 2 * 4  # alpha, and weights and biases of both layers of both blocks
    assert [f.severity for f in ask(ReZero(dead=False), tokens())] == ["note"]


def test_one_dead_adapter_among_many_is_found_at_its_place():
    model = nn.Sequential(LoRA(False), LoRA(True), LoRA(False))
    [finding] = ask(model, tokens())
    assert (finding.severity, finding.site) == ("failure", "1")


def test_a_zero_factor_in_no_optimizer_never_moves():
    model = LoRA(dead=False)
    forgotten = torch.optim.SGD([model.A])
    [finding] = ask(model, tokens(), optimizers=(forgotten,))
    assert finding.severity == "failure" and "B is zero and nothing moves it" in finding.message
    assert ask(model, tokens(), optimizers=(torch.optim.SGD([model.A, model.B]),))[0].severity == "note"


def test_healthy_gpt_has_nothing_to_wake():
    assert ask(GPT(), ids(), next_token) == []


class Structural(nn.Module):
    """One attention layer with one of `WHITELIST`, which has no gradient (or looks ill) by construction."""

    def __init__(self, item: str):
        super().__init__()
        self.item, self.active = item, False
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))
        self.norm = nn.LayerNorm(4)
        if item == "key biases":
            nn.init.zeros_(self.k.bias)
        if item == "mean component before a normalisation":
            self.shift = nn.Parameter(torch.zeros(1))
        if item == "unused null embedding":
            self.null, self.table = nn.Parameter(torch.zeros(4)), nn.Embedding(3, 4)
            nn.init.zeros_(self.table.weight)
        if item == "parameters behind a flag":
            self.flagged = nn.Linear(4, 4)
        if item == "zero-initialised output that wakes up":
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x):
        keys = x[:, :1].expand_as(x) if self.item == "uniform attention over identical keys" else x
        scale = 1e-3 if self.item == "near-uniform attention at initialisation" else 0.5
        y = (scale * self.q(x) @ self.k(keys).mT).softmax(-1) @ self.v(x)
        y = self.norm(x + self.out(y) + getattr(self, "shift", 0.0))
        return self.flagged(y) if self.active else y


WHITELIST = (
    "key biases",
    "mean component before a normalisation",
    "unused null embedding",
    "parameters behind a flag",
    "uniform attention over identical keys",
    "near-uniform attention at initialisation",
    "zero-initialised output that wakes up",
)
"""What `science.md` calls healthy although its gradient is zero, or its attention uniform."""


@pytest.mark.parametrize("item", WHITELIST)
def test_the_structural_whitelist_never_alarms(item):
    model, batch = Structural(item).double(), torch.randn(3, 7, 4, dtype=torch.double)
    assert [f for f in ask(model, batch) if f.severity != "note"] == []
    assert [f for f in pitprop.check(model, batch, squares) if f.severity == "failure"] == []
