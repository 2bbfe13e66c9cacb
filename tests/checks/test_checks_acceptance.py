"""The five models of the issue, asked as a user asks: `pitprop.check(model, batch, loss_fn)`, and on the terminal."""

from pathlib import Path

import pytest
import torch
from check_models import ACCEPTANCE

import pitprop
from pitprop.cli import main
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


@pytest.mark.parametrize("name", ACCEPTANCE)
def test_what_a_user_sees_of_each(name, capsys):
    recipe = f"{Path(__file__).with_name('recipes_acceptance.py')}:recipe"
    code = main(["check", recipe, "--knob", f"model={name}"])
    said = capsys.readouterr().out
    loud = {
        (words[0], words[1]) for line in said.splitlines() if (words := line.split())[:1] in (["failure"], ["warning"])
    }
    assert loud == LOUD[name]
    assert code == int(any(severity == "failure" for severity, _ in loud))
    assert ("Nothing wrong was found." in said) == (not loud)
    if name == "adaLN-Zero DiT":
        assert "order 0: 2 tensors" in said and "; 1: 8 tensors" in said and "; 2: 20 tensors" in " ".join(said.split())
    if name == "GPT":
        assert {line.split()[0] for line in said.splitlines() if " at " in line and line[0] != " "} == {"note"}
