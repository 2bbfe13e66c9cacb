"""The merging transformer: 2464 numbers in (two CNNs of 1232), 50 tokens, a squashed bottleneck, one CNN of 1232 out.

    2464 -> EmbedderNeuronGroup -> 50 tokens -> encoder -> Neck (pool, linear, squash) -> 50 tokens -> decoder -> 1232

Kept from the original (`Double_input_transformer.py`): shared linear maps over chunks of 16 and 80, embedding times
sqrt(d_model) plus sinusoid, pre-norm layers with a final norm, sum over tokens then linear then tanh, one linear map
per decoder token, Xavier-uniform on every matrix, feed-forward width equal to d_model.

Differences: one encoder reads both parents as 50 tokens, as the seed document says (the original has two encoders of 50
tokens, because its CNN has 2464 weights itself); chunks of 16 come first, as the document lists them (the source has
those of 80 first); `nn.LayerNorm` in place of a home-made one; the last linear layer's input is divided by the square
root of its length, without which the merged CNN's weights start four times as spread as a trained one's, one Adam step
of 1e-3 moves them by ten times that spread, and the `task` objective can't start because the merged CNN's ReLUs die;
for the same reason its bias starts at the zoo's common initialisation.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pitprop.cases.model_merging.cnn import NUM_WEIGHTS, SEED, initial
from pitprop.cases.model_merging.layers import AttentionKind, Gate, Layer, sinusoid
from pitprop.remedies.torch.mean_pool import MeanPool

Bottleneck = Literal["sum_tanh", "mean"]

NUM_SMALL, SMALL = 24, 16
NUM_LARGE, LARGE = 26, 80
NUM_TOKENS = NUM_SMALL + NUM_LARGE
NUM_INPUTS = NUM_SMALL * SMALL + NUM_LARGE * LARGE
NECK = 64
"""Width of the bottleneck."""


class EmbedderNeuronGroup(nn.Module):
    """Cuts 2464 numbers into 24 chunks of 16 and 26 of 80, and maps each kind by one shared linear layer.

    Chunk borders don't respect the layers of the CNNs, as in the original.

    Args:
        d_model: Width of a token, 100 to 960 in the original.
        seed: Seed of the two layers' own initialisation (the original's default).
    """

    def __init__(self, d_model: int, seed: int = 22):
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.neuron_l1 = nn.Linear(SMALL, d_model)
            self.neuron_l2 = nn.Linear(LARGE, d_model)

    def forward(self, x: Float[Tensor, "pair 2464"]) -> Float[Tensor, "pair 50 d_model"]:
        small, large = x.split([NUM_SMALL * SMALL, NUM_LARGE * LARGE], dim=1)
        return torch.cat(
            [
                self.neuron_l1(small.unflatten(1, (NUM_SMALL, SMALL))),
                self.neuron_l2(large.unflatten(1, (NUM_LARGE, LARGE))),
            ],
            1,
        )


class SumPool(nn.Module):
    """Sum over the tokens, `[pair, token, d_model] -> [pair, d_model]`."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.sum(-2)


class Neck(nn.Module):
    """The bottleneck: pool the tokens, project to 64 numbers, squash.

    `sum_tanh` is the original's. `mean` pools by the mean and doesn't squash.
    """

    def __init__(self, d_model: int, bottleneck: Bottleneck):
        super().__init__()
        self.pool = SumPool() if bottleneck == "sum_tanh" else MeanPool()
        self.linear = nn.Linear(d_model, NECK)
        self.squash = nn.Tanh() if bottleneck == "sum_tanh" else nn.Identity()

    def forward(self, tokens: Float[Tensor, "pair token d_model"]) -> Float[Tensor, "pair 64"]:
        return self.squash(self.linear(self.pool(tokens)))


class Decoder(nn.Module):
    """From the bottleneck back to 50 tokens, one linear map each, through layers, to the merged CNN."""

    position: Tensor

    def __init__(self, d_model: int, layers: list[Layer]):
        super().__init__()
        self.tokens = nn.ModuleList(nn.Linear(NECK, d_model) for _ in range(NUM_TOKENS))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(d_model)
        self.fan_in = NUM_TOKENS * d_model
        self.output = nn.Linear(self.fan_in, NUM_WEIGHTS)
        self.scale = math.sqrt(d_model)
        self.register_buffer("position", sinusoid(NUM_TOKENS, d_model), persistent=False)

    def forward(self, code: Float[Tensor, "pair 64"]) -> Float[Tensor, "pair 1232"]:
        x = torch.stack([token(code) for token in self.tokens], 1) * self.scale + self.position
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x).flatten(1) / self.fan_in**0.5)


class Encoder(nn.Module):
    """Both parents' weights as 50 tokens, through layers and a final norm."""

    position: Tensor

    def __init__(self, d_model: int, layers: list[Layer]):
        super().__init__()
        self.embed = EmbedderNeuronGroup(d_model)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(d_model)
        self.scale = math.sqrt(d_model)
        self.register_buffer("position", sinusoid(NUM_TOKENS, d_model), persistent=False)

    def forward(self, x: Float[Tensor, "pair 2464"]) -> Float[Tensor, "pair 50 d_model"]:
        x = self.embed(x) * self.scale + self.position
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class TransformerAE(nn.Module):
    """The whole model, under the original's name.

    Args:
        d_model: Token width; divisible by `num_heads`.
        num_heads: Attention heads per layer.
        num_layers: Layers in the encoder, and as many in the decoder.
        bottleneck: What the neck does; see `Neck`.
        gate: Gate on every attention output; see `pitprop.remedies.torch.gated_attention`.
        attention: `learned`, or `uniform` as a control.
        dropout: In every layer; 0.07 in the original.
    """

    def __init__(
        self,
        d_model: int = 100,
        num_heads: int = 4,
        num_layers: int = 1,
        bottleneck: Bottleneck = "sum_tanh",
        gate: Gate = "none",
        attention: AttentionKind = "learned",
        dropout: float = 0.0,
    ):
        super().__init__()

        def layers() -> list[Layer]:
            return [Layer(d_model, num_heads, gate, attention, dropout) for _ in range(num_layers)]

        self.encoder = Encoder(d_model, layers())
        self.neck = Neck(d_model, bottleneck)
        self.decoder = Decoder(d_model, layers())
        for parameter in self.parameters():
            # Every matrix, the embedder's too: its own seed then decides its biases only.
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        with torch.no_grad():
            self.decoder.output.bias.copy_(initial(SEED))

    def forward(self, parents: Float[Tensor, "pair 2464"]) -> Float[Tensor, "pair 1232"]:
        return self.decoder(self.neck(self.encoder(parents)))
