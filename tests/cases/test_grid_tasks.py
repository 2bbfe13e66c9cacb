"""ARC tasks: the reader, the generator, the augmentation and the canvas."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pitprop._errors import PitpropError
from pitprop.cases.grid_solver.augment import changed, draw, identity
from pitprop.cases.grid_solver.canvas import IGNORED, PAD, collate, place
from pitprop.cases.grid_solver.kinds import KINDS, generate
from pitprop.cases.grid_solver.tasks import read_folder, read_task

GOOD = {
    "train": [{"input": [[0, 1]], "output": [[1], [0]]}],
    "test": [{"input": [[2, 3]], "output": [[3], [2]]}],
}


def written(folder, document) -> Path:
    path = folder / "t.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_task_is_read(tmp_path):
    written(tmp_path, GOOD)
    [task] = read_folder(tmp_path)
    assert task.name == "t" and task.largest_side == 2
    assert task.train[0].output.tolist() == [[1], [0]] and task.test[0].input.tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "not an ARC task"),
        ("[1]", "it has no list `train`"),
        ({"train": GOOD["train"]}, "it has no list `test`"),
        (GOOD | {"test": []}, "it has no list `test`"),
        (GOOD | {"test": [{"input": [[1]]}]}, r"test\[0\] is no pair"),
        (GOOD | {"test": [{"input": [[1], [1, 2]], "output": [[1]]}]}, r"test\[0\].input is no grid"),
        (GOOD | {"test": [{"input": [], "output": [[1]]}]}, "is no grid of 1 to 30"),
        (GOOD | {"test": [{"input": [[]], "output": [[1]]}]}, "is no grid of 1 to 30"),
        (GOOD | {"test": [{"input": [[0.5]], "output": [[1]]}]}, "whole numbers"),
        (GOOD | {"test": [{"input": [["a"]], "output": [[1]]}]}, "whole numbers"),
        (GOOD | {"test": [{"input": [[10]], "output": [[1]]}]}, "colours outside of 0 to 9"),
        (GOOD | {"test": [{"input": [[-1]], "output": [[1]]}]}, "colours outside of 0 to 9"),
        (GOOD | {"test": [{"input": [[1] * 31], "output": [[1]]}]}, "is no grid of 1 to 30"),
    ],
)
def test_what_is_no_task_is_explained(tmp_path, document, why):
    with pytest.raises(PitpropError, match=why):
        read_task(written(tmp_path, document))


def test_a_folder_without_tasks_is_explained(tmp_path):
    with pytest.raises(PitpropError, match="is not a folder"):
        read_folder(tmp_path / "none")
    written(tmp_path, GOOD)
    with pytest.raises(PitpropError, match=r"at most 1 x 1 \(1 JSON files\)"):
        read_folder(tmp_path, largest=1)


@pytest.mark.skipif("PITPROP_DATA" not in os.environ, reason="PITPROP_DATA names no folder of real data")
def test_the_real_tasks_are_read():
    folder = Path(os.environ["PITPROP_DATA"])
    assert len(read_folder(folder / "arc-agi-1" / "data" / "training")) == 400
    assert len(read_folder(folder / "arc-agi-1" / "data" / "training", largest=10)) == 178
    assert all(task.largest_side == 5 for task in read_folder(folder / "mini-arc"))


@pytest.mark.parametrize("index", range(len(KINDS)), ids=[name for name, _ in KINDS])
def test_every_kind_draws_grids_that_change_and_are_the_same_again(index):
    for round_ in range(6):
        number = index + round_ * len(KINDS)
        task = generate(number + 1, seed=3)[number]
        again = generate(number + 1, seed=3)[number]
        assert task.name == f"{KINDS[index][0]}-{number}" and len(task.train) == 3
        for pair, same in zip(task.train + task.test, again.train + again.test, strict=True):
            assert np.array_equal(pair.input, same.input) and np.array_equal(pair.output, same.output)
            for grid in pair:
                assert grid.ndim == 2 and 1 <= max(grid.shape) <= 10 and grid.min() >= 0 and grid.max() <= 9
            assert pair.input.shape != pair.output.shape or (pair.input != pair.output).any()


RULES = {  # an independent statement of some kinds, from the grids alone
    "mirror-left-right": lambda grid: grid[:, ::-1],
    "transpose": lambda grid: [list(column) for column in zip(*grid.tolist(), strict=True)],
    "enlarge": lambda grid: grid.repeat(2, 0).repeat(2, 1),
    "half-turn": lambda grid: grid[::-1, ::-1],
}


@pytest.mark.parametrize("name", RULES)
def test_some_kinds_are_what_they_are_called(name):
    for task in generate(5 * len(KINDS), seed=1):
        if task.name.startswith(name):
            assert all(np.array_equal(RULES[name](pair.input), pair.output) for pair in task.train)


def test_counting_and_logic_are_what_they_are_called():
    for task in generate(5 * len(KINDS), seed=1):
        for grid, out in task.train:
            if task.name.startswith("count"):
                counted = [c for c in range(1, 10) if (grid == c).sum() == (out > 0).sum()]
                assert counted
            if task.name.startswith("one-of-two"):
                middle = grid.shape[1] // 2
                assert np.array_equal((grid[:, :middle] > 0) != (grid[:, middle + 1 :] > 0), out > 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000))
def test_a_change_can_be_undone_and_keeps_the_background(seed):
    rng = np.random.default_rng(seed)
    grid, change = rng.integers(0, 10, rng.integers(1, 6, 2)), draw(rng)
    moved = change.apply(grid)
    assert np.array_equal(change.undo(moved), grid)
    assert (moved == 0).sum() == (grid == 0).sum()
    assert np.array_equal(identity().apply(grid), grid)


def test_the_eight_symmetries_differ_and_colours_may_be_left_alone():
    grid = np.arange(6).reshape(2, 3)
    seen = set()
    for seed in range(200):
        change = draw(np.random.default_rng(seed), colours=False)
        seen.add((change.symmetry, str(change.apply(grid))))
    assert len(seen) == 8 == len({text for _, text in seen})


def test_a_whole_task_is_changed_alike():
    task, change = generate(1, seed=0)[0], draw(np.random.default_rng(0))
    moved = changed(task, change)
    assert np.array_equal(moved.train[1].output, change.apply(task.train[1].output))


def test_a_batch_never_shows_what_it_asks_and_marks_what_is_not_there():
    tasks = generate(3, seed=0)
    batch = collate([(tasks[0], tasks[0].train[1]), (tasks[1], tasks[1].test[0])], 10, 4)
    assert batch.shown.tolist() == [[True, True, False, False], [True, True, True, False]]
    assert batch.shown_inputs.shape == (2, 4, 10, 10) and (batch.shown_inputs[0, 2:] == PAD).all()
    assert np.array_equal(batch.shown_inputs[0, 1].numpy(), place(tasks[0].train[2].input, 10, PAD))
    rows, columns = tasks[1].test[0].output.shape
    assert np.array_equal(batch.targets[1, :rows, :columns].numpy(), tasks[1].test[0].output)
    assert (batch.targets[1] == IGNORED).sum() == 100 - rows * columns


def test_a_translation_moves_input_and_output_alike():
    task = next(task for task in generate(28, seed=5) if task.name.startswith("recolour"))
    corners = set()
    for seed in range(20):
        batch = collate([(task, task.test[0])], 12, 3, np.random.default_rng(seed))
        inside = batch.inputs[0] != PAD
        corners.add(tuple(inside.nonzero()[0].tolist()))
        assert (inside == (batch.targets[0] != IGNORED)).all()
        assert np.array_equal(batch.inputs[0][inside].numpy(), task.test[0].input.ravel())
    rows, columns = zip(*corners, strict=True)
    assert len(set(rows)) > 1 and len(set(columns)) > 1


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(PitpropError, match=r"3 x 3 at \(1, 0\) doesn't fit on a canvas of 3 x 3"):
        place(np.zeros((3, 3), dtype=int), 3, PAD, (1, 0))
