"""Pool by the mean instead of by the sum, so that the size of the result doesn't grow with the number of tokens.

Source: standard practice; written from the formula.
Differences: none.
Cost: none against a sum.
Facts: for n tokens the mean is 1/n of the sum: n times smaller pre-activations in whatever follows (for uncorrelated
tokens the sum already grows as sqrt(n), for tokens that share a component, as position encodings do, as n).
Insertion: keeps the function only in place of a mean; in place of a sum over n tokens the result is 1/n of it.
Does not help: where the tokens agree in sign and are large themselves, or where the number of tokens is the message.
"""

from torch import Tensor, nn


class MeanPool(nn.Module):
    """Mean over one axis.

    Args:
        axis: Axis of the tokens; -2 for `[*batch, token, width]`, which gives `[*batch, width]`.
    """

    def __init__(self, axis: int = -2):
        super().__init__()
        self.axis = axis

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(self.axis)
