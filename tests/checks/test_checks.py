"""Checks: the registry, what they find, and that nothing of them remains in the model."""

import ast
import copy
import doctest
import importlib
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pitprop.checks
from pitprop import PitpropError
from pitprop.checks import CHECKS, CheckEntry, Subject, by_name, check
from pitprop.checks._forward import preserved
from pitprop.checks.frozen_in_part import FrozenInPart
from pitprop.checks.outside_optimizer import OutsideOptimizer
from pitprop.checks.saturated_at_initialisation import SaturatedAtInitialisation
from pitprop.rules import INTERNAL

SECTIONS = [
    "What it detects",
    "Why it matters",
    "Reads",
    "Threshold",
    "When it is wrong",
    "Remedies",
    "Example",
    "References",
]
by_check = pytest.mark.parametrize("entry", CHECKS, ids=lambda entry: entry.name)


class SumTanh(nn.Module):
    """The neck of `model_merging`: normalised tokens, summed or averaged, then tanh."""

    def __init__(self, pool="sum"):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32))
        self.drop = nn.Dropout(0.3)
        self.norm = nn.BatchNorm1d(32)
        self.neck = nn.Tanh()
        self.pool = pool
        self.out = nn.Linear(32, 4)
        with torch.no_grad():  # tokens of one sample resemble each other, as they do after a transformer
            self.embed[0].bias.normal_(std=5.0)

    def forward(self, x):
        tokens = self.drop(self.embed(x))
        pooled = tokens.sum(1) if self.pool == "sum" else self.norm(tokens.mean(1))
        return self.out(self.neck(pooled))


def saturated(model, batch, loss_fn=None):
    return SaturatedAtInitialisation().run(Subject(model=model, batches=(batch,), loss_fn=loss_fn))


def outside(model, *optimizers):
    return OutsideOptimizer().run(Subject(model=model, optimizers=optimizers))


def batch() -> torch.Tensor:
    return torch.randn(8, 50, 16)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_registry_equals_folder_and_names_agree():
    files = {path.stem for path in Path(pitprop.checks.__file__).parent.glob("[!_]*.py")}
    assert {entry.name.replace("-", "_") for entry in CHECKS} == files
    for entry in CHECKS:
        assert entry.load().name == entry.name
        assert entry.where == f"pitprop.checks.{entry.name.replace('-', '_')}"


