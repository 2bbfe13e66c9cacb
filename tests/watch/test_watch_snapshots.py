"""Snapshots: they change nothing, load without executing anything, keep the budget and always hold the last good."""

import errno
import itertools
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from watch_models import FusedAttention, Language, train

import pitprop.watch
from pitprop import PitpropError
from pitprop.records import Finding
from pitprop.trace import Reader
from pitprop.watch import state
from pitprop.watch.snapshots import GIB, Keeper, Snapshots, last_good, taken

STEPS = 60


def seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  the global state is what must not change
    torch.manual_seed(0)
    model = Language(lambda: FusedAttention(0.1), dropout=0.1)
    return model, torch.optim.AdamW(model.parameters(), 1e-3)


def watched(folder, snapshots, steps=STEPS, **options):
    model, optimizer = seeded()
    options = {"every": 5, "budget": None, "quiet": True, **options}
    with pitprop.watch(model, optimizer, run=folder, snapshots=snapshots, **options) as watch:
        losses = train(model, optimizer, steps, watch=watch)
    return losses, model, optimizer, watch


def failure(onset, severity="failure"):
    return Finding(rule="output-duplication", severity=severity, site="<run>", onset=onset, detected=onset, message="")


def test_losses_weights_and_random_states_are_equal_bit_for_bit(tmp_path):
    model, optimizer = seeded()
    plain = train(model, optimizer, STEPS)
    weights, rng = model.state_dict(), state.rng_state()
    losses, model, _, watch = watched(tmp_path / "run", 1)
    assert losses == plain
    after = state.rng_state()
    assert after["python"] == rng["python"] and torch.equal(after["torch"], rng["torch"])
    assert torch.equal(after["numpy"]["state"]["key"][state.NDARRAY], rng["numpy"]["state"]["key"][state.NDARRAY])
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert len(taken(tmp_path / "run")) > 10 and not watch.findings


def test_steps_are_log_spaced_and_listed_in_the_trace(tmp_path):
    watched(tmp_path / "run", Snapshots(budget_gib=1, ratio=2))
    assert list(taken(tmp_path / "run")) == [0, 1, 2, 4, 8, 16, 32, 60]  # the last one at the end
    with Reader(tmp_path / "run") as reader:
        listed = reader.meta("snapshots")
    assert listed["steps"] == [0, 1, 2, 4, 8, 16, 32, 60] and listed["last_good"] == 60
    assert listed["bytes"] == sum(f.stat().st_size for f in (tmp_path / "run/snapshots").rglob("*") if f.is_file())


def test_none_are_taken_by_default(tmp_path):
    watched(tmp_path / "run", None)
    assert not (tmp_path / "run" / "snapshots").exists()


def test_training_goes_on_from_a_snapshot_bit_for_bit(tmp_path):
    losses, model, optimizer, _ = watched(tmp_path / "run", Snapshots(budget_gib=1, ratio=2))
    folder = taken(tmp_path / "run")[32]
    model.load_state_dict(load_file(folder / state.MODEL))
    optimizer.load_state_dict(torch.load(folder / state.OPTIMIZER, weights_only=True))
    state.set_rng_state(torch.load(folder / state.RNG, weights_only=True))
    assert train(model, optimizer, STEPS - 32) == losses[32:]


def test_tied_weights_are_written_under_both_names(tmp_path):
    model = Language()
    model.head.weight = model.token.weight
    state.write_checkpoint(tmp_path / "step-0", model, [torch.optim.SGD(model.parameters(), 0.1)])
    saved = load_file(tmp_path / "step-0" / state.MODEL)
    assert torch.equal(saved["head.weight"], saved["token.weight"])


def test_a_compiled_model_is_written_under_the_names_of_its_code(tmp_path):
    model = Language()
    model.blocks[0] = torch.compile(model.blocks[0], backend="eager")
    state.write_checkpoint(tmp_path / "step-0", torch.compile(model, backend="eager"), [])
    assert load_file(tmp_path / "step-0" / state.MODEL).keys() == Language().state_dict().keys()


def test_their_time_counts_and_waits_for_the_budget(tmp_path):
    *_, watch = watched(tmp_path / "run", 1, budget=1e-6)
    assert list(taken(tmp_path / "run")) == [0, STEPS]  # the first, whose cost is not known yet, and the last
    assert watch._schedule.own_s >= watch._snapshot_s / 2


