"""The solver: what is the identity, what each of the original's defects does, checkpointing, stages, HyperLoRA."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pitprop.cases.grid_solver.canvas import Batch, collate
from pitprop.cases.grid_solver.encoders import GridEncoder
from pitprop.cases.grid_solver.hyperlora import HyperLoRA, apply_delta, gain, init_for, ratio_at_start
from pitprop.cases.grid_solver.injectors import CrossAttentionInjector
from pitprop.cases.grid_solver.kinds import KINDS, LARGER, generate
from pitprop.cases.grid_solver.memory import MemoryBanks
from pitprop.cases.grid_solver.model import Architecture, GridSolver, original
from pitprop.cases.grid_solver.solver import ConvGRU, Solver, soft_clamp

TINY = Architecture(hidden_dim=16, num_solver_steps=2, max_clues=2, places=2, dropout=0.0)
ALL = replace(TINY, use_hyperlora=True, use_hpm=True, use_solver_context=True, use_cross_attention_context=True)


def built(architecture: Architecture, seed: int = 0) -> GridSolver:
    torch.manual_seed(seed)
    return GridSolver(architecture, size=6).eval()


def some_batch(shown: int = 3) -> Batch:
    return collate([(task, task.test[0]) for task in generate(4, seed=7, largest=6)], 6, shown)


def test_small_tasks_come_from_all_kinds_that_fit():
    tasks = generate(25, seed=0, largest=6)
    assert {task.name.rpartition("-")[0] for task in tasks} == {name for name, _ in KINDS} - set(LARGER)
    assert max(task.largest_side for task in tasks) <= 6


@pytest.mark.parametrize("architecture", [TINY, ALL, original(ALL)], ids=["OLD", "all", "original"])
def test_logits_have_a_colour_per_cell_and_every_parameter_has_a_part(architecture):
    model = built(architecture).train()
    out = model(some_batch())
    assert out.logits.shape == (4, 10, 6, 6) and out.logits.isfinite().all()
    assert (out.deltas is None) == (not architecture.use_hyperlora)
    out.logits.square().sum().backward()
    without = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    # The FiLM that the injector has replaced, as in the original.
    assert without <= ({"film"} if architecture.use_cross_attention_context else set())


def test_the_answer_does_not_depend_on_what_is_wanted():
    batch = some_batch()
    model = built(ALL)
    assert torch.equal(model(batch).logits, model(batch._replace(targets=torch.zeros_like(batch.targets))).logits)


def test_the_originals_columns_are_rows_and_ours_are_columns():
    """The defect: without it, permuting the columns of an empty grid's features changes them."""
    grids = torch.zeros(1, 5, 6, dtype=torch.long)
    turned = torch.arange(6).flip(0)
    for rows_twice in (True, False):
        torch.manual_seed(0)
        encoder = GridEncoder(16, rows_twice=rows_twice).eval()
        embedded = encoder.embed(grids)
        assert torch.equal(embedded, embedded[:, :, turned]) == rows_twice
        assert not torch.equal(embedded, embedded.flip(1))


def test_pairs_that_are_not_there_change_the_answer_only_without_the_mask():
    for unmasked in (False, True):
        model = built(replace(TINY, use_cross_attention_context=True, use_solver_context=True, unmasked_pairs=unmasked))
        padded, tight = some_batch(shown=5), some_batch(shown=3)
        same = torch.allclose(model(padded).logits, model(tight).logits, atol=1e-5)
        assert same != unmasked


def test_hpm_is_the_identity_at_the_start_but_for_the_originals_addition():
    torch.manual_seed(0)
    context = torch.randn(3, 16)
    assert (MemoryBanks(16)(context) == 0).all()
    assert torch.equal(MemoryBanks(16, adds_context=True)(context), context)


def test_what_memory_keeps_goes_round_and_is_read():
    memory = MemoryBanks(16, capacity=4).train()
    nn.init.constant_(memory.gate, 1.0)
    contexts = torch.randn(3, 16)
    empty = memory(contexts)
    memory(contexts)
    assert int(memory.num_seen) == 6 and torch.equal(memory.seen[0, 1], contexts[2])
    assert not torch.equal(memory.eval()(contexts), empty)


def test_the_input_part_of_the_gates_is_the_convolution_of_both():
    """The solver adds it up from its parts; here it is done at once."""
    torch.manual_seed(0)
    cell, x, h = ConvGRU(16, 32), torch.randn(2, 32, 5, 5), torch.randn(2, 16, 5, 5)
    both = torch.cat([x, h], 1)
    reset, update = torch.sigmoid(cell.reset(both)), torch.sigmoid(cell.update(both))
    gate, value = cell.candidate(torch.cat([x, reset * h], 1)).chunk(2, 1)
    wanted = cell.norm((1 - update) * h + update * torch.tanh(nn.functional.silu(gate) * value))
    torch.testing.assert_close(cell(cell.of_input(x), h, None), wanted, atol=1e-5, rtol=1e-5)


def test_a_soft_clamp_keeps_the_middle_and_the_bounds():
    x = torch.tensor([-100.0, -5.0, 0.0, 8.0, 9.0, 100.0])
    clamped = soft_clamp(x, 8, 10)
    assert clamped[[1, 2, 3]].tolist() == [-5, 0, 8] and 8 < clamped[4] < 9
    assert clamped.abs().max() <= 10


