"""What the solver is trained on and judged by, with independent counts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pitprop.cases.grid_solver.canvas import IGNORED, PAD, collate
from pitprop.cases.grid_solver.evaluation import accuracies, pass_at, vote
from pitprop.cases.grid_solver.kinds import generate
from pitprop.cases.grid_solver.losses import equivariance_loss, leave_one_out, leave_one_out_loss, task_loss
from pitprop.cases.grid_solver.model import Architecture, GridSolver

TASKS = generate(6, seed=3, largest=6)


def batch(shown: int = 3):
    return collate([(task, task.test[0]) for task in TASKS], 6, shown)


def model(**changes) -> GridSolver:
    torch.manual_seed(0)
    tiny = Architecture(hidden_dim=16, num_solver_steps=1, max_clues=1, places=2, dropout=0.0, **changes)
    return GridSolver(tiny, size=6)


def test_a_task_weighs_one_whatever_its_size_and_by_its_cells_in_the_original():
    logits, targets = torch.randn(2, 10, 6, 6), torch.full((2, 6, 6), IGNORED)
    targets[0, :2, :2], targets[1] = 3, 4
    cells = F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
    wanted = (cells[0, :2, :2].mean() + cells[1].mean()) / 2
    torch.testing.assert_close(task_loss(logits, targets, stablemax=False), wanted)
    torch.testing.assert_close(task_loss(logits, targets, stablemax=False, over_canvas=True), cells.sum() / 72)


def test_each_shown_pair_is_held_out_in_turn_and_never_shown():
    given = batch()
    seen = [[] for _ in TASKS]
    for turn in range(3):
        held_out, some = leave_one_out(given, turn)
        assert some.all() and (held_out.shown.sum(1) == 2).all()
        for i in range(len(TASKS)):
            (left,) = (given.shown[i] & ~held_out.shown[i]).nonzero().flatten().tolist()
            seen[i].append(left)
            assert torch.equal(held_out.inputs[i], given.shown_inputs[i, left])
            inside = given.shown_outputs[i, left] != PAD
            assert torch.equal(held_out.targets[i][inside], given.shown_outputs[i, left][inside])
            assert (held_out.targets[i][~inside] == IGNORED).all()
    assert all(sorted(one) == [0, 1, 2] for one in seen)


def test_nothing_is_held_out_of_one_pair():
    alone = batch(shown=1)
    assert len(leave_one_out(alone, 0)[0].inputs) == 0
    solver = model(use_hyperlora=True)
    tokens = solver(alone).tokens
    assert float(leave_one_out_loss(solver, alone, tokens, 0)) == 0


def test_leave_one_out_reaches_the_adapters_and_not_the_encoder_of_the_pairs():
    solver, given = model(use_hyperlora=True), batch()
    leave_one_out_loss(solver, given, solver(given).tokens, 0).backward()
    assert all(p.grad is not None for p in solver.hyperlora.parameters())
    assert all(p.grad is None for p in solver.context.parameters())


@torch.no_grad()
def test_the_originals_equivariance_loss_is_nothing_and_ours_is_not():
    solver, given = model(use_hyperlora=True), batch()
    tokens = solver(given).tokens
    for turn in (1, 2, 3):
        assert float(equivariance_loss(solver, given, tokens, turn=turn, of_features=True)) < 1e-9
        assert float(equivariance_loss(solver, given, tokens, turn=turn)) > 1e-3
    assert float(equivariance_loss(model(), given, tokens, turn=1)) == 0


def test_accuracies_are_what_counting_gives():
    targets = torch.full((3, 4, 4), IGNORED)
    targets[0, :2, :3] = torch.tensor([[0, 1, 1], [2, 0, 0]])
    targets[1, :2, :2] = 5
    targets[2, :1, :2] = 0
    answers = torch.zeros(3, 4, 4, dtype=torch.long)
    answers[0, 0, 1], answers[0, 1, 1] = 1, 7
    answers[1, :2, :2] = 5
    found = accuracies(F.one_hot(answers, 10).movedim(-1, 1).float(), targets)
    assert found["exact"] == pytest.approx(2 / 3)
    assert found["fg_accuracy"] == pytest.approx((1 / 3 + 1) / 2)  # the third grid has none
    assert found["bg_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    said = {0: 6, 1: 1, 5: 4, 7: 1}
    assert found["bg_excess"] == pytest.approx((said[0] - 5) / 12)
    wanted = {0: 5, 1: 2, 2: 1, 5: 4}
    entropies = [-sum(n / 12 * math.log(n / 12) for n in counts.values()) for counts in (said, wanted)]
    assert found["marginal_entropy"] == pytest.approx(entropies[0] / entropies[1])


def test_what_no_grid_has_is_undefined():
    found = accuracies(torch.zeros(1, 10, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long))
    assert math.isnan(found["fg_accuracy"]) and found["bg_accuracy"] == 1


def copied(given):
    return F.one_hot(given.inputs.clamp(max=9), 10).movedim(-1, 1).float()


def test_votes_of_a_rule_that_commutes_with_every_change_are_one():
    task = next(task for task in TASKS if task.test[0].input.shape == task.test[0].output.shape)
    found = vote(copied, task, task.test[0], size=6, max_pairs=3, num_changes=8, rng=np.random.default_rng(0))
    assert len(found) == 1 and np.array_equal(found[0], task.test[0].input)


def test_pass_at_k_counts_what_is_among_the_first_k():
    assert pass_at(copied, TASKS, size=6, max_pairs=3, num_changes=2)["pass@1"] == 0
    same = [type(t)(t.name, t.train, tuple(p._replace(output=p.input) for p in t.test)) for t in TASKS]
    assert pass_at(copied, same, size=6, max_pairs=3, num_changes=2) == {"pass@1": 1, "pass@2": 1, "pass@3": 1}


def test_a_right_minority_counts_from_its_rank_on():
    task = next(task for task in TASKS if task.test[0].input.shape == task.test[0].output.shape)

    def mostly_copied(asked):
        """Right in the last three of eight copies, the input in the others."""
        said = torch.where(asked.targets == IGNORED, 0, asked.targets)
        said[:5] = asked.inputs[:5].clamp(max=9)
        return F.one_hot(said, 10).movedim(-1, 1).float()

    rng = np.random.default_rng(0)
    found = vote(mostly_copied, task, task.test[0], size=6, max_pairs=3, num_changes=8, rng=rng)
    assert [grid.tolist() for grid in found] == [task.test[0].input.tolist(), task.test[0].output.tolist()]
    assert pass_at(mostly_copied, [task], size=6, max_pairs=3) == {"pass@1": 0, "pass@2": 1, "pass@3": 1}