def test_a_full_disk_is_a_finding_and_the_run_goes_on(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    losses, *_, watch = watched(tmp_path / "run", 1)
    assert len(losses) == STEPS
    (finding,) = watch.findings
    assert finding.rule == "pitprop-internal" and finding.site == "snapshot"
    assert "No space left" in finding.message
    assert list((tmp_path / "run" / "snapshots").iterdir()) == []


def test_a_budget_without_room_for_two_says_how_much_is_needed(tmp_path):
    *_, watch = watched(tmp_path / "run", 1e-7)
    assert "room for two" in watch.findings[0].message and "snapshots=" in watch.findings[0].message
    assert not taken(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"), [({"budget_gib": 0}, "budget"), ({"budget_gib": 1, "ratio": 1}, "ratio")]
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(PitpropError, match=message):
        Snapshots(**options)


def test_replace_removes_the_snapshots_of_the_old_run_and_resume_keeps_them(tmp_path):
    watched(tmp_path / "run", Snapshots(budget_gib=1, ratio=2))
    watched(tmp_path / "run", Snapshots(budget_gib=1, ratio=2), steps=5, exist="resume")
    assert list(taken(tmp_path / "run"))[-2:] == [60, 65]
    watched(tmp_path / "run", Snapshots(budget_gib=1, ratio=2), steps=3, exist="replace")
    assert list(taken(tmp_path / "run")) == [0, 1, 2, 3]


def test_a_kill_in_the_middle_of_a_write_leaves_no_snapshot_that_looks_whole(tmp_path):
    code = (
        "import os, sys, torch, pitprop.watch\n"
        "from pitprop.watch import state\n"
        "model = torch.nn.Linear(2, 2)\n"
        "optimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "whole = torch.save\n"
        "def save(value, path):\n"
        "    whole(value, path)\n"
        "    if 'step-2' in str(path): os._exit(9)\n"
        "torch.save = save\n"
        "with pitprop.watch(model, optimizer, run=sys.argv[1], budget=None, quiet=True, snapshots=1):\n"
        "    for _ in range(5):\n"
        "        model(torch.ones(1, 2)).sum().backward(); optimizer.step()\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False).returncode == 9
    assert list(taken(tmp_path / "run")) == [0, 1]
    assert len(list((tmp_path / "run" / "snapshots").iterdir())) == 3
    Keeper(tmp_path / "run", Snapshots(budget_gib=1), lambda folder: 0)
    assert len(list((tmp_path / "run" / "snapshots").iterdir())) == 2


@given(
    size=st.integers(2, 40),
    onset=st.none() | st.integers(0, 3000),
    delay=st.integers(0, 300),
    ratio=st.sampled_from([1.1, 1.25, 2.0]),
)
@settings(deadline=None, max_examples=40)
def test_thinning_keeps_the_budget_the_newest_and_the_last_good(size, onset, delay, ratio, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")

    def write(path):
        path.mkdir(parents=True)
        (path / "data").write_bytes(b"x" * 100)
        return 100

    keeper = Keeper(folder, Snapshots(budget_gib=100 * size / GIB, ratio=ratio), write)
    known_good = None
    findings = []
    for step in range(2000):
        if onset is not None and step == onset + delay:
            findings = [failure(onset), failure(onset, "warning")]
            known_good = last_good(taken(folder), findings)
        if keeper.due(step):
            keeper.take(step, findings, 100)
            steps = list(taken(folder))
            assert 100 * len(steps) <= 100 * size
            assert steps[-1] == step
            assert known_good is None or known_good in steps
    assert list(taken(folder)) == keeper.describe(findings)["steps"]
    if onset is None and size >= 8:  # what is left is spread over the whole run
        gaps = [math.log((b + 1) / (a + 1)) for a, b in itertools.pairwise(steps)]
        assert max(gaps) <= 4 * math.log(2001) / min(size, len(steps))


def test_the_last_good_is_before_the_onset_or_the_initial_state():
    assert last_good([0, 4, 8], [failure(8)]) == 4
    assert last_good([0, 4, 8], [failure(0)]) == 0
    assert last_good([4, 8], [failure(3)]) is None
    assert last_good([0, 4, 8], [failure(3, "warning")]) == 8
