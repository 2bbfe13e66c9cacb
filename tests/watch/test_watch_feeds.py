"""Arrays given to `log`: where each goes, what is refused, and that nothing of the run changes."""

import math

import pytest
import torch
from torch import nn
from watch_models import every_array

import pitprop.watch
from pitprop._errors import PitpropError
from pitprop.records import RUN
from pitprop.trace import Reader
from pitprop.watch.feeds import Feeds


def measure(feeds=None, **given):
    feeds = feeds or Feeds()
    return {key: float(value) for key, value in feeds.measure(feeds.take(given)).items()}


def test_arrays_leave_the_call_and_numbers_stay():
    given = {"loss": 1.0, **every_array()}
    taken = Feeds().take(given)
    assert set(given) == {"loss"}
    assert {site for _, site, _ in taken} == {RUN}


def test_a_mapping_names_its_places():
    codes = {"vq.0": torch.arange(8), "vq.1": torch.zeros(8, dtype=torch.long)}
    found = measure(codes=codes, num_codes={"vq.0": 8, "vq.1": 16})
    assert set(found) == {("code_usage", "vq.0"), ("code_usage", "vq.1")}
    assert found["code_usage", "vq.0"] > 1 > found["code_usage", "vq.1"]
    shared = measure(codes=codes, num_codes=8)
    assert shared["code_usage", "vq.1"] == pytest.approx(1 / (8 * (1 - (7 / 8) ** 8)), rel=1e-5)


def test_classes_are_found_on_either_axis():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 4, 6), torch.randint(0, 5, (3, 4, 6))
    labels[0, 0] = -100
    dense = measure(logits=logits, labels=labels)
    flat = measure(logits=logits.movedim(1, -1), labels=labels)
    assert dense == flat
    expected = nn.functional.cross_entropy(logits, labels)
    shares = torch.bincount(labels[labels >= 0]) / (labels >= 0).sum()
    assert dense["class_loss_ratio", RUN] == pytest.approx(float(expected / torch.special.entr(shares).sum()), rel=1e-5)


def test_certainty_is_that_of_the_type():
    logits = torch.tensor([[20.0, 0.0], [10.0, 0.0]])
    assert measure(logits=logits)["certain_share", RUN] == 0.5
    assert measure(logits=logits.double())["certain_share", RUN] == 0.0
    assert measure(logits=logits.bfloat16())["certain_share", RUN] == 0.5  # their loss is computed in float32
    coarse = measure(logits=torch.full((4, 3), 200.0, dtype=torch.bfloat16))
    assert coarse["logit_rounding", RUN] == pytest.approx((200 + math.log(3)) / 256, rel=1e-3)


def test_loss_weights_are_compared_with_the_last_ones():
    feeds = Feeds()
    losses = torch.tensor([3.0, 2.0, 1.0])
    first = measure(feeds, weights=torch.tensor([0.3, 0.3, 0.4]), losses=losses)
    assert math.isnan(first["loss_weight_alignment", RUN]) and first["loss_weight_motion", RUN] == 0
    towards = measure(feeds, weights=torch.tensor([0.25, 0.3, 0.45]), losses=losses)
    assert towards["loss_weight_alignment", RUN] == pytest.approx(1.0)
    assert towards["loss_weight_vertex", RUN] == 2
    assert towards["loss_weight_odds", RUN] == pytest.approx(math.log(0.45 / 0.55))
    assert towards["loss_weight_motion", RUN] == pytest.approx(0.05)
    away = measure(feeds, weights=torch.tensor([0.3, 0.3, 0.4]), losses=losses)
    assert away["loss_weight_alignment", RUN] == pytest.approx(-1.0)


def test_large_tables_are_thinned():
    found = measure(logits=torch.zeros(5000, 1000), labels=torch.arange(5000) % 1000, routing=torch.ones(9000, 2000))
    assert found["class_loss_ratio", RUN] == pytest.approx(1.0, abs=0.01)
    assert found["load_entropy", RUN] == pytest.approx(1.0)


def test_what_was_not_at_hand_is_left_out_with_what_describes_it():
    assert Feeds().take({"outputs": None, "targets": torch.ones(3), "logits": None, "labels": torch.ones(3)}) == []
    [(_, _, parts)] = Feeds().take({"logits": torch.ones(3, 2), "labels": None})
    assert set(parts) == {"logits"}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"labels": torch.zeros(3)}, r"`watch.log\(labels=...\)` got no `logits`"),
        ({"codes": torch.zeros(3)}, r"got no `num_codes`\nThey are measured together"),
        ({"codes": torch.zeros(3), "num_codes": 0.5}, r"`watch.log\(num_codes=...\)` got 0.5"),
        (
            {"weights": torch.ones(3), "losses": torch.ones(4)},
            r"`weights` of shape \(3,\) and `losses` of shape \(4",
        ),
        ({"logits": torch.ones(3, 2), "labels": torch.ones(2)}, r"and `labels` of shape \(2,\)"),
        ({"embeddings": torch.ones(3)}, r"`embeddings` of shape \(3,\)"),
        ({"teacher": [0.5, 0.5]}, r"`watch.log\(teacher=...\)` got a list"),
        ({"routing": {"moe": "all"}}, r"`watch.log\(routing=...\)` got a str"),
    ],
)
def test_what_does_not_fit_is_refused(given, match):
    with pytest.raises(PitpropError, match=match):
        Feeds().take(dict(given))


def train(tmp_path, name, **log):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 4))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    with pitprop.watch(model, optimizer, run=tmp_path / name, every=2, budget=None, quiet=True) as watch:
        for _ in range(6):
            out = model(torch.randn(16, 3))
            loss = out.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss, **log)
            losses.append(loss.item())
        assert not watch.findings
    return losses


def test_in_a_run_they_are_inert_and_measured_on_the_schedule(tmp_path):
    with torch.random.fork_rng():
        arrays = every_array()
    plain = train(tmp_path, "plain")
    assert plain == train(tmp_path, "fed", **arrays, condition_gap={"text": 0.1, "class": 0.2})
    with Reader(tmp_path / "fed") as reader:
        for name in ("class_loss_ratio", "code_usage", "latent_kl", "loss_weight_motion", "teacher_entropy"):
            assert reader.series(name, RUN)[0].tolist() == [0, 2, 4]
        assert set(reader.sites("condition_gap")) == {"class", "text"}
        assert reader.series("condition_gap", "text")[0].tolist() == list(range(6))
