"""The entropies that the pages give for common initialisations, on standard normal tokens."""

import pytest
import torch
from torch import nn

from pitprop.indicators import attention_entropy_qk
from pitprop.indicators.attention_entropy import INDICATOR

HEADS = 4


def entropy(weight: torch.Tensor, num_tokens: int) -> float:
    """Mean over heads and 8 samples; `weight` holds the query's and the key's rows."""
    width = weight.shape[1]
    torch.manual_seed(1)
    x = torch.randn(8, num_tokens, width)
    q, k = ((x @ part.T).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in weight.split(width))
    return float(attention_entropy_qk(q, k).mean())


def xavier(width: int) -> torch.Tensor:
    return torch.cat([nn.init.xavier_uniform_(torch.empty(width, width)) for _ in range(2)])


def multihead(width: int) -> torch.Tensor:
    return nn.MultiheadAttention(width, HEADS).in_proj_weight.detach()[: 2 * width]


def narrow(width: int) -> torch.Tensor:
    return nn.init.trunc_normal_(torch.empty(2 * width, width), std=0.02)


@pytest.mark.parametrize("width", [100, 384])
@pytest.mark.parametrize("num_tokens", [50, 256])
@pytest.mark.parametrize(
    ("make", "low", "high"), [(xavier, 0.875, 0.915), (multihead, 0.965, 0.98), (narrow, 0.995, 1.0)]
)
def test_near_uniform(make, low, high, width, num_tokens):
    torch.manual_seed(0)
    assert low < entropy(make(width), num_tokens) < high


def test_it_is_what_the_page_says():
    assert INDICATOR.at_initialisation.startswith("0.88 to 0.91 with Xavier, 0.97 to 0.98 with torch's")
    assert INDICATOR.at_initialisation.endswith("over 0.995 with truncated normal 0.02")
