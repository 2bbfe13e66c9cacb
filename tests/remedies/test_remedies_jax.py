"""Every jax remedy says the same as its torch twin on the same weights, and keeps what its head comment promises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

from pitprop.remedies.jax import adaln_zero as jax_adaln
from pitprop.remedies.jax import gated_attention as jax_gates
from pitprop.remedies.jax.agc import agc as jax_agc
from pitprop.remedies.jax.global_norm_clip import global_norm_clip
from pitprop.remedies.jax.layer_scale import LayerScale as JaxLayerScale
from pitprop.remedies.jax.norm_match import norm_match as jax_norm_match
from pitprop.remedies.jax.null_embedding import NullEmbedding as JaxNullEmbedding
from pitprop.remedies.jax.qk_norm import QKNorm as JaxQKNorm
from pitprop.remedies.jax.sigma_reparam import SigmaReparamLinear as JaxSigmaReparam
from pitprop.remedies.jax.staged import staged, strength
from pitprop.remedies.jax.warm_up_cosine import warm_up_cosine as jax_warm_up_cosine
from pitprop.remedies.jax.zclip import zclip
from pitprop.remedies.torch.adaln_zero import AdaLNZero
from pitprop.remedies.torch.agc import agc
from pitprop.remedies.torch.gated_attention import ElementwiseGate, HeadwiseGate
from pitprop.remedies.torch.gradient_stabiliser import GradientStabiliser
from pitprop.remedies.torch.layer_scale import LayerScale
from pitprop.remedies.torch.norm_match import norm_match
from pitprop.remedies.torch.null_embedding import NullEmbedding
from pitprop.remedies.torch.qk_norm import QKNorm
from pitprop.remedies.torch.sigma_reparam import SigmaReparamLinear
from pitprop.remedies.torch.staged import Staged
from pitprop.remedies.torch.warm_up_cosine import warm_up_cosine
from pitprop.remedies.torch.zclip import ZClip

BATCH, TOKENS, WIDTH, HEADS, CONDITION = 3, 5, 8, 2, 6


@pytest.fixture(autouse=True)
def double():
    """Both sides in float64, so that they may differ by rounding errors only."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(before)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def rngs():
    return nnx.Rngs(params=0, dropout=1)


def hand_over(theirs, ours):
    """Random weights, the same on both sides: a torch matrix is a Flax kernel, transposed."""
    state = {}
    for seed, (name, parameter) in enumerate(theirs.named_parameters()):
        value = draw(*parameter.shape, seed=100 + seed)
        state[name] = torch.from_numpy(value)
        path = name.split(".")
        owner = ours
        for part in path[:-1]:
            owner = getattr(owner, part)
        last = "kernel" if path[-1] == "weight" else path[-1]
        getattr(owner, last).set_value(jnp.asarray(value.T if last == "kernel" else value))
    theirs.load_state_dict(state, strict=False)
    for name, buffer in theirs.named_buffers():
        getattr(ours, name).set_value(jnp.asarray(buffer.numpy()))


def same(theirs, ours, **tolerance):
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (theirs, ours)), strict=True)
    for a, b in pairs:
        a = a.detach().numpy() if isinstance(a, torch.Tensor) else a
        np.testing.assert_allclose(np.asarray(b), a, **({"rtol": 1e-10, "atol": 1e-12} | tolerance))


