"""Every torch remedy keeps what its head comment promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pitprop.remedies.torch.gated_attention import ElementwiseGate, HeadwiseGate, PooledGate
from pitprop.remedies.torch.gradient_stabiliser import GradientStabiliser
from pitprop.remedies.torch.layer_scale import LayerScale
from pitprop.remedies.torch.mean_pool import MeanPool
from pitprop.remedies.torch.norm_match import norm_match
from pitprop.remedies.torch.qk_norm import QKNorm
from pitprop.remedies.torch.scaled_residual import ScaledResidual
from pitprop.remedies.torch.unit_rms import UnitRMS
from pitprop.remedies.torch.zero_init_projection import zero_init_projection

WIDTH, HEADS, TOKENS = 16, 4, 6


def x(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(seed: int = 0) -> torch.Tensor:
    return x(3, TOKENS, WIDTH, seed=seed)


def heads(seed: int = 0) -> torch.Tensor:
    return x(3, HEADS, TOKENS, WIDTH // HEADS, seed=seed)


class NormMatch(nn.Module):
    def forward(self, branch, stream):
        return norm_match(branch, stream)


# Name -> (a fresh module, its inputs).
MODULES = {
    "elementwise": (lambda: ElementwiseGate(WIDTH, HEADS), lambda: (tokens(), tokens(1))),
    "headwise": (lambda: HeadwiseGate(WIDTH, HEADS), lambda: (tokens(), tokens(1))),
    "pooled": (lambda: PooledGate(WIDTH, HEADS, dropout=0.0), lambda: (tokens(), tokens(1))),
    "qk-norm": (lambda: QKNorm(WIDTH // HEADS), lambda: (heads(), heads(1))),
    "layer-scale": (lambda: LayerScale(WIDTH), lambda: (tokens(),)),
    "mean-pool": (lambda: MeanPool(), lambda: (tokens(),)),
    "scaled-residual": (lambda: ScaledResidual(), lambda: (tokens(), tokens(1))),
    "scaled-residual, learned": (lambda: ScaledResidual(learnable=True), lambda: (tokens(), tokens(1))),
    "unit-rms": (lambda: UnitRMS(nn.Tanh()), lambda: (tokens(),)),
    "norm-match": (lambda: NormMatch(), lambda: (tokens(), tokens(1))),
    "zero-init-projection": (lambda: zero_init_projection(nn.Linear(WIDTH, WIDTH)), lambda: (tokens(),)),
}
each = pytest.mark.parametrize("name", MODULES)


def total(result) -> torch.Tensor:
    return sum(
        (r.float().square().sum() for r in (result if isinstance(result, tuple) else (result,))), torch.zeros(())
    )


@each
def test_gradients_are_finite(name):
    make, inputs = MODULES[name]
    module, arguments = make(), [a.requires_grad_() for a in inputs()]
    total(module(*arguments)).backward()
    for tensor in (*arguments, *module.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


@each
def test_gradients_stay_finite_at_zero(name):
    make, inputs = MODULES[name]
    arguments = [torch.zeros_like(a).requires_grad_() for a in inputs()]
    total(make()(*arguments)).backward()
    assert all(a.grad.isfinite().all() for a in arguments)


@each
def test_state_survives_a_round_trip(name):
    make, inputs = MODULES[name]
    first, second = make(), make()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1)
    second.load_state_dict(first.state_dict())
    assert torch.equal(total(first(*inputs())), total(second(*inputs())))


@each
def test_half_precision_stays_close(name):
    make, inputs = MODULES[name]
    module = make()
    full = module(*inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module(*inputs())
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (full, half)), strict=True):
        torch.testing.assert_close(a, b.float(), rtol=2**-6, atol=2**-6)  # bfloat16 keeps 8 bits


@each
def test_compiles_to_the_same_numbers(name):
    make, inputs = MODULES[name]
    module = make()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(total(module(*inputs())), total(compiled(*inputs())))


@pytest.mark.parametrize("gate", [ElementwiseGate, HeadwiseGate])
def test_an_identity_gate_is_exact_and_learns(gate):
    module = gate(WIDTH, HEADS, identity=True)
    assert torch.equal(module(tokens(), tokens(1)), tokens())
    total(module(tokens(), tokens(1))).backward()
    assert module.projection.weight.grad.abs().sum() > 0


def test_the_gates_are_the_formulae_of_the_paper_and_of_the_seed():
    attended, stream = tokens(), tokens(1)
    elementwise = ElementwiseGate(WIDTH, HEADS)
    expected = attended * torch.sigmoid(stream @ elementwise.projection.weight.T)
    torch.testing.assert_close(elementwise(attended, stream), expected)
    headwise = HeadwiseGate(WIDTH, HEADS)
    gate = torch.sigmoid(stream @ headwise.projection.weight.T).repeat_interleave(WIDTH // HEADS, -1)
    torch.testing.assert_close(headwise(attended, stream), attended * gate)
    pooled = PooledGate(WIDTH, HEADS).eval()
    gate = pooled.gate_proj(stream.mean(1))[:, None].repeat_interleave(WIDTH // HEADS, -1)
    torch.testing.assert_close(pooled(attended, stream), attended * gate)


def test_the_pooled_gate_cannot_tell_tokens_apart_and_the_paper_gates_can():
    ones = torch.ones(3, TOKENS, WIDTH)
    assert PooledGate(WIDTH, HEADS).eval()(ones, tokens()).std(1).max() < 1e-6
    assert ElementwiseGate(WIDTH, HEADS)(ones, tokens()).std(1).min() > 1e-3
    assert HeadwiseGate(WIDTH, HEADS)(ones, tokens()).std(1).min() > 1e-3


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-2, 1e4), st.integers(0, 1000))
def test_qk_norm_bounds_every_logit(scale, seed):
    q, k = QKNorm(WIDTH // HEADS)(heads(seed) * scale, heads(seed + 1) * scale)
    width = WIDTH // HEADS
    assert (q @ k.transpose(-1, -2) / math.sqrt(width)).abs().max() <= math.sqrt(width) * (1 + 1e-5)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-2, 1e6), st.integers(0, 1000))
def test_unit_rms_leaves_at_most_seven_percent_saturated(scale, seed):
    squashed = UnitRMS(nn.Tanh())(x(8, 64, seed=seed) * scale + scale)
    assert ((squashed.abs() > 0.999).float().mean(-1) <= 1 / math.atanh(0.999) ** 2).all()
    values = x(8, 64, seed=seed) * scale
    square = values.square().mean(-1)
    torch.testing.assert_close(UnitRMS()(values).square().mean(-1), square / (square + 1e-6), rtol=1e-4, atol=0)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-3, 1e3), st.floats(0.01, 3.0), st.integers(0, 1000))
def test_norm_match_gives_the_stream_its_norm_whatever_the_branch(scale, strength, seed):
    stream = tokens(seed)
    matched = norm_match(tokens(seed + 1) * scale, stream, strength=strength)
    torch.testing.assert_close(matched.norm(dim=-1), stream.norm(dim=-1) * strength, rtol=2e-3, atol=0)


@pytest.mark.parametrize(("strength", "expected"), [(1.0, 0.707), (0.3, 0.958), (0.1, 0.995)])
def test_norm_match_passes_the_promised_share_of_the_gradient(strength, expected):
    # A normalising head over x + c, with c orthogonal to x: compare the gradient at x with and without c.
    stream = torch.zeros(64)
    stream[0] = 2.0
    branch = torch.zeros(64)
    branch[1] = 500.0
    direction = torch.zeros(64)
    direction[2] = 1.0
    grads = []
    for c in (torch.zeros(64), norm_match(branch, stream, strength=strength)):
        leaf = stream.clone().requires_grad_()
        (nn.functional.normalize(leaf + c, dim=0) @ direction).backward()
        grads.append(leaf.grad.norm())
    assert float(grads[1] / grads[0]) == pytest.approx(expected, abs=1e-3)


def test_layer_scale_starts_at_its_gain():
    torch.testing.assert_close(LayerScale(WIDTH, init=1e-5)(tokens()), tokens() * 1e-5)


def test_mean_pool_is_the_sum_over_the_number_of_tokens():
    torch.testing.assert_close(MeanPool()(tokens()), tokens().sum(1) / TOKENS)


def test_a_zero_projection_says_nothing_at_first_and_wakes_in_one_step():
    projection = zero_init_projection(nn.Linear(WIDTH, WIDTH))
    before = nn.Linear(WIDTH, WIDTH)
    stream = tokens()
    assert torch.equal(stream + projection(before(stream)), stream)
    optimizer = torch.optim.SGD([*projection.parameters(), *before.parameters()], lr=0.1)
    for expected in (False, True):  # what lies before it has no gradient at step 0, and has one at step 1
        optimizer.zero_grad()
        total(stream + projection(before(stream)) - tokens(1)).backward()
        assert bool(projection.weight.grad.abs().sum() > 0)
        assert bool(before.weight.grad.abs().sum() > 0) is expected
        optimizer.step()


def test_the_stabiliser_clips_by_norm_then_by_value():
    parameters = [nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))]
    parameters[0].grad = torch.tensor([3.0, 0.0, 0.0, 0.0])
    parameters[1].grad = torch.tensor([4.0, 0.0])
    norm = GradientStabiliser(max_norm=1.0, max_value=0.7).clip_gradients(iter(parameters))
    assert float(norm) == pytest.approx(5.0)
    assert float(parameters[0].grad[0]) == pytest.approx(0.6, abs=1e-5)
    assert float(parameters[1].grad[0]) == pytest.approx(0.7)


def test_the_stabiliser_leaves_small_gradients_alone():
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([0.1, -0.2, 0.3])
    GradientStabiliser().clip_gradients([parameter])
    assert torch.equal(parameter.grad, torch.tensor([0.1, -0.2, 0.3]))


def stream_gradient(add, stream: torch.Tensor) -> torch.Tensor:
    """Gradient at the stream of a cosine head over `add(stream)`."""
    leaf = stream.clone().requires_grad_()
    direction = x(stream.shape[-1], seed=9).to(stream)
    (nn.functional.normalize(add(leaf), dim=-1) @ direction).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def attend(context_norm: float, stream: torch.Tensor) -> tuple[nn.MultiheadAttention, torch.Tensor]:
    torch.manual_seed(3)
    attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).to(stream.dtype)
    context = nn.functional.normalize(x(3, 5, WIDTH, seed=4), dim=-1) * context_norm
    return attention, context.to(stream.dtype)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 1e4))
def test_a_branch_behind_a_zero_projection_leaves_the_gradient_exactly_as_it_was(context_norm):
    stream = tokens().double()
    attention, context = attend(context_norm, stream)
    zero_init_projection(attention.out_proj)
    with_branch = stream_gradient(lambda s: s + attention(s, context, context)[0], stream)
    assert torch.equal(with_branch, stream_gradient(lambda s: s, stream))


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-2, 1e5), st.floats(0.01, 3.0))
def test_a_matched_and_scaled_branch_leaves_one_over_root_one_plus_a_squared_for_any_context(context_norm, a):
    # Theory for a constant branch at a right angle to stream and readout; the head's direction is in neither.
    stream, branch, direction = torch.eye(3, 64, dtype=torch.float64)
    add = ScaledResidual(a)
    norms = []
    for keep in (0.0, 1.0):
        leaf = (2.0 * stream).requires_grad_()
        whole = add(leaf, keep * norm_match(context_norm * branch, leaf))
        (nn.functional.normalize(whole, dim=0) @ direction).backward()
        norms.append(leaf.grad.norm())
    # eps is 1e-6 beside a norm of at least 1e-2; `a` is kept in float32
    assert float(norms[1] / norms[0]) == pytest.approx(1 / math.sqrt(1 + a * a), rel=2e-4)


@pytest.mark.parametrize(("a", "ratio", "expected"), [(0.1, 1, 0.995), (0.1, 50, 0.196), (1.0, 2.474, 0.3748)])
def test_a_scaled_branch_is_diluted_by_its_own_length(a, ratio, expected):
    stream, branch, direction = torch.eye(3, 64)
    leaf = stream.clone().requires_grad_()
    (nn.functional.normalize(ScaledResidual(a)(leaf, ratio * branch), dim=0) @ direction).backward()
    assert float(leaf.grad.norm()) == pytest.approx(expected, abs=5e-4)  # without the branch it is 1


def test_the_gradient_of_a_learned_factor_is_the_product_of_gradient_and_branch():
    add = ScaledResidual(0.3, learnable=True)
    branch, weight = tokens(1), tokens(2)
    (add(tokens(), branch) * weight).sum().backward()
    torch.testing.assert_close(add.a.grad, (branch * weight).sum())
    assert not list(ScaledResidual(0.3).parameters())


@torch.no_grad()
def test_layer_scale_fits_any_branch_and_bounds_nothing():
    stream, ratios = tokens(), []
    for context_norm in (1.0, 1e4):
        attention, context = attend(context_norm, stream)
        branch = LayerScale(WIDTH, init=0.1)(attention(stream, context, context)[0])
        ratios.append(float((branch.norm(dim=-1) / stream.norm(dim=-1)).mean()))
    assert ratios[0] < 0.1
    assert ratios[1] > 10  # at the large context the gain of 0.1 is not enough
