"""What needs no training: modules at initialisation, checkpointing, weight decay of what is off, and the average."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pitprop.cases.grid_solver.arms import arms
from pitprop.cases.grid_solver.canvas import Batch
from pitprop.cases.grid_solver.encoders import pooled
from pitprop.cases.grid_solver.hyperlora import HyperLoRA, apply_delta, ratio_at_start
from pitprop.cases.grid_solver.injectors import CrossAttentionInjector, SigmoidFiLM
from pitprop.cases.grid_solver.model import Architecture, GridSolver
from pitprop.cases.grid_solver.recipe import Knobs, Solving, held_out
from pitprop.cases.grid_solver.solver import Context, Solver
from pitprop.cases.grid_solver.tasks import NUM_COLOURS
from pitprop.cases.grid_solver.training_runs import raw

FULL, NUM_TASKS, NUM_CELLS, NUM_KEYS = 256, 8, 100, 192
"""The original's width, and synthetic features: 8 tasks of 10 x 10, three shown pairs of 8 x 8 tokens."""
FOREGROUND = -0.3
"""Excess of background under which it is said next to nowhere. A convention."""
BIAS_0 = ", bias 0"
SWINGING: dict[str, dict[str, Any]] = {"OLD": {}, "bias -0.5": {}, f"NEW{BIAS_0}": {"bg_bias": 0.0}, "NEW": {}}
"""Arms whose first steps are looked at; every second has the bias of the one before changed to -0.5."""
SCALES = (0.1, 1.0, 10.0)


def statics(seeds: Sequence[int]) -> dict[str, Any]:
    """Everything below, one number per seed."""
    return {
        "injector": _by_seed(injector, seeds),
        "film": _by_seed(film, seeds),
        "hyperlora": _by_seed(hyperlora, seeds),
        "identity": _by_seed(identity, seeds),
        "checkpointing": _by_seed(checkpointing, seeds),
        "decay": _by_seed(decay, seeds),
        "average": _by_seed(average, seeds),
        "swing": _by_seed(swing, seeds),
    }


def _by_seed(function: Callable[[int], dict[str, float]], seeds: Sequence[int]) -> dict[str, list[float]]:
    found = [function(seed) for seed in seeds]
    return {name: [one[name] for one in found] for name in found[0]}


@torch.no_grad()
def injector(seed: int) -> dict[str, float]:
    """Share of the attention's energy that is one shift for all cells, with the tokens as they are and ten times as
    large, at the original's width and this one's; and how well a linear probe tells foreground from background cells
    before and after the injector.
    """
    found = {}
    batch = held_out("", Knobs.size)
    for name, width, num in (("full", FULL, NUM_TASKS), ("here", Knobs.hidden_dim, len(batch.inputs))):
        torch.manual_seed(seed)
        some = Batch(*(part[:num] for part in batch))
        model = GridSolver(_architecture(hidden_dim=width, use_cross_attention_context=True), size=Knobs.size).eval()
        cells = model.grid(model.grid.embed(some.inputs))
        keys = model.context(some.shown_inputs, some.shown_outputs, some.shown).flatten(1, 2)
        hidden = model.context.hidden_keys(some.shown)
        attention: Any = model.injector.attention  # type: ignore[union-attr]
        for scale in (1, 10):
            out, _ = attention(cells.flatten(1, 2), scale * keys, scale * keys, key_padding_mask=hidden)
            shift = out.mean(1).square().sum() * out.shape[1]
            found[f"constant_share_{name}_{scale}"] = float(shift / out.square().sum())
    inside = batch.inputs < NUM_COLOURS
    foreground = batch.inputs[inside] > 0
    after = model.injector(cells, keys, hidden)  # type: ignore[misc]
    found["probe_before"], found["probe_after"] = (probe(x[inside], foreground) for x in (cells, after))
    found["foreground_share"] = float(foreground.float().mean())
    return found


def probe(x: Float[Tensor, "cell width"], wanted: Bool[Tensor, " cell"]) -> float:
    """Share of right answers of a least-squares probe on the cells that it wasn't fitted to."""
    half = len(x) // 2
    x = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    target = wanted.double() * 2 - 1
    weights = torch.linalg.lstsq(x[:half], target[:half, None], driver="gelsd").solution
    return float(((x[half:] @ weights).squeeze(1) > 0).eq(wanted[half:]).float().mean())