@pytest.mark.parametrize("stage", ["hyperlora", "solver_context", "cross_attention", "hpm"])
def test_before_its_stage_a_module_is_not_there_and_gets_no_gradient(stage):
    model = built(replace(ALL, **{f"{stage}_start": 2}))
    prefix = {
        "hyperlora": "hyperlora.",
        "solver_context": "solver.attention.",
        "cross_attention": "injector.",
        "hpm": "memory.",
    }
    batch, seen = some_batch(), []
    for _ in range(3):
        model.zero_grad()
        model(batch).logits.square().sum().backward()
        named = [p for name, p in model.named_parameters() if name.startswith(prefix[stage])]
        seen.append(any(p.grad is not None for p in named))
        model.advance()
    assert seen == [False, False, True]


def test_a_stage_lies_in_the_state_dict_and_a_ramp_spreads_it():
    model = built(replace(ALL, hyperlora_start=2, ramp=4))
    strengths = []
    for _ in range(8):
        strengths.append(model.strength("hyperlora_active"))
        model.advance()
    assert strengths == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    other = built(replace(ALL, hyperlora_start=2, ramp=4), seed=1)
    other.load_state_dict(model.state_dict())
    assert other.strength("hyperlora_active") == 1
    assert torch.equal(other(some_batch()).logits, model(some_batch()).logits)


def test_without_its_stages_the_model_is_film_alone():
    """Switched off, the new modules change nothing: the same weights without them give the same answer."""
    starts = {f"{name}_start": 10 for name in ("hyperlora", "solver_context", "cross_attention", "hpm")}
    full = built(replace(ALL, **starts))
    film = built(TINY)
    film.load_state_dict({k: v for k, v in full.state_dict().items() if k in film.state_dict()})
    assert torch.equal(full(some_batch()).logits, film(some_batch()).logits)


@pytest.mark.parametrize("architecture", [TINY, ALL], ids=["None arguments", "dictionary and tuple arguments"])
def test_checkpointing_gives_the_same_gradients_bit_for_bit(architecture):
    found = []
    for on in (False, True):
        model = built(replace(architecture, gradient_checkpointing=on, dropout=0.1)).train()
        torch.manual_seed(3)
        model(some_batch()).logits.square().sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_the_older_checkpointing_does_not_see_what_lies_in_a_tuple():
    """The hazard that the seed describes, in the implementation that it doesn't use: changes lose their gradient, or
    the second step fails, because a part of the graph is gone.
    """
    model = built(replace(ALL, gradient_checkpointing=True, reentrant=True)).train()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        model(some_batch()).logits.square().sum().backward()


@torch.no_grad()
def test_hyperlora_is_as_large_as_its_closed_form_says():
    """16 at the original's width, and the scaled one within a third of it; each entry's deviation is an estimate."""
    assert ratio_at_start(256, 0.1) == pytest.approx(15.0, abs=0.1)
    for width, init in ((256, 0.1), (64, init_for(16, 64))):
        ratios = []
        for seed in range(3):
            torch.manual_seed(seed)
            h = torch.randn(4, width, 3, 3)
            delta = HyperLoRA(width, init_std=init)(torch.randn(4, width))["head"]
            ratios.append(float((apply_delta(h, delta) - h).norm() / h.norm()))
        assert sum(ratios) / 3 == pytest.approx(ratio_at_start(width, init), rel=1 / 3)
    assert ratio_at_start(64, init_for(16, 64)) == pytest.approx(16)


def test_hyperlora_that_starts_with_b_at_zero_is_nothing_and_wakes():
    torch.manual_seed(0)
    adapter = HyperLoRA(16, zero_b=True)
    deltas = adapter(torch.randn(2, 16))
    assert all((delta == 0).all() for delta in deltas.values())
    sum(delta.sum() for delta in deltas.values()).backward()  # type: ignore[union-attr]
    assert all(generator[-1].weight.grad.abs().max() > 0 for generator in adapter.b.values())


def test_a_clamped_change_has_the_norm_of_its_bound_and_the_gain_is_the_spectral_norm():
    torch.manual_seed(0)
    deltas = HyperLoRA(16, init_std=2.0, largest_norm=1.0)(torch.randn(2, 16))
    for delta in deltas.values():
        torch.testing.assert_close(delta.norm(dim=(1, 2)), torch.ones(2))
    exact = max(torch.linalg.matrix_norm(d, ord=2).mean().item() for d in deltas.values())
    assert gain(deltas, iterations=60) == pytest.approx(exact, rel=1e-3)


def test_the_injector_is_never_the_identity_and_its_zeroed_output_is_blind_to_the_context():
    model = built(replace(TINY, use_cross_attention_context=True, attention_zero_out=True))
    injector = model.injector
    assert isinstance(injector, CrossAttentionInjector)
    x = 3 * torch.randn(2, 6, 6, 16)
    tokens = torch.randn(2, 2, 8, 16)
    assert torch.equal(injector(x, tokens[0]), injector(x, tokens[1]))
    assert (injector(x, tokens[0]) - x).norm() / x.norm() > 0.1


def test_the_background_bias_stands_at_the_output():
    solver = Solver(16, background_bias=-0.5)
    assert solver.head[-1].bias.tolist() == [-0.5] + [0.0] * 9  # type: ignore[union-attr]
