"""`Ablate(path, head=...)`: what a head says is 0 before the output projection, however the attention is written."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pitprop import PitpropError
from pitprop.trials.interventions import Ablate, ForceUniformAttention, from_dict, to_dict

HEADS, WIDTH, TOKENS = 4, 16, 5
X = torch.randn(3, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """As timm and HF write it: packed projections, one of several kernels, an output projection."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(1)
        self.way, self.num_heads = way, HEADS
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.way == "fused":
            said = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0)
        elif self.way == "fused by name":
            said = F.scaled_dot_product_attention(query=q, key=k[:, :2], value=v[:, :2], enable_gqa=True)
        elif self.way == "folded":  # batch and heads in one axis, as torch's own bmm wants them
            q, k, v = (t.flatten(0, 1) for t in (q, k, v))
            said = (torch.bmm(q, k.mT) / math.sqrt(q.shape[-1])).softmax(-1) @ v
            said = said.unflatten(0, (-1, HEADS))
        else:
            said = F.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1) @ v
        return self.join(said)

    def join(self, said):
        return self.out(said.transpose(1, 2).flatten(-2))


class Twin(Attention):
    """The same, with the heads' slices set to 0 by hand, one by one."""

    gone = ()

    def join(self, said):
        said = said.clone()
        for head in self.gone:
            said[:, head] = 0
        return super().join(said)


def training(module):
    return SimpleNamespace(model=nn.ModuleDict({"attn": module, "other": nn.Linear(WIDTH, 1)}))


@pytest.mark.parametrize("heads", [2, (0, 3)])
@pytest.mark.parametrize("way", ["fused", "fused by name", "folded", "written out"])
def test_a_head_is_its_slice_before_the_projection(way, heads):
    module, twin = Attention(way), Twin(way)
    change = Ablate("attn", head=heads)
    twin.gone = change.heads
    whole = module(X)
    applied = change.apply(training(module))
    out, expected = module(X), twin(X)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(out, whole, atol=1e-3), "the heads said something"
    out.square().sum().backward()
    expected.square().sum().backward()
    for p, q in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)
    applied.check("x")


@pytest.mark.parametrize("mode", ["train", "eval", "fast path"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_head_of_torchs_own_module_on_its_fast_path_too(mode, batch_first):
    torch.manual_seed(1)
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first).train(mode == "train")
    with torch.no_grad():  # the slice before the projection is 0 where the projection does not read it
        twin = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
        twin.load_state_dict(module.state_dict())
        twin.out_proj.weight[:, 8:12] = 0
    applied = Ablate("attn", head=2).apply(training(module))
    with torch.set_grad_enabled(mode != "fast path"):
        out, weights = module(X, X, X)
    expected, plain = twin.train()(X, X, X)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights, plain), "what is reported of the weights stays"
    applied.check("x")


@pytest.mark.parametrize("path", ["layers.1.self_attn", "layers.1"])
def test_a_head_inside_torchs_encoder_in_eval_mode(path):
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    with torch.no_grad():
        whole = model(X)
        applied = Ablate(path, head=0).apply(SimpleNamespace(model=model))
        out = model(X)
        applied.check("x")
        assert not torch.allclose(out, whole, atol=1e-4)
    with torch.no_grad():
        twin = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
        twin.load_state_dict(model.state_dict())
        twin.layers[1].self_attn.out_proj.weight[:, :4] = 0
        torch.testing.assert_close(out, twin(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["fused", "folded", "own"])
def test_a_head_that_is_not_there_says_how_many_there_are(way):
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) if way == "own" else Attention(way)
    Ablate("attn", head=(1, 4)).apply(training(module))
    with pytest.raises(PitpropError, match=r"no head 4: it has 4.*\n.*0 to 3"):
        module(*(X,) * (3 if way == "own" else 1))
    assert torch.equal(torch.tensor([0.0, 9.0]).softmax(0).round(), torch.tensor([0.0, 1.0])), "the mode is left"


def test_attention_whose_heads_are_elsewhere_is_refused():
    class Odd(nn.Module):
        n_heads = 4

        def forward(self, x):  # [batch, query, head, key]
            return torch.einsum("bqhd,bkhd->bqhk", *(x.unflatten(-1, (4, 4)),) * 2).softmax(-1)

    module = Odd()
    Ablate("attn", head=0).apply(training(module))
    with pytest.raises(PitpropError, match=r"declares 4 heads.*\(3, 5, 4, 5\)"):
        module(X)


def test_a_softmax_that_is_no_attention_is_left_alone_and_nothing_else_is_an_error():
    class Router(nn.Module):
        def forward(self, x):
            return x.softmax(-1)

    module = Router()
    applied = Ablate("attn", head=0).apply(training(module))
    assert torch.equal(module(X), X.softmax(-1))
    with pytest.raises(PitpropError, match=r"never acted at `attn`.*\nNo attention with visible heads"):
        applied.check("x")


def test_two_changes_of_one_attention_add_up():
    module, both = Attention("written out"), Attention("written out")
    Ablate("attn", head=1).apply(training(both))
    ForceUniformAttention("attn").apply(training(both))
    Ablate("attn", head=(0, 1, 2, 3)).apply(training(module))
    torch.testing.assert_close(module(X), module.out.bias.expand(3, TOKENS, WIDTH))
    values = both.qkv(X).unflatten(-1, (3, HEADS, -1))[:, :, 2].mean(1).clone()
    values[:, 1] = 0
    torch.testing.assert_close(both(X), both.out(values.flatten(-2))[:, None].expand(3, TOKENS, WIDTH))


def test_the_heads_are_written_down_and_read_back():
    for change in (Ablate("a.attn", head=2), Ablate("a.attn", head=(0, 2))):
        data = to_dict(change)
        data = {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}  # as JSON has it
        assert from_dict(data) == change and hash(from_dict(data)) == hash(change)
    assert Ablate("a.attn", head=2).describe() == "head 2 of a.attn multiplied by 0"
    assert Ablate("a.attn", head=(0, 2)).describe() == "heads 0, 2 of a.attn multiplied by 0"
    assert dataclasses.replace(Ablate("x", head=1), head=None).describe() == "output of x multiplied by 0"


@pytest.mark.parametrize(
    ("options", "expected"), [({"to": "mean"}, "batch_mean"), ({"to": "batch_mean", "head": 1}, "ablate heads to zero")]
)
def test_what_cannot_be_ablated_so_is_refused(options, expected):
    with pytest.raises(PitpropError, match=expected):
        Ablate("x", **options)
