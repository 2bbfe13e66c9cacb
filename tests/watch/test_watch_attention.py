"""Attention is seen whatever Python wrote it, nothing else is taken for it, and its numbers agree with a dense twin."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watch_models import (
    HEADS,
    WIDTH,
    EinsumAttention,
    FusedAttention,
    Language,
    SoftmaxAttention,
    TorchAttention,
    TorchEncoder,
    batch,
    loss_of,
)

import pitprop.watch
from pitprop.trace import Reader
from pitprop.watch.attention import from_qk, from_scores


def record(model, tmp_path, *, steps=1, loss=loss_of, name="run", **kwargs):
    """Train `steps` steps, measured at each; `{indicator: {site: values}}`, coverage and the watch."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    folder = tmp_path / name
    with pitprop.watch(model, optimizer, run=folder, every=1, budget=None, quiet=True, **kwargs) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model, batch()).backward()
            optimizer.step()
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"]
    with Reader(folder) as reader:
        series = {i: {s: reader.series(i, s)[1] for s in reader.sites(i)} for i in reader.indicators()}
        maps = {(step, site): reader.array("attention", step, site) for step, site in reader.arrays("attention")}
        return series, reader.meta("coverage"), maps


MAKERS = {
    "fused": FusedAttention,
    "fused with dropout": lambda: FusedAttention(0.1),
    "softmax": SoftmaxAttention,
    "softmax with dropout": lambda: SoftmaxAttention(0.1),
    "einsum": EinsumAttention,
    "torch with weights": lambda: TorchAttention(True),
    "torch without weights": lambda: TorchAttention(False),
}


@pytest.mark.parametrize("checkpoint", [False, True], ids=["", "checkpointed"])
@pytest.mark.parametrize("name", MAKERS)
def test_seen_and_expected(name, checkpoint, tmp_path):
    torch.manual_seed(0)
    series, coverage, maps = record(Language(MAKERS[name], checkpoint=checkpoint), tmp_path)
    inner = ".inner" if "torch" in name else ""
    sites = [f"blocks.{i}.attn{inner}" for i in range(2)]
    assert coverage["attention"] == {"expected": sites, "seen": sites, "unseen": [], "unmeasured": {}}
    assert sorted(series["attention_entropy"]) == sites
    assert sorted(series["attention_logit_scale"]) == sites
    assert sorted(site for _, site in maps) == sites


def test_transformer_encoder(tmp_path):
    torch.manual_seed(0)
    _, coverage, _ = record(TorchEncoder(), tmp_path)
    assert coverage["attention"]["seen"] == [f"encoder.layers.{i}.self_attn" for i in range(2)]
    assert coverage["attention"]["unseen"] == []


def dense(model, ids):
    """Float64 twin: entropy over ln(visible), logit scale of the largest head, weights of the first sample."""
    attn = model.blocks[0].attn
    with torch.no_grad():
        x = model.blocks[0].norm1(model.token(ids) + model.position)
        q, k, _ = attn.heads(x)
    q, k = q.double().numpy(), k.double().numpy()
    logits = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1])
    entropies, scales, weights = [], [], np.zeros(logits.shape)
    for row in range(logits.shape[2]):
        s = logits[:, :, row, : row + 1]
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        weights[:, :, row, : row + 1] = p
        if row:
            entropies.append(-(p * np.log(p)).sum(-1) / np.log(row + 1))
            scales.append(s.std(-1) / math.sqrt(2 * math.log(row + 1)))
    return np.mean(entropies), np.mean(scales, axis=0).mean(axis=0).max(), weights[0]


@pytest.mark.parametrize("make", [FusedAttention, SoftmaxAttention, EinsumAttention])
def test_values_agree_with_the_dense_twin(make, tmp_path):
    torch.manual_seed(0)
    model = Language(make)
    with torch.no_grad():
        model.blocks[0].attn.qkv.weight.mul_(6)  # away from uniform
    ids = batch(4)
    expected = dense(model, ids)
    series, _, maps = record(model, tmp_path, loss=lambda m, _: loss_of(m, ids))
    assert series["attention_entropy"]["blocks.0.attn"][0] == pytest.approx(expected[0], abs=1e-5)
    assert series["attention_logit_scale"]["blocks.0.attn"][0] == pytest.approx(expected[1], rel=1e-5)
    assert maps[0, "blocks.0.attn"].shape == (HEADS, 8, 8)
    np.testing.assert_allclose(maps[0, "blocks.0.attn"], expected[2], atol=1e-3)  # stored as halves


