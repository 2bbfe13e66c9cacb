"""What is measured of a torch model, against hand computation."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from watch_models import WIDTH, Convolutions, FusedAttention, Language, batch, loss_of, train

import pitprop.watch
from pitprop.indicators import effective_rank, gradient_norm, gradient_share, token_cosine, update_ratio
from pitprop.trace import Reader


def watching(model, optimizer, folder, **kwargs):
    return pitprop.watch(model, optimizer, **{"run": folder, "every": 1, "budget": None, "quiet": True, **kwargs})


def read(folder):
    with Reader(folder) as reader:
        return {
            i: {s: dict(zip(*map(np.ndarray.tolist, reader.series(i, s)), strict=True)) for s in reader.sites(i)}
            for i in reader.indicators()
        }


def test_gradients_and_updates_by_module(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = [p.detach().clone() for p in model.parameters()]
    with watching(model, optimizer, tmp_path / "run"):
        model(torch.randn(5, 3)).square().sum().backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)  # reported is what came before clipping
        optimizer.step()
    seen = read(tmp_path / "run")
    norms = [float(gradient_norm(gradients[i : i + 2])) for i in (0, 2)]
    assert [seen["gradient_norm"][site][0] for site in "01"] == pytest.approx(norms, rel=1e-5)
    shares = gradient_share(np.asarray(norms))
    assert [seen["gradient_share"][site][0] for site in "01"] == pytest.approx(shares, rel=1e-5)
    for i, site in ((0, "0"), (2, "1")):
        old = torch.cat([p.flatten() for p in before[i : i + 2]])
        new = torch.cat([p.detach().flatten() for p in list(model.parameters())[i : i + 2]])
        assert seen["update_ratio"][site][0] == pytest.approx(float(update_ratio(new - old, old)), rel=1e-4)


def test_an_update_from_zero_weights_is_undefined(tmp_path):
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        for _ in range(2):
            optimizer.zero_grad()
            (model(torch.ones(1, 2)) - 1).square().sum().backward()
            optimizer.step()
    values = read(tmp_path / "run")["update_ratio"]["<model>"]
    assert math.isnan(values[0]) and values[1] == pytest.approx(0.6)


class Squash(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.act = nn.Tanh()

    def forward(self, x):
        return self.act(self.gain * x) + torch.sigmoid(self.gain * x)


def test_saturation_by_hand(tmp_path):
    model = Squash()
    x = torch.tensor([[0.0, 1.0, 2.0, 3.5], [-3.5, 7.0, -7.0, 0.5]])
    with watching(model, torch.optim.SGD(model.parameters(), 0.1), tmp_path / "run") as watch:
        model(x).sum().backward()
        next(iter(watch._edge.optimizers)).step()
    seen = read(tmp_path / "run")["saturated_share"]
    # tanh is flat to 1 % from atanh(sqrt(.99)) = 2.99 on, the sigmoid from 5.99 on.
    assert seen == {"act": {0: pytest.approx(4 / 8)}, "<model>": {0: pytest.approx(2 / 8)}}


def test_branch_ratio_by_hand(tmp_path):
    torch.manual_seed(0)
    model = Language(FusedAttention, layers=1)
    block = model.blocks[0]
    kept = {}
    block.attn.register_forward_hook(lambda m, a, out: kept.update(branch=out.detach()))
    block.norm1.register_forward_pre_hook(lambda m, a: kept.update(stream=a[0].detach()))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        train(model, optimizer, 1)
    expected = (kept["branch"].flatten(1).norm(dim=1) / kept["stream"].flatten(1).norm(dim=1)).mean()
    seen = read(tmp_path / "run")["branch_ratio"]
    assert seen["blocks.0.attn"][0] == pytest.approx(float(expected), rel=1e-5)
    assert set(seen) == {"blocks.0.attn", "blocks.0.mlp"}  # not token + position


class Rotary(nn.Module):
    """Additions that are no residual branches (rotary embedding), one that is injected, and one in place."""

    def __init__(self):
        super().__init__()
        self.inner, self.context, self.last = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x, c):
        x = self.inner(x)
        x = x * 0.5 + torch.cat([-x[..., 1:], x[..., :1]], -1) * 0.5
        x = x + 0.1 * self.context(c)
        x += self.last(x.clone())
        return x


def test_which_additions_are_branches(tmp_path):
    torch.manual_seed(0)
    model = Rotary()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        model(torch.randn(2, 3, WIDTH), torch.randn(2, 3, WIDTH)).sum().backward()
        optimizer.step()
    assert set(read(tmp_path / "run")["branch_ratio"]) == {"context", "last"}


class Masked(nn.Module):
    """A mask that is made as large as another, and added to it: no residual branch of infinite size."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q = self.inner(x)
        bias = q.new_zeros(*q.shape[:2], q.shape[1])
        mask = bias + torch.full_like(bias, -torch.inf).triu(1)
        return (q @ x.transpose(-2, -1) + mask).softmax(-1)


def test_a_mask_is_no_branch(tmp_path):
    torch.manual_seed(0)
    model = Masked()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        model(torch.randn(2, 3, WIDTH)).square().sum().backward()
        optimizer.step()
    assert "branch_ratio" not in read(tmp_path / "run")


