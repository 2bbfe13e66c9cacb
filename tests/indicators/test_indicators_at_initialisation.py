"""The values that the pages of indicators give for random initialisations."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from pitprop import indicators as ind


@pytest.fixture(autouse=True, params=range(3))
def seed(request):
    torch.manual_seed(request.param)


def layers(num: int, he: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    made = []
    for _ in range(num):
        linear = nn.Linear(128, 128)
        if he:
            nn.init.kaiming_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
        made += [linear, nn.ReLU()]
    return nn.Sequential(*made[:-1])


@pytest.mark.parametrize(
    ("num", "he", "spread", "rank"),
    [(1, False, 0.99, 0.8), (3, False, 0.6, 0.7), (6, False, 0.07, 0.4), (6, True, 0.5, 0.55), (12, False, 3e-4, 0.17)],
)
def test_embeddings(num, he, spread, rank):
    with torch.no_grad():
        z = layers(num, he)(torch.randn(512, 128))
    assert float(ind.embedding_spread(z)) == pytest.approx(spread, rel=0.15)
    assert float(ind.embedding_rank(z)) == pytest.approx(rank, rel=0.1)


@pytest.mark.parametrize("shape", [(512, 128), (64, 256), (256, 256), (200, 10)])
def test_noise_has_the_rank_of_noise(shape):
    assert float(ind.embedding_rank(torch.randn(shape))) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("experts", [4, 64])
def test_routers(experts):
    logits = torch.randn(1024, 128) @ nn.Linear(128, experts, bias=False).weight.detach().T
    top = torch.zeros_like(logits).scatter(1, logits.topk(2).indices, 1.0)
    assert float(ind.load_entropy(top)) > 0.99
    assert 0.02 < float(ind.load_chi_squared(top)) < 1.6
    assert float(ind.load_entropy(torch.full((1024, experts), 0.1))) == pytest.approx(1.0)
    assert float(ind.load_chi_squared(torch.full((1024, experts), 0.1))) == pytest.approx(0.0, abs=1e-6)


def test_codebooks():
    z = torch.randn(4096, 16)
    for codes, expected in ((torch.rand(512, 16) * 2 / 512 - 1 / 512, 0.83), (torch.randn(512, 16), 0.92)):
        chosen = torch.cdist(z, codes).argmin(1)
        assert float(ind.code_usage(chosen, num_codes=512)) == pytest.approx(expected, abs=0.03)


def test_teacher():
    body = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 64))
    with torch.no_grad():
        z = normalize(body(torch.randn(256, 128)), dim=-1)
        prototypes = normalize(nn.Linear(64, 1024, bias=False).weight, dim=-1)
        targets = (z @ prototypes.T / 0.04).softmax(-1)
    assert 0.34 < float(ind.teacher_information(targets)) < 0.42
    assert 0.49 < float(ind.teacher_entropy(targets)) < 0.52


def test_activations():
    assert 5 < float(ind.activation_peak(torch.randn(100, 100))) < 8
    assert 7 < float(ind.activation_peak(torch.randn(1000, 1000))) < 9