STREAM = (BATCH, TOKENS, WIDTH)
TWINS = {
    "layer-scale": (lambda: LayerScale(WIDTH), lambda: JaxLayerScale(WIDTH), [STREAM]),
    "qk-norm": (
        lambda: QKNorm(WIDTH),
        lambda: JaxQKNorm(WIDTH),
        [(BATCH, HEADS, TOKENS, WIDTH), (BATCH, HEADS, TOKENS, WIDTH)],
    ),
    "elementwise": (
        lambda: ElementwiseGate(WIDTH, HEADS),
        lambda: jax_gates.ElementwiseGate(WIDTH, HEADS, rngs=rngs()),
        [STREAM, STREAM],
    ),
    "headwise": (
        lambda: HeadwiseGate(WIDTH, HEADS, identity=True),
        lambda: jax_gates.HeadwiseGate(WIDTH, HEADS, identity=True, rngs=rngs()),
        [STREAM, STREAM],
    ),
    "sigma-reparam": (
        lambda: SigmaReparamLinear(WIDTH, 4),
        lambda: JaxSigmaReparam(WIDTH, 4, rngs=rngs()),
        [STREAM],
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_twins_agree_on_values_and_gradients(name):
    make_theirs, make_ours, shapes = TWINS[name]
    theirs, ours = make_theirs(), make_ours()
    hand_over(theirs, ours)
    inputs = [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    tensors = [torch.from_numpy(value).requires_grad_() for value in inputs]
    for _ in range(2):  # sigmaReparam carries its directions on
        out = theirs(*tensors)
        same(out, nnx.jit(lambda module, *given: module(*given))(ours, *map(jnp.asarray, inputs)))
    theirs.zero_grad()
    for tensor in tensors:
        tensor.grad = None
    sum(part.sin().sum() for part in (theirs(*tensors) if isinstance(out, tuple) else (theirs(*tensors),))).backward()

    def total(*given):
        result = nnx.clone(ours)(*given)
        return sum(jnp.sin(part).sum() for part in (result if isinstance(result, tuple) else (result,)))

    gradients = jax.grad(total, argnums=tuple(range(len(inputs))))(*map(jnp.asarray, inputs))
    same(tuple(tensor.grad for tensor in tensors), gradients)


def leaves(*arrays):
    return [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]


def test_norm_match():
    given = draw(*STREAM), draw(*STREAM, seed=1)
    branch, stream = leaves(*given)
    theirs = norm_match(branch, stream, strength=0.3)
    same(theirs, jax_norm_match(*given, strength=0.3))
    theirs.sin().sum().backward()
    total = lambda *given: jnp.sin(jax_norm_match(*given, strength=0.3)).sum()  # noqa: E731
    same((branch.grad, stream.grad), jax.grad(total, argnums=(0, 1))(*map(jnp.asarray, given)))
    gradient = jax.grad(lambda b: jax_norm_match(b, jnp.asarray(given[1])).sum())(jnp.zeros(STREAM))
    assert bool(jnp.isfinite(gradient).all())


def test_adaln_zero():
    theirs, ours = AdaLNZero(WIDTH, CONDITION), jax_adaln.AdaLNZero(WIDTH, CONDITION, rngs=rngs())
    given = draw(*STREAM), draw(BATCH, CONDITION, seed=1)
    x, condition = leaves(*given)
    arrays = tuple(map(jnp.asarray, given))
    assert np.array_equal(ours(*arrays, jnp.tanh), given[0]), "the identity, exactly"
    assert torch.equal(theirs(x, condition, torch.tanh), x)
    hand_over(theirs, ours)
    out = theirs(x, condition, torch.tanh)
    same(out, ours(*arrays, jnp.tanh))
    out.sin().sum().backward()
    total = lambda module, *given: jnp.sin(module(*given, jnp.tanh)).sum()  # noqa: E731
    projection, *inputs = nnx.grad(total, argnums=(0, 1, 2))(ours, *arrays)
    same((x.grad, condition.grad), tuple(inputs))
    weights = theirs.projection
    own = projection["projection"]
    same((weights.weight.grad.T, weights.bias.grad), (own["kernel"][...], own["bias"][...]))


@pytest.mark.parametrize(("start", "ramp"), [(2, 0), (1, 4)])
def test_staged(start, ramp):
    theirs, x, old, new = Staged(start=start, ramp=ramp), draw(*STREAM), draw(WIDTH, seed=1), draw(WIDTH, seed=2)
    mixed = lambda x, a, b, step: staged(x * a, jnp.tanh(x * b), strength(step, start=start, ramp=ramp))  # noqa: E731
    gradients = jax.grad(lambda *given: jnp.sin(mixed(*given)).sum(), argnums=(0, 1, 2))
    shares = []
    for step in range(7):
        given = leaves(x, old, new)
        out = theirs(given[0], lambda x, a=given[1]: x * a, lambda x, b=given[2]: torch.tanh(x * b))
        arrays = tuple(map(jnp.asarray, (x, old, new)))
        same(out, mixed(*arrays, step))
        out.sin().sum().backward()
        # A path that is left out has no gradient in torch and one of exactly zero here.
        expected = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in given]
        same(tuple(expected), gradients(*arrays, step))
        shares.append(theirs.strength)
        theirs.advance()
    assert (
        shares == [float(strength(step, start=start, ramp=ramp)) for step in range(7)] and shares[0] < shares[-1] == 1
    )


@pytest.mark.parametrize(("init", "std"), [("normal", 0.02), ("scaled", (0.02 / 400) ** 0.5)])
def test_adaln_alternatives_have_the_stated_spread(init, std):
    torch.manual_seed(0)
    theirs = AdaLNZero(100, 400, init=init).projection.weight.detach()
    ours = jax_adaln.AdaLNZero(100, 400, init=init, rngs=rngs()).projection.kernel[...]
    # 120 000 entries: the standard error of a spread is 0.2 %.
    assert float(theirs.std()) == pytest.approx(std, rel=0.01) and float(ours.std()) == pytest.approx(std, rel=0.01)


def test_null_embedding():
    theirs, ours = NullEmbedding(WIDTH), JaxNullEmbedding(WIDTH, rngs=rngs())
    hand_over(theirs, ours)
    condition, dropped = draw(*STREAM), np.array([True, False, True])
    out = theirs(torch.from_numpy(condition), dropped=torch.from_numpy(dropped))
    same(out, ours(jnp.asarray(condition), dropped=jnp.asarray(dropped)))
    assert np.array_equal(out.detach().numpy()[1], condition[1])
    many = draw(4000, WIDTH)
    share = float((ours(jnp.asarray(many), rngs=rngs()) != many).any(-1).mean())
    assert 0.08 < share < 0.12  # 4 standard errors of a share of .1 in 4000
    assert torch.equal(theirs.eval()(torch.from_numpy(many)), torch.from_numpy(many))


def test_the_spectral_norm_is_gamma():
    torch.manual_seed(0)
    theirs, ours = SigmaReparamLinear(20, 12), JaxSigmaReparam(20, 12, rngs=rngs())
    with torch.no_grad():
        theirs.gamma.fill_(3.0)
    ours.gamma.set_value(jnp.asarray(3.0))
    for _ in range(200):
        theirs(torch.eye(20)), ours(jnp.eye(20))
    assert float(torch.linalg.matrix_norm((theirs(torch.eye(20)) - theirs.bias).detach(), 2)) == pytest.approx(
        3.0, rel=1e-6
    )
    assert float(jnp.linalg.norm(ours(jnp.eye(20)) - ours.bias[...], 2)) == pytest.approx(3.0, rel=1e-6)
    before = ours.u[...]
    ours(jnp.ones((1, 20)), update=False)
    assert np.array_equal(before, ours.u[...])


def test_zclip_clips_spikes_alike_and_leaves_the_rest():
    # Three hundred norms, log-normal, with two spikes and one that is not finite.
    norms = np.exp(0.1 * draw(300))
    norms[[60, 200]] *= 20
    norms[100] = np.inf
    directions = [draw(4, 3), draw(5, seed=1)]
    length = np.sqrt(sum((d**2).sum() for d in directions))
    theirs, ours = ZClip(), zclip()
    parameters = [nn.Parameter(torch.zeros(d.shape)) for d in directions]
    state = jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype.kind == "f" else leaf, ours.init(None))
    update, clipped = jax.jit(ours.update), []
    for step, norm in enumerate(norms):
        gradients = [d / length * norm for d in directions]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        theirs.clip_gradients(parameters)
        updates, state = update([jnp.asarray(g) for g in gradients], state)
        same(tuple(p.grad for p in parameters), tuple(updates))
        if not np.allclose(updates[0], gradients[0], equal_nan=True):
            clipped.append(step)
    assert {60, 200} <= set(clipped) and len(clipped) < 15 and min(clipped) >= 25
    assert float(state.mean) == pytest.approx(theirs.mean) and 0.9 < theirs.mean < 1.2
    again = ZClip()
    again.load_state_dict(theirs.state_dict())
    assert again.state_dict() == theirs.state_dict()


def test_agc():
    weights = {"w": draw(5, 3) * [[1e-5], [1], [1], [1], [1]], "b": draw(5, seed=1), "conv": draw(4, 3, 2, 2, seed=2)}
    gradients = {name: draw(*w.shape, seed=9) * 0.05 for name, w in weights.items()}
    parameters = {name: nn.Parameter(torch.from_numpy(w)) for name, w in weights.items()}
    for name, parameter in parameters.items():
        parameter.grad = torch.from_numpy(gradients[name].copy())
    agc(parameters.values(), 0.02)
    axes = {"w": (1, 0), "b": (0,), "conv": (2, 3, 1, 0)}
    flax = [{name: jnp.asarray(tree[name].transpose(axes[name])) for name in axes} for tree in (gradients, weights)]
    clip = jax_agc(0.02)
    updates, _ = clip.update(flax[0], clip.init(flax[1]), flax[1])
    for name, parameter in parameters.items():
        np.testing.assert_allclose(updates[name], parameter.grad.numpy().transpose(axes[name]), rtol=1e-10)
    assert not np.allclose(parameters["w"].grad[0], gradients["w"][0]), "a row of small weights is clipped"


@pytest.mark.parametrize("norm", [0.5, 3.0])
def test_global_norm_clip(norm):
    directions = [draw(4, 3), draw(5, seed=1)]
    gradients = [d * norm / np.sqrt(sum((d**2).sum() for d in directions)) for d in directions]
    clip = global_norm_clip(2.0)
    clipped, _ = jax.jit(clip.update)(list(map(jnp.asarray, gradients)), clip.init(None))
    same(tuple(g * min(1, 2.0 / norm) for g in gradients), tuple(clipped))
    parameters = [nn.Parameter(torch.zeros(g.shape)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient.copy())
    GradientStabiliser(max_norm=2.0, max_value=float("inf")).clip_gradients(parameters)
    same(tuple(p.grad for p in parameters), tuple(clipped), rtol=1e-6)  # torch divides by the norm + 1e-6
    lost, _ = clip.update([jnp.asarray([1.0, jnp.nan]), jnp.ones(3)], clip.init(None))
    assert all(np.isnan(g).all() for g in lost)


def test_warm_up_cosine_gives_the_numbers_of_optax():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = warm_up_cosine(optimizer, 50, warm_up=10, end=0.1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 50, 0.01)
    for step in range(60):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(float(schedule(step)), abs=1e-9)
        optimizer.step()
        scheduler.step()


def test_the_assembled_optimizer_clips_and_follows_the_schedule():
    tx = jax_warm_up_cosine(0.1, 50, warm_up=10, max_norm=1.0)
    params = {"w": jnp.ones(4)}
    state = tx.init(params)
    sizes = []
    for factor in (1.0, 1.0, 1000.0):
        updates, state = tx.update({"w": jnp.full(4, factor)}, state, params)
        sizes.append(float(jnp.abs(updates["w"]).max()))
    # Adam divides a constant gradient out, so an update is the rate itself: 0, 1/10 and 2/10 of the peak.
    np.testing.assert_allclose(sizes, [0.0, 0.01, 0.02], rtol=1e-4)


def test_a_stage_comes_in_by_its_ramp_without_another_trace():
    traces = []

    @jax.jit
    def mixed(step):
        traces.append(1)
        return staged(jnp.zeros(2), jnp.ones(2), strength(step, start=10, ramp=4))

    shares = [float(mixed(step)[0]) for step in (0, 10, 11, 14, 99)]
    assert shares == [0.0, 0.0, 0.25, 1.0, 1.0] and len(traces) == 1
    assert [float(strength(step, start=3)) for step in (2, 3)] == [0.0, 1.0]
    poisoned = jnp.full(2, jnp.nan)
    assert np.array_equal(staged(jnp.zeros(2), poisoned, strength(0, start=3)), np.zeros(2))