def test_streams_of_blocks(tmp_path):
    torch.manual_seed(0)
    model = Language()
    kept = {}
    model.blocks[1].register_forward_hook(lambda m, a, out: kept.update(out=out.detach()))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        train(model, optimizer, 1, size=2)
    seen = read(tmp_path / "run")
    assert set(seen["token_cosine"]) == {"blocks.0", "blocks.1"}
    assert seen["token_cosine"]["blocks.1"][0] == pytest.approx(float(token_cosine(kept["out"]).mean()), abs=1e-6)
    assert seen["effective_rank"]["blocks.1"][0] == pytest.approx(float(effective_rank(kept["out"]).mean()), rel=1e-5)


def test_a_cnn_has_branches_and_saturation_and_only_the_trace_says_it_has_no_attention(tmp_path, capsys):
    torch.manual_seed(0)
    model = Convolutions()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        train(model, optimizer, 1)
    seen = read(tmp_path / "run")
    assert set(seen["branch_ratio"]) == {"body"} and set(seen["saturated_share"]) == {"body.2"}
    assert "attention_entropy" not in seen
    with Reader(tmp_path / "run") as reader:
        assert any("no attention" in note for note in reader.meta("coverage")["notes"])
    with pitprop.watch(model, optimizer, run=tmp_path / "loud", every=1, budget=None):
        train(model, optimizer, 1)
    assert "attention" not in capsys.readouterr().err


def test_accumulation_sums_gradients_and_averages_the_rest(tmp_path):
    torch.manual_seed(0)
    model = Language(layers=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    parts = [batch(2), batch(2)]

    def entropies(folder, groups):
        with watching(model, torch.optim.SGD(model.parameters(), 0.0), folder) as watch:
            for group in groups:
                for ids in group:
                    loss = loss_of(model, ids) / len(group)
                    loss.backward()
                    watch.log(loss=loss)
                next(iter(watch._edge.optimizers)).step()
                whole = float(gradient_norm([p.grad for p in model.head.parameters()]))
                optimizer.zero_grad()
        return read(folder), whole

    together, norm = entropies(tmp_path / "together", [parts])
    apart, _ = entropies(tmp_path / "apart", [[ids] for ids in parts])
    site = "blocks.0.attn"
    assert together["gradient_norm"]["head"][0] == pytest.approx(norm, rel=1e-5)
    values = apart["attention_entropy"][site]
    assert together["attention_entropy"][site][0] == pytest.approx((values[0] + values[1]) / 2, rel=1e-6)
    assert together["loss"]["<run>"][0] == pytest.approx((apart["loss"]["<run>"][0] + apart["loss"]["<run>"][1]) / 4)


def test_a_scaled_loss_gives_unscaled_gradients(tmp_path):
    class Scaler:
        def get_scale(self):
            return 1024.0

    def norms(folder, scale, scaler):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with watching(model, optimizer, folder, scaler=scaler):
            (model(torch.ones(1, 3)).sum() * scale).backward()
            optimizer.step()
        return read(folder)["gradient_norm"]

    assert norms(tmp_path / "a", 1024.0, Scaler()) == norms(tmp_path / "b", 1.0, None)


def test_two_optimizers_make_one_step_and_a_resting_one_is_not_waited_for(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    first, second = (torch.optim.SGD(part.parameters(), 0.1) for part in model)
    with watching(model, [first, second], tmp_path / "run") as watch:
        for number in range(3):
            model(torch.randn(5, 3)).square().sum().backward()
            first.step()
            second.step()
            assert watch.step == number + 1
        steps = []
        for _ in range(4):
            model(torch.randn(5, 3)).square().sum().backward()
            first.step()
            steps.append(watch.step)
        assert steps == [3, 4, 5, 6]
        second.step()
        first.step()
        assert watch.step == 7
    updates = read(tmp_path / "run")["update_ratio"]
    assert set(updates["0"]) == {0, 1, 2, 3, 4, 5, 6} and set(updates["1"]) == {0, 1, 2, 6}


def test_evaluations_in_the_loop_are_not_mixed_in(tmp_path):
    torch.manual_seed(0)
    model = Language(layers=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run") as watch:
        with torch.no_grad():
            model(batch())
        with torch.inference_mode():
            model(batch())
        train(model, optimizer, 1)
        assert watch._edge.num_forwards == 1


def test_maps_come_at_few_steps_and_small(tmp_path):
    torch.manual_seed(0)
    model = Language(layers=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watching(model, optimizer, tmp_path / "run"):
        train(model, optimizer, 30)
    with Reader(tmp_path / "run") as reader:
        assert [step for step, _ in reader.arrays("attention")] == [0, 1, 3, 9, 27]
    from pitprop.watch.attention import from_qk, from_scores

    q = torch.randn(2, 12, 300, 4)
    assert from_qk(q, q, with_map=True).map.shape == (6, 100, 100)
    assert from_qk(q[..., :0, :], q, with_map=True).numbers == {}
    scores = torch.randn(2, 12, 300, 300)
    assert from_scores(scores, scores.softmax(-1), with_map=True).map.shape == (6, 100, 100)