@by_check
def test_page_has_all_sections_and_its_example_runs(entry):
    module = importlib.import_module(entry.where)
    page = ast.get_docstring(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
    parts = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    assert parts[1::2] == SECTIONS and all(body.strip() for body in parts[2::2])
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def test_by_name_suggests():
    assert by_name("outside-optimizer") in CHECKS
    with pytest.raises(
        PitpropError, match="there is no check `outside-optimiser`\nDo: did you mean `outside-optimizer`"
    ):
        by_name("outside-optimiser")


def test_saturated_neck_is_found_at_its_site_and_mean_pool_is_not():
    [finding] = saturated(SumTanh("sum"), batch())
    assert (finding.site, finding.severity, finding.onset) == ("neck", "warning", 0)
    assert finding.evidence["saturated_share"] > 0.8
    assert saturated(SumTanh("mean"), batch()) == []


@pytest.mark.parametrize(
    "function", [torch.tanh, torch.sigmoid, torch.Tensor.tanh_, torch.Tensor.sigmoid_, nn.functional.tanh]
)
def test_every_way_to_squash_is_seen(function):
    class Squash(nn.Module):
        def forward(self, x):
            return function(x * 1)

    assert [f.site for f in saturated(Squash(), 1e3 * torch.randn(64))] == ["<model>"]
    assert saturated(Squash(), torch.randn(64)) == []


@pytest.mark.parametrize("form", ["tensor", "tuple", "mapping", "loss_fn"])
def test_batches_of_every_form(form):
    x = batch()
    model = SumTanh()
    given = {"tensor": x, "tuple": (x,), "mapping": {"x": x}, "loss_fn": {"inputs": x, "labels": 3}}[form]
    loss_fn = (lambda model, b: model(b["inputs"]).sum()) if form == "loss_fn" else None
    assert [f.site for f in saturated(model, given, loss_fn=loss_fn)] == ["neck"]


def state_of(model: nn.Module):
    tensors = {k: v.clone() for k, v in (*model.named_parameters(), *model.named_buffers())}
    identities = {k: id(v) for k, v in (*model.named_parameters(), *model.named_buffers())}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    modes = [m.training for m in model.modules()]
    numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
    return tensors, identities, hooks, modes, torch.get_rng_state(), random.getstate(), numpy


def assert_same(before, after):
    for name, value in before[0].items():
        assert torch.equal(value, after[0][name]), name
    assert before[1:4] == after[1:4]
    assert torch.equal(before[4], after[4])
    assert before[5:] == after[5:]


@pytest.mark.parametrize("end", ["success", "error"])
def test_nothing_remains_in_the_model(end):
    model = SumTanh("mean")
    model.out.eval()

    def loss_fn(model, x):
        model(x)
        random.random()
        np.random.rand()  # noqa: NPY002
        model.eval()
        model.norm.running_mean = torch.full((32,), 7.0)
        if end == "error":
            raise RuntimeError("in the middle")

    x, optimizer = batch(), torch.optim.SGD(model.parameters())
    before = state_of(model)
    findings = check(model, x, loss_fn, optimizer=optimizer, allow=["not-run"])
    assert INTERNAL not in [f.rule for f in findings] if end == "success" else [f.rule for f in findings] == [INTERNAL]
    assert_same(before, state_of(model))
    assert all(p.grad is None for p in model.parameters())
    with preserved(model):  # and the test can fail: running the model does change it
        model(x)
        assert not torch.equal(before[0]["norm.running_mean"], model.norm.running_mean)
    assert_same(before, state_of(model))


def test_compiled_models_are_seen_and_compile_afterwards():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(SumTanh(), backend=backend)
    assert [f.site for f in saturated(compiled, batch())] == ["neck"]
    assert not graphs  # the check ran it eagerly
    compiled(batch())
    assert len(graphs) == 1


def test_parameters_in_no_optimizer():
    model = SumTanh()
    optimizer = torch.optim.Adam([*model.embed.parameters(), *model.norm.parameters()])
    [finding] = outside(model, optimizer)
    assert (finding.severity, finding.site) == ("warning", "out")
    assert finding.message == (
        "2 (out.weight, out.bias) of 8 trainable parameters are in no optimizer at out; "
        "they get gradients and never move."
    )
    assert finding.evidence == {"num_tensors": 2, "num_elements": 32 * 4 + 4}
    both = (optimizer, torch.optim.SGD(model.out.parameters()))
    assert outside(model, *both) == []


def test_a_replaced_model_is_a_failure():
    model = SumTanh()
    optimizer = torch.optim.Adam(model.parameters())
    [finding] = outside(copy.deepcopy(model), optimizer)
    assert (finding.severity, finding.site) == ("failure", "<model>")
    assert "no step will change the model" in finding.message


def test_frozen_in_optimizer_is_a_note_and_frozen_outside_is_nothing():
    model = SumTanh()
    optimizer = torch.optim.Adam(model.parameters())
    model.embed.requires_grad_(False)
    [finding] = outside(model, optimizer)
    assert (finding.severity, finding.site) == ("note", "embed")
    others = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    assert outside(model, others) == []


@pytest.mark.parametrize(
    ("frozen", "sites"),
    [
        ((), []),
        ((0, 1), []),  # fine-tuning
        ((0, 1, 2, 3, 4), []),  # all but the last
        ((0, 1, 2, 3, 4, 5), []),
        ((3,), ["blocks.3.0", "blocks.3.2"]),
        ((0, 5), ["blocks.0.0", "blocks.0.2", "blocks.5.0", "blocks.5.2"]),
    ],
)
def test_frozen_in_part(frozen, sites):
    def block():
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))

    model = nn.ModuleDict({"blocks": nn.ModuleList(block() for _ in range(6)), "head": nn.Linear(4, 2)})
    model["head"].requires_grad_(False)
    for number in frozen:
        model["blocks"][number].requires_grad_(False)
    findings = FrozenInPart().run(Subject(model=model))
    assert [(f.severity, f.site) for f in findings] == [("warning", site) for site in sites]


