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
    room=st.integers(2, 40),
    sizes=st.lists(st.integers(40, 100), min_size=1, max_size=5),
    onsets=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300)), max_size=3),
    ratio=st.sampled_from([1.1, 1.25, 2.0]),
    skipped=st.integers(1, 7),
)
@settings(deadline=None, max_examples=60)
def test_thinning_keeps_the_budget_the_first_the_newest_and_the_last_good(
    room, sizes, onsets, ratio, skipped, tmp_path_factory
):
    """Of any schedule: different sizes, failures seen late or never, steps at which none was affordable."""
    folder = tmp_path_factory.mktemp("run")
    budget, each = 100 * room, itertools.cycle(sizes)

    def on_disk():
        return sum(f.stat().st_size for f in (folder / "snapshots").rglob("*") if f.is_file())

    def write(path):
        path.mkdir(parents=True)
        size = next(each)
        (path / "data").write_bytes(b"x" * size)
        assert on_disk() <= budget  # at the worst moment, too
        return size

    keeper = Keeper(folder, Snapshots(budget_gib=budget / GIB, ratio=ratio), write)
    known_good, findings, steps = None, [], []
    for step in range(0, 2000, skipped):
        for onset, delay in onsets:
            if onset + delay <= step and all(f.onset != onset for f in findings):
                findings += [failure(onset), failure(onset, "warning")]
                known_good = last_good(taken(folder), findings)
        if keeper.due(step):
            keeper.take(step, findings, 100)
            before, steps = steps, list(taken(folder))
            assert on_disk() <= budget
            assert steps[-1] == step and set(steps) <= {*before, step}
            assert known_good is None or known_good in steps
            # Beside the first there is the last good one, once a failure tells it from the newest, and what comes in.
            assert room < (4 if findings else 3) or steps[0] == 0
    assert list(taken(folder)) == keeper.describe(findings)["steps"]
    if not findings and room >= 8 and skipped == 1:  # what is left is spread over the whole run
        gaps = [math.log((b + 1) / (a + 1)) for a, b in itertools.pairwise(steps)]
        assert max(gaps) <= 4 * math.log(2001) / min(room, len(steps))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_the_estimate_is_never_less_than_what_is_written(optimizer, tmp_path):
    model = Language()
    optimizer = optimizer(model.parameters(), 1e-3)
    for name in ("before", "after"):
        assert state.write_checkpoint(tmp_path / name, model, [optimizer]) <= state.state_bytes(model, [optimizer])
        train(model, optimizer, 1)


def test_a_killed_writer_leaves_nothing_that_the_next_one_keeps(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from pitprop.watch.state import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as part:\n"
        "    (part / 'model.safetensors').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "rescued"
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == -9
    assert not target.exists() and len(list(tmp_path.iterdir())) == 1
    with state.whole_folder(target) as part:
        (part / "model.safetensors").write_text("whole")
    assert [f.name for f in tmp_path.iterdir()] == ["rescued"]


def test_the_last_good_is_before_the_onset_or_the_initial_state():
    assert last_good([0, 4, 8], [failure(8)]) == 4
    assert last_good([0, 4, 8], [failure(0)]) == 0
    assert last_good([4, 8], [failure(3)]) is None
    assert last_good([0, 4, 8], [failure(3, "warning")]) == 8
