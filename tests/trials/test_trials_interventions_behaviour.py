"""Every intervention of the registry: written down in full, deterministic, and changing what it says and no more."""

import json
from itertools import islice

import pytest
import recipes_changes
import torch
from recipes_changes import ALL, EXAMPLES, Touches

from pitprop import PitpropError
from pitprop.trials import Arm, Plan, fork
from pitprop.trials.interventions import INTERVENTIONS
from pitprop.trials.run import RunSpec, Steps, build, train_run

AFTER = 2
"""Steps before the fork: AdamW has moments by then."""


def name(example):
    return type(example.change).__name__


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    start = recipes_changes.checkpoint(tmp_path_factory.mktemp("checkpoint"))
    return (*EXAMPLES, Touches(start, parameters=ALL, memory=ALL, output=True, gradients=True))


@pytest.fixture(params=range(len(EXAMPLES) + 1), ids=[*(name(e) for e in EXAMPLES), "LoadState"])
def example(examples, request):
    return examples[request.param]


@pytest.fixture(scope="module")
def recipe(reference):
    return reference("recipes_changes", "recipe")


def at_fork(change=None):
    """A training after `AFTER` steps with `change` applied, as a run makes it; and its next batch."""
    training, late = build(recipes_changes.recipe, {}, 0, () if change is None else (change,))
    steps = Steps(training)
    list(steps.take(AFTER))
    rng = torch.get_rng_state()
    applied = [intervention.apply(training) for intervention in late]
    assert torch.equal(torch.get_rng_state(), rng), "applying draws nothing"
    return training, next(islice(training.batches(AFTER), 1)), applied


def named(training):
    """Parameters by name, a module that was replaced under its own name."""
    return {name.replace(".inner.", "."): p for name, p in training.model.named_parameters()}


def values(training):
    return {name: p.detach().clone() for name, p in named(training).items()}


def memory(training):
    slots = {name: training.optimizer.state.get(p, {}) for name, p in named(training).items()}
    return {f"{name}.{key}": value.clone() for name, kept in slots.items() for key, value in kept.items()}


def gradients(training):
    return {name: p.grad for name, p in named(training).items() if p.grad is not None}


def differing(one, other):
    """Names at which two mappings of tensors differ."""
    return {
        n
        for n in one.keys() | other.keys()
        if n not in one or n not in other or not torch.equal(one[n].double(), other[n].double())
    }


def test_every_kind_has_an_example(examples):
    assert {type(e.change) for e in examples} == set(INTERVENTIONS)


def test_it_survives_the_plan_on_disk_with_every_field(example):
    plan = Plan(recipe="r", source="s", arms=(Arm("a", (example.change,)),), seeds=(0,), metric="m", horizon=1)
    data = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    again = Plan.from_dict({k: v for k, v in data.items() if k != "hash"} if "hash" in data else data)
    assert again.arms[0].interventions == (example.change,) and again.hash == plan.hash
    assert data["arms"][0]["changes"] == example.change.describe()


def test_a_field_more_or_less_is_another_run(example):
    """The address of a run holds every field, so that no two changes share results."""
    head = {"recipe": "r", "source": "s", "seed": 0, "horizon": 1}
    changes = [e.change for e in EXAMPLES] + [example.change]
    addresses = {RunSpec(**head, interventions=(change,)).address for change in changes}
    assert len(addresses) == len(set(changes))


def test_it_changes_what_it_says_at_the_fork_and_nothing_else(example):
    if not hasattr(example.change, "apply"):
        pytest.skip("acts on the build; see below")
    (training, batch, _), (control, _, _) = at_fork(example.change), at_fork()
    for touched, may in ((values, example.parameters), (memory, example.memory)):
        moved = differing(touched(training), touched(control))
        assert all(n.startswith((*may, *example.added)) for n in moved), moved
        assert all(any(n.startswith(prefix) for n in moved) for prefix in may)

    training.model.train(), control.model.train()
    with torch.no_grad():
        out, expected = training.model(*batch), control.model(*batch)
    assert torch.equal(out.double(), expected.double()) != example.output


def test_it_moves_the_parameters_that_it_says_and_no_others(example):
    if not hasattr(example.change, "apply"):
        pytest.skip("acts on the build; see below")
    (training, batch, applied), (control, _, _) = at_fork(example.change), at_fork()
    training.step(batch), control.step(batch)
    changed = differing(values(training), values(control))
    if example.gradients is False:
        assert changed and all(n.startswith((*example.updates, *example.added)) for n in changed), changed
    elif example.gradients is not True:
        other = differing(gradients(training), gradients(control))
        assert other and all(n.startswith(example.gradients) for n in other), other
        assert all(n.startswith(example.gradients) for n in changed)
    else:
        assert changed
    applied[0].check(example.change.describe())


def test_two_runs_with_it_are_one_and_the_control_is_another(example, recipe, tmp_path):
    head = {"recipe": recipe, "source": "", "seed": 0, "horizon": 4, "fork_step": AFTER}
    once, again = (
        train_run(RunSpec(**head, interventions=(example.change,)), str(tmp_path / folder)) for folder in "ab"
    )
    control = train_run(RunSpec(**head), str(tmp_path / "a"))
    assert once["state"] == again["state"] and once["metrics"] == again["metrics"]
    assert once["state"] != control["state"]
    assert "acted" in once and (not once["acted"] or once["acted"][0]), "it says where it acted"


def test_the_digest_of_a_checkpoint_is_kept(tmp_path):
    start = recipes_changes.checkpoint(tmp_path)
    (tmp_path / "other" / "optimizer.pt").unlink()
    with pytest.raises(PitpropError, match="SHA-256 differs"):
        start.apply(at_fork()[0])


def test_the_control_is_itself():
    """The comparison above can fail, and two controls are equal."""
    one, other = (fork.digest(fork.capture(at_fork()[0], AFTER)) for _ in range(2))
    assert one == other