def test_one_frozen_tensor_of_a_block_is_named():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    model[2].bias.requires_grad_(False)
    [finding] = FrozenInPart().run(Subject(model=model))
    assert finding.message == "2.bias: frozen, where the same of most other blocks is trained."


def test_what_is_not_given_is_said():
    findings = check(SumTanh())
    assert {(f.rule, f.severity) for f in findings} == {("not-run", "note")}
    assert "outside-optimizer: not asked, for want of optimizers." in [f.message for f in findings]
    assert check(SumTanh(), allow=["not-run"]) == []


def test_a_check_that_raises_leaves_the_others_their_say():
    model = SumTanh()
    findings = check(model, torch.randn(3, 3), optimizer=torch.optim.SGD(model.out.parameters()), allow=["not-run"])
    assert [f.rule for f in findings] == ["outside-optimizer", INTERNAL]  # one error, however many met it
    assert "saturated-at-initialisation, " in findings[1].message and " raised RuntimeError: " in findings[1].message


def test_allow():
    model, optimizer = SumTanh(), torch.optim.SGD(nn.Linear(2, 2).parameters())
    x = batch()

    def run(*allow):
        return [f.rule for f in check(model, x, optimizer=optimizer, allow=allow) if f.severity != "note"]

    assert run() == ["outside-optimizer", "saturated-at-initialisation"]
    assert run("saturated-at-initialisation@neck") == ["outside-optimizer"]
    assert run("outside-optimizer", "saturated-at-initialisation") == []
    with pytest.raises(PitpropError, match="allow: `saturated-at-init` is neither a name nor"):
        run("saturated-at-init")


def test_not_a_module():
    with pytest.raises(PitpropError, match="checks got a function, not a torch module"):
        check(lambda x: x, batch())


def test_entry_is_a_value():
    assert CheckEntry("a", "b") == CheckEntry("a", "b")


def test_gradients_optimizer_and_flags_are_put_back_by_a_check_that_steps():
    model = SumTanh("mean")
    model.calls = 0
    model.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    x = batch()

    def loss_fn(model, x):
        model.calls += 1
        return model(x).square().mean()

    def step(x):
        optimizer.zero_grad()
        loss_fn(model, x).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5

    step(x)  # so that there are moments and gradients to lose
    kept = {name: p.grad for name, p in model.named_parameters()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    moments = {p: {k: v.clone() for k, v in state.items()} for p, state in optimizer.state.items()}
    before, calls = state_of(model), model.calls
    findings = check(model, x, loss_fn, optimizer=optimizer, step=step)
    assert INTERNAL not in {f.rule for f in findings}
    assert "evaluate" in next(f.message for f in findings if f.rule == "not-run")
    assert_same(before, state_of(model))
    assert model.calls == calls and not model.frozen.requires_grad
    assert {name: p.grad for name, p in model.named_parameters()} == kept
    assert all(torch.equal(model.get_parameter(name).grad, g) for name, g in gradients.items())
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert optimizer.state.keys() == moments.keys()
    assert all(torch.equal(optimizer.state[p][k], v) for p, state in moments.items() for k, v in state.items())
    step(x)  # and it goes on


def test_the_public_name_is_this_one():
    import pitprop

    assert pitprop.check is check
