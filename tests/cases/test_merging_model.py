"""The merging transformer: the seed's numbers, its neck, its gates, its control."""

import pytest
import torch
from torch import nn

from pitprop.cases.model_merging.evaluation import evaluate, held_out, look, references
from pitprop.cases.model_merging.layers import Attention, sinusoid
from pitprop.cases.model_merging.model import NUM_INPUTS, EmbedderNeuronGroup, TransformerAE
from pitprop.indicators import attention_entropy_qk


def make(**options) -> TransformerAE:
    torch.manual_seed(0)
    return TransformerAE(**options)


def test_the_embedder_cuts_2464_numbers_into_24_and_26_chunks():
    embed = EmbedderNeuronGroup(100)
    assert (embed.neuron_l1.in_features, embed.neuron_l2.in_features, NUM_INPUTS) == (16, 80, 2464)
    x = torch.randn(2, 2464)
    tokens = embed(x)
    assert tokens.shape == (2, 50, 100)
    torch.testing.assert_close(tokens[:, 0], embed.neuron_l1(x[:, :16]))
    torch.testing.assert_close(tokens[:, 23], embed.neuron_l1(x[:, 368:384]))
    torch.testing.assert_close(tokens[:, 24], embed.neuron_l2(x[:, 384:464]))
    torch.testing.assert_close(tokens[:, 49], embed.neuron_l2(x[:, 2384:]))


def test_the_embedders_own_seed_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    EmbedderNeuronGroup(8)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("d_model", [100, 960])
def test_two_parents_in_one_cnn_out(d_model):
    assert make(d_model=d_model)(held_out().parents[:3]).shape == (3, 1232)


def test_the_position_table_is_the_sinusoid():
    table = sinusoid(50, 10)
    assert table.shape == (50, 10)
    torch.testing.assert_close(table[3, :2], torch.tensor([3.0]).sin().new_tensor([0.14112001, -0.9899925]))
    torch.testing.assert_close(table.square().view(50, 5, 2).sum(-1), torch.ones(50, 5))


@pytest.mark.parametrize("gate", ["none", "pooled", "elementwise", "headwise"])
def test_every_gate_trains(gate):
    model = make(gate=gate, bottleneck="mean")
    model(held_out().parents[:4]).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    gates = [m.gate for m in model.modules() if isinstance(m, Attention)]
    assert all((g is None) == (gate == "none") for g in gates) and len(gates) == 2


def test_attention_is_softmax_attention_and_the_gate_sits_before_the_output_projection():
    torch.manual_seed(0)
    attention = Attention(8, 2, "elementwise", "learned")
    x = torch.randn(3, 5, 8)
    q, k = attention.query_key(x)
    weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
    attended = (weights @ attention.heads(attention.value(x))).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x), attention.output(attention.gate(attended, x)))


def test_the_uniform_control_is_exactly_uniform():
    torch.manual_seed(0)
    attention = Attention(8, 2, "none", "uniform")
    x = torch.randn(3, 50, 8)
    torch.testing.assert_close(attention_entropy_qk(*attention.query_key(x)), torch.ones(3, 2))
    mean = attention.output(attention.value(x).mean(1, keepdim=True)).expand(-1, 50, -1)
    torch.testing.assert_close(attention(x), mean)


def test_the_original_neck_is_saturated_before_any_training_and_the_mean_neck_has_no_tanh():
    assert isinstance(make().neck.squash, nn.Tanh)
    assert evaluate(make())["saturated_share"] > 0.8
    measured = evaluate(make(bottleneck="mean"))
    assert measured["saturated_share"] != measured["saturated_share"]  # undefined is NaN
    assert measured["attention_entropy"] > 0.85


def test_the_original_neck_sums_the_tokens_and_the_other_averages_them():
    tokens = torch.randn(2, 50, 100)
    torch.testing.assert_close(make().neck.pool(tokens), tokens.sum(1))
    torch.testing.assert_close(make(bottleneck="mean").neck.pool(tokens), tokens.mean(1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_without_the_divisor_of_the_last_layer_one_step_throws_the_merged_cnn_away(seed):
    def first_step(divide: bool) -> tuple[float, float]:
        torch.manual_seed(seed)
        model = TransformerAE()
        if not divide:
            model.decoder.fan_in = 1
        held, bias = held_out(), model.decoder.output.bias.detach().clone()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        before = model(held.parents)
        nn.functional.mse_loss(before, held.target).backward()
        optimizer.step()
        usual = held.target.std()
        with torch.no_grad():
            return float((before - bias).std() / usual), float((model(held.parents) - before).std() / usual)

    start, moved = first_step(divide=False)
    assert start > 4 and moved > 10
    start, moved = first_step(divide=True)
    assert start < 0.1 and moved < 1


def test_measuring_leaves_the_model_as_it_was():
    model = make(dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    first, second = evaluate(model), evaluate(model)
    assert first == pytest.approx(second, nan_ok=True)
    assert model.training and torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_looking_cleans_up_after_an_error():
    model = make()
    with pytest.raises(RuntimeError):
        look(model, torch.zeros(2, 7))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_references_frame_every_result():
    known = references()
    assert known["constant mean"]["output_spread"] == 0
    assert known["constant mean"]["output_uniqueness"] == pytest.approx(1 / 64)
    assert known["CNN of the union"]["output_spread"] == pytest.approx(1)
    assert known["CNN of the union"]["mse"] == 0
    order = ["parents' average", "constant mean", "CNN of the union"]
    accuracies = [known[name]["merged_accuracy"] for name in order]
    assert accuracies == sorted(accuracies)
    # The original author's metric can't tell a constant from a healthy model.
    assert known["constant mean"]["within_vector_uniqueness"] > 0.99
