"""The five models of the issue, asked as a user asks: `pitprop.check(model, batch, loss_fn)`."""

import pytest
import torch
from check_models import ACCEPTANCE

import pitprop
from pitprop.remedies import REMEDIES
from pitprop.trials.interventions import INTERVENTIONS

LOUD = {
    "adaLN-Zero DiT": set(),
    "LoRA A=B=0": {("failure", "dead-zero-chain")},
    # AdamW shrinks the dead branches' first layers, which are not zero.
    "ReZero, zero projection": {("failure", "dead-zero-chain"), ("warning", "decay-without-gradient")},
    "attention only": {("failure", "rank-collapse-at-initialisation")},
    "GPT": set(),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ACCEPTANCE)
def test_what_is_said_of_each(name, seed):
    torch.manual_seed(seed)
    make, batch, loss_fn = ACCEPTANCE[name]
    model = make()
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    x = batch()

    def step(x):
        optimizer.zero_grad()
        loss_fn(model, x).backward()
        optimizer.step()

    findings = pitprop.check(model, x, loss_fn, optimizer=optimizer, step=step)
    assert {(f.severity, f.rule) for f in findings if f.severity != "note"} == LOUD[name]
    known = {remedy.name for remedy in REMEDIES} | {kind.__name__ for kind in INTERVENTIONS}
    assert {name for finding in findings for name in finding.remedies} <= known
    if name == "adaLN-Zero DiT":
        [orders] = [f for f in findings if f.rule == "dead-zero-chain"]
        assert "order 0: 2 tensors" in orders.message and "; 1: " in orders.message and "; 2: " in orders.message