@torch.no_grad()
def film(seed: int) -> dict[str, float]:
    """Relative change of the features by the seed's FiLM, by the injector, and by its attention alone, at their
    initialisation: of the model's own features and contexts of held-out tasks, at the original's width and this one's.
    """
    found, batch = {}, held_out("", Knobs.size)
    for name, width, num in (("full", FULL, NUM_TASKS), ("here", Knobs.hidden_dim, len(batch.inputs))):
        torch.manual_seed(seed)
        some = Batch(*(part[:num] for part in batch))
        model = GridSolver(_architecture(hidden_dim=width, use_cross_attention_context=True), size=Knobs.size).eval()
        cells = model.grid(model.grid.embed(some.inputs))
        tokens = model.context(some.shown_inputs, some.shown_outputs, some.shown)
        keys, hidden = tokens.flatten(1, 2), model.context.hidden_keys(some.shown)
        module: Any = model.injector
        attended, _ = module.attention(cells.flatten(1, 2), keys, keys, key_padding_mask=hidden)
        found[f"film_{name}"] = _change(cells, model.film(cells, pooled(tokens, some.shown)))
        found[f"attention_{name}"] = float(attended.norm() / cells.norm())
        found[f"injector_{name}"] = _change(cells, module(cells, keys, hidden))
    torch.manual_seed(seed)
    x, c, module = torch.randn(NUM_TASKS, 10, 10, FULL), torch.randn(NUM_TASKS, FULL), SigmoidFiLM(FULL)
    found["film_unit_context"] = _change(x, module(x, c))
    return found


def swing(seed: int, steps: int = 30) -> dict[str, float]:
    """Excess of background that the weights say on held-out tasks, before and after each of the first `steps` steps.

    Returns:
        For each of `SWINGING` `step 0`; `foreground`, at how many evaluations in a row from the first on it is under
        `FOREGROUND`; and `largest`, the most later.
    """
    found = {}
    for name, knobs in SWINGING.items():
        training = Solving(seed, Knobs(**arms()[name.removesuffix(BIAS_0)] | knobs))
        said = [raw(training)["bg_excess"]]
        for batch in islice(training.batches(0), steps):
            training.step(batch)
            said.append(raw(training)["bg_excess"])
        num = next((i for i, excess in enumerate(said) if excess >= FOREGROUND), len(said))
        found |= {f"{name}, step 0": said[0], f"{name}, foreground": num, f"{name}, largest": max(said[num:] or said)}
    return found


@torch.no_grad()
def hyperlora(seed: int) -> dict[str, float]:
    """|h dW| / |h| at initialisation, measured and by the closed form, at both widths, and with B = 0."""
    torch.manual_seed(seed)
    found = {}
    for name, width, init in (("full", FULL, 0.1), ("here", Knobs.hidden_dim, Knobs.hyperlora_init)):
        h, context = torch.randn(4, width, 6, 6), torch.randn(4, width)
        for suffix, zero in (("", False), ("_zero_b", True)):
            delta = HyperLoRA(width, init_std=init, zero_b=zero)(context)["head"]
            found[name + suffix] = float((apply_delta(h, delta) - h).norm() / h.norm())
        found[f"{name}_closed_form"] = ratio_at_start(width, init)
    return found


@torch.no_grad()
def identity(seed: int) -> dict[str, float]:
    """Relative change by the injector whose attention and feed-forward part give exactly 0, for small to large
    features: its norms stand on the sum.
    """
    torch.manual_seed(seed)
    module = CrossAttentionInjector(FULL).eval()
    for last in (module.attention.out_proj, module.feed_forward[-1]):
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    keys, found = torch.randn(NUM_TASKS, NUM_KEYS, FULL), {}
    for scale in SCALES:
        x = scale * (torch.randn(NUM_TASKS, 10, 10, FULL) + 0.3)
        found[f"{scale:g}"] = _change(x, module(x, keys))
    return found


