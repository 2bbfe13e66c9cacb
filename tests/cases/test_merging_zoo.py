"""The CNN of 1232 weights, the stored zoo, and the pairs."""

import pytest
import torch
from torch import nn

from pitprop._errors import PitpropError
from pitprop.cases._digits import digits
from pitprop.cases.model_merging import cnn, zoo


def reference(weights: torch.Tensor) -> nn.Module:
    """The same CNN as ordinary modules."""
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    nn.utils.vector_to_parameters(weights, module.parameters())
    return module


def test_the_cnn_has_1232_weights():
    assert cnn.NUM_WEIGHTS == 1232
    assert sum(p.numel() for p in reference(torch.zeros(1232)).parameters()) == 1232


def test_running_flat_weights_equals_running_modules():
    members = zoo.load().weights[[0, 100, 246]]
    images = digits()[1].images[:20]
    together = cnn.forward_all(members, images)
    each = cnn.forward_each(members, images.expand(3, -1, -1, -1, -1))
    for member, a, b in zip(members, together, each, strict=True):
        torch.testing.assert_close(a, reference(member)(images))
        torch.testing.assert_close(b, reference(member)(images))


def test_the_split_of_the_digits_is_fixed_and_complete():
    train, test = digits()
    assert (len(train.labels), len(test.labels)) == (1400, 397)
    assert train.images.min() == 0 and train.images.max() == 1
    assert set(test.labels.tolist()) == set(range(10))


def test_the_stored_zoo_is_what_it_says():
    members = zoo.load()
    assert members.weights.shape == (247, 1232) and members.weights.dtype == torch.float32
    assert torch.equal(members.classes, zoo.subsets())
    test = digits()[1]
    again = cnn.accuracy(members.weights, test.images, test.labels, members.classes)
    torch.testing.assert_close(again, members.accuracy, atol=0.02, rtol=0)  # a tie may fall the other way elsewhere
    assert members.accuracy.min() > 0.9
    provenance = zoo.metadata()
    assert provenance["members"] == 247 and provenance["seed"] == 22
    assert provenance["mean_accuracy"] == pytest.approx(float(members.accuracy.mean()), abs=1e-4)
    assert "pitprop.cases.model_merging.zoo" in provenance["command"]
    assert zoo.PATH.stat().st_size < 2_000_000


def test_accuracy_counts_a_members_own_classes_only():
    images, labels = digits()[1]
    always_three = torch.zeros(1, 1232)
    always_three[0, -10 + 3] = 1.0
    classes = torch.zeros(1, 10, dtype=torch.bool)
    classes[0, [3, 5]] = True
    expected = float((labels == 3).sum() / ((labels == 3) | (labels == 5)).sum())
    assert float(cnn.accuracy(always_three, images, labels, classes)) == pytest.approx(expected)


def test_building_starts_every_member_from_one_point_and_repeats():
    start = zoo.build(steps=0)
    assert (start.weights == start.weights[0]).all()
    one, two = zoo.build(steps=1, batch_size=4), zoo.build(steps=1, batch_size=4)
    assert torch.equal(one.weights, two.weights)
    assert not (one.weights == one.weights[0]).all()


def test_writing_and_reading_a_zoo(tmp_path):
    built = zoo.build(steps=0)
    zoo.write(built, tmp_path / "z.safetensors", ["a", "command"])
    read = zoo.load(tmp_path / "z.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(built, read, strict=True))
    assert zoo.metadata(tmp_path / "z.safetensors")["command"] == ["a", "command"]


def test_a_missing_or_foreign_file_is_explained(tmp_path):
    with pytest.raises(PitpropError, match=r"can't be read as a zoo.*\n.*\nDo: build it again: python -m"):
        zoo.load(tmp_path / "none.safetensors")
    (tmp_path / "foreign.safetensors").write_bytes(b"not a zoo at all")
    with pytest.raises(PitpropError, match="can't be read as a zoo"):
        zoo.load(tmp_path / "foreign.safetensors")


def test_pairs_are_disjoint_and_lead_to_their_union():
    classes = zoo.load().classes
    sizes = {}
    for split in ("train", "validation", "test"):
        pairs = zoo.pairs(split)
        sizes[split] = len(pairs.union)
        a, b, union = classes[pairs.first], classes[pairs.second], classes[pairs.union]
        assert not (a & b).any()
        assert torch.equal(a | b, union)
        assert bool(union[:, 0].any()) == (split == "test")
        if split == "validation":
            assert torch.equal(a.sum(1), b.sum(1))
    assert sizes == {"train": 742, "validation": 350, "test": 2982}  # as in the original
