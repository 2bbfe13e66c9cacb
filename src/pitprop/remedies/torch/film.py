"""FiLM: a condition scales and shifts every channel, and starts by doing neither.

Paper: Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, arXiv 1709.07871 (2017).
Source: written from the formula `(1 + g(c)) * x + b(c)`; no code copied.
Differences: the generator is one linear layer that starts at zero, so that the layer starts as the identity whatever
the condition is; seed 2's FiLM is `2 * sigmoid(W c) * x + U c` with random W and U.
Cost: 2 * width * condition_width parameters, one multiplication and addition per entry.
Insertion: keeps the function exactly.
Does not help: where different places need different parts of the condition: it is the same for every token (so is
cross-attention at initialisation, whose weights are near uniform).
"""

from torch import Tensor, nn


class FiLM(nn.Module):
    """Scales and shifts channels by a condition.

    Args:
        width: Channels of the stream.
        condition_width: Channels of the condition.

    Shapes: `x` is `[batch, *place, width]`, `condition` is `[batch, condition_width]`, the result is like `x`.
    """

    def __init__(self, width: int, condition_width: int):
        super().__init__()
        self.generator = nn.Linear(condition_width, 2 * width)
        nn.init.zeros_(self.generator.weight)
        nn.init.zeros_(self.generator.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain, shift = self.generator(condition).chunk(2, dim=-1)
        between = [1] * (x.dim() - 2)
        return x * (1 + gain.view(len(gain), *between, -1)) + shift.view(len(shift), *between, -1)