def checkpointing(seed: int) -> dict[str, float]:
    """Largest difference of any gradient with and without checkpointing, over None and dictionary arguments, and what
    else may go wrong.

    Returns:
        `none`, `dict`: largest absolute difference for torch's newer implementation; `reentrant_lost`: share of the
        parameters whose gradient the older one drops where no direct argument requires one; `changed_value`: relative
        error of the gradient when a strength that the function reads from outside goes from 1/2 to 1 between forward
        and backward pass, which raises nothing.
    """
    found = {}
    for name, with_context in (("none", False), ("dict", True)):
        plain, kept = (_gradients(seed, with_context, checkpointing=on) for on in (False, True))
        found[name] = max(float((a - b).abs().max()) for a, b in zip(plain, kept, strict=True))
    torch.manual_seed(seed)
    layer, x = nn.Linear(8, 8), torch.randn(4, 8)
    found["reentrant_lost"] = _lost(layer, x)
    strength = [0.5]
    layer, norm = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)), nn.LayerNorm(8)
    wanted = torch.randn(4, 8)

    def ramped(x: Tensor) -> Tensor:
        return norm(x + strength[0] * layer(x))

    gradients = []
    for late in (0.5, 1.0):
        strength[0] = 0.5
        layer.zero_grad()
        out = (checkpoint(ramped, x, use_reentrant=False) - wanted).square().sum()
        strength[0] = late
        out.backward()
        gradients.append(torch.cat([p.grad.flatten().clone() for p in layer.parameters()]))  # type: ignore[union-attr]
    found["changed_value"] = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    return found


def _gradients(seed: int, with_context: bool, *, checkpointing: bool) -> list[Tensor]:
    torch.manual_seed(seed)
    solver = Solver(16, num_steps=3, attention=with_context, checkpointing=checkpointing)
    x, embedded = torch.randn(2, 16, 5, 5, requires_grad=True), torch.randn(2, 16, 5, 5)
    tokens = torch.randn(2, 12, 16, requires_grad=True)
    deltas = HyperLoRA(16)(torch.randn(2, 16)) if with_context else None
    for delta in (deltas or {}).values():
        delta.retain_grad()
    solver(x, embedded, Context(tokens, None, deltas, float(with_context))).square().sum().backward()
    inputs = [x, *([tokens, *(deltas or {}).values()] if with_context else [])]
    return [t.grad.clone() for t in (*inputs, *solver.parameters()) if t.grad is not None]


def _lost(layer: nn.Module, x: Tensor) -> float:
    """Share of the parameters without gradient after torch's older checkpoint of inputs that need none."""
    head = nn.Linear(8, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's only sign of it
        out = head(checkpoint(lambda x: layer(x), x, use_reentrant=True))
    out.sum().backward()
    parameters = list(layer.parameters())
    return sum(p.grad is None for p in parameters) / len(parameters)


def decay(seed: int, steps: int = 200) -> dict[str, float]:
    """Norm of a module's weights after `steps` of AdamW while it is off, over that before: skipped, or multiplied by
    0. And (1 - lr * decay)^steps.
    """
    found = {}
    for name, skips in (("skipped", True), ("times_zero", False)):
        torch.manual_seed(seed)
        base, added, x = nn.Linear(8, 8), nn.Linear(8, 8), torch.randn(4, 8)
        optimizer = torch.optim.AdamW([*base.parameters(), *added.parameters()], lr=1e-2, weight_decay=0.1)
        before = added.weight.detach().norm()
        for _ in range(steps):
            optimizer.zero_grad()
            (base(x) if skips else base(x) + 0.0 * added(x)).square().sum().backward()
            optimizer.step()
        found[name] = float(added.weight.detach().norm() / before)
    return found | {"expected": (1 - 1e-2 * 0.1) ** steps}


def average(seed: int, steps: int = 5) -> dict[str, float]:
    """Largest difference of the losses and the trained weights with and without the average."""
    runs = []
    for use_ema in (True, False):
        training = Solving(seed, Knobs(use_ema=use_ema, batch_size=4))
        batches = training.batches(0)
        losses = torch.stack([training.step(next(batches))["loss"] for _ in range(steps)])
        runs.append([losses, *(p.detach() for p in training.model.parameters())])
    return {"largest_difference": max(float((a - b).abs().max()) for a, b in zip(*runs, strict=True))}


def _architecture(**changes: Any) -> Architecture:
    knobs = Knobs(**changes)
    return Architecture(**{field.name: getattr(knobs, field.name) for field in fields(Architecture)})


def _change(before: Tensor, after: Tensor) -> float:
    return float((after - before).norm() / before.norm())