@pytest.mark.parametrize("length", [6, 300])  # all query rows, and a sample of them without the first
def test_a_sink_is_measured_where_a_mask_makes_a_key_the_first(length):
    q, k = torch.randn(2, 1, 2, length, 4)
    causal = torch.ones(length, length).tril().bool()
    padding = torch.arange(length) < length - 2
    calls = ({"is_causal": True}, {"mask": causal}, {"mask": causal & padding}, {}, {"mask": padding})
    seen = [from_qk(q, k, **call).numbers["attention_sink"].isfinite().item() for call in calls]
    weights = torch.zeros(1, 2, length, length).masked_fill(~causal, -math.inf)
    seen.append(from_scores(weights, weights.softmax(-1)).numbers["attention_sink"].isfinite().item())
    assert seen == [True, True, True, False, False, True]


def test_a_router_and_a_classifier_are_not_attention(tmp_path):
    class Routed(FusedAttention):
        def __init__(self):
            super().__init__()
            self.router = nn.Linear(WIDTH, 4)
            self.experts = nn.Parameter(torch.randn(4, WIDTH, WIDTH))

        def forward(self, x):
            x = super().forward(x)
            gates = self.router(x).softmax(-1)
            mixed = torch.einsum("btw,ewv->btev", x, self.experts)
            return (gates[..., None] * mixed).sum(2)

    class Classifier(Language):
        def forward(self, ids):
            return super().forward(ids).softmax(-1)

    torch.manual_seed(0)
    series, _, _ = record(Classifier(Routed), tmp_path)
    assert sorted(series["attention_entropy"]) == ["blocks.0.attn", "blocks.1.attn"]


def test_attention_that_cannot_be_seen_is_said_and_can_be_tapped(tmp_path):
    class Exotic(FusedAttention):
        watch = None

        def attend(self, q, k, v):
            if self.watch is not None:
                self.watch.tap_attention("exotic", q, k)
            p = (q @ k.mT / q.shape[-1] ** 0.5).exp()
            return p / p.sum(-1, keepdim=True) @ v

    torch.manual_seed(0)
    model = Language(Exotic, layers=1)
    _, coverage, _ = record(model, tmp_path)
    assert coverage["attention"]["unseen"] == ["blocks.0.attn"]
    assert any("blocks.0.attn" in note and "tap_attention" in note for note in coverage["notes"])

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pitprop.watch(model, optimizer, run=tmp_path / "tapped", every=1, budget=None, quiet=True) as watch:
        model.blocks[0].attn.watch = watch
        loss_of(model, batch()).backward()
        optimizer.step()
    loss_of(model, batch())  # outside the block a tap does nothing
    with Reader(tmp_path / "tapped") as reader:
        assert reader.sites("attention_entropy") == ("exotic",)
        assert reader.arrays("attention") == [(0, "exotic")]


def test_one_module_used_twice_is_told_apart(tmp_path):
    class Shared(Language):
        def forward(self, ids):
            x = self.token(ids) + self.position
            for _ in range(2):
                x = self.blocks[0](x)
            return self.head(x)

    torch.manual_seed(0)
    series, _, _ = record(Shared(layers=1), tmp_path, steps=2)
    assert sorted(series["attention_entropy"]) == ["blocks.0.attn", "blocks.0.attn#2"]
    assert sorted(series["token_cosine"]) == ["blocks.0", "blocks.0#2"]
    assert sorted(series["branch_ratio"]) == ["blocks.0.attn", "blocks.0.attn#2", "blocks.0.mlp", "blocks.0.mlp#2"]


def test_a_frozen_encoder_on_the_fast_path_is_seen(tmp_path):
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).requires_grad_(False).eval()
            self.head = nn.Linear(WIDTH, 3)

        def forward(self, x):
            return self.head(self.inner(x, x, x, need_weights=False)[0])

    torch.manual_seed(0)
    model = Probe()
    x = torch.randn(3, 5, WIDTH)
    with torch.no_grad():
        packed = F.linear(x, model.inner.in_proj_weight, model.inner.in_proj_bias)
        q, k, _ = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in packed.chunk(3, -1))
        p = (q @ k.mT / math.sqrt(WIDTH / HEADS)).softmax(-1)
        expected = float((-(p * p.log()).sum(-1) / math.log(5)).mean())
    series, _, _ = record(model, tmp_path, loss=lambda m, _: m(x).square().mean())
    assert series["attention_entropy"]["inner"][0] == pytest.approx(expected, abs=1e-5)


def test_bf16_autocast_is_seen(tmp_path):
    def loss(model, ids):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss_of(model, ids)

    torch.manual_seed(0)
    series, coverage, _ = record(Language(SoftmaxAttention), tmp_path, loss=loss)
    assert coverage["attention"]["unseen"] == []
    assert 0.9 < series["attention_entropy"]["blocks.0.attn"][0] <= 1
    assert sorted(series["branch_ratio"]) == ["blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp"]
