"""Data that don't vary, and labels that can be read from the shape."""

from typing import NamedTuple

import pytest
import torch
from torch import nn

from pitprop.checks import Subject
from pitprop.checks.constant_data import CHECK as CONSTANT
from pitprop.checks.label_from_shape import CHECK as LEAK


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def ask(check, *batches):
    return check.run(Subject(model=nn.Linear(1, 1), batches=batches))


class Batch(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor


def batch(size=8):
    return Batch(torch.randn(size, 3, 4), torch.randint(0, 3, (size,)))


def test_data_that_vary_are_silent():
    assert ask(CONSTANT, batch(), batch(), batch()) == []
    mask = torch.ones(8, 5, dtype=torch.bool)
    assert ask(CONSTANT, {"x": torch.randn(8, 5), "mask": mask, "scale": torch.tensor(2.0)}) == []


def test_the_same_batch_again_and_again():
    one = batch()
    [finding] = ask(CONSTANT, one, one, one)
    assert finding.severity == "warning" and finding.message == "3 batches in a row are the same."
    assert ask(CONSTANT, one) == []


def test_one_sample_for_all():
    x, y = torch.randn(1, 4).expand(8, 4), torch.zeros(8, dtype=torch.long)
    [finding] = ask(CONSTANT, (x, y))
    assert finding.severity == "failure" and "no tensor" in finding.message


def test_images_of_zeros_and_labels_of_one_class():
    findings = ask(CONSTANT, *(b._replace(images=torch.zeros(8, 3, 4)) for b in (batch(), batch())))
    assert [f.message for f in findings] == ["`batch.images` is 0 everywhere, in 2 batches."]
    findings = ask(CONSTANT, *(b._replace(labels=torch.full((8,), 2)) for b in (batch(), batch())))
    assert [f.message for f in findings] == ["every label in `batch.labels` is 2, in 2 batches."]


def padded(lengths):
    rows = torch.zeros(len(lengths), 12, dtype=torch.long)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(1, 9, (length,))
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_labels_that_follow_from_the_padding(seed):
    torch.manual_seed(seed)
    labels = torch.arange(24) % 2
    [finding] = ask(LEAK, {"ids": padded([5 + 4 * int(i) for i in labels]), "label": labels})
    assert finding.severity == "warning"
    told = "2 lengths or shapes, 2 labels, no exception in 24 samples."
    assert finding.message == f"`batch.label` follows from the shape of `batch.ids`: {told}"
    lengths = torch.randint(3, 12, (24,)).tolist()
    assert ask(LEAK, {"ids": padded(lengths), "label": labels}) == []
    # A length of its own for each sample follows from nothing, and neither do two samples.
    assert ask(LEAK, {"ids": padded(list(range(1, 9))), "label": torch.arange(8) % 2}) == []
    assert ask(LEAK, {"ids": padded([5, 9]), "label": torch.arange(2)}) == []


def test_labels_that_follow_from_the_shape_of_pictures_in_a_list():
    def ragged(sizes, labels):
        return {"pictures": [torch.randn(3, size, size) for size in sizes], "labels": torch.tensor(labels)}

    labels = [0, 1] * 8
    [finding] = ask(LEAK, ragged([8 if label else 16 for label in labels], labels))
    assert "`batch.pictures.*`" in finding.message
    assert ask(LEAK, ragged([8, 8, 16, 16] * 4, labels)) == []


def test_labels_that_follow_from_the_shape_of_the_batch():
    batches = [(torch.randn(8, 3, size, size), torch.full((8,), size // 8)) for size in (8, 16, 8)]
    assert [f.severity for f in ask(LEAK, *batches)] == ["warning"]
