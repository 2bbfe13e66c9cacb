"""Norm matching: a branch is given the norm of the stream that it is added to, whatever its own norm is.

Source: seed 1's own final fix (`wei-paul/AA-CLIP`, Apache-2.0, and its upstream's adapters), written anew from the
formula `c * |x| / (|c| + eps)`; no code copied.
Differences: `strength` scales the result, so that `x + norm_match(c, x, strength=a)` is the whole of it.
Cost: two norms per token, no parameter.
Facts: with `c` orthogonal to `x`, the part of the gradient that reaches `x` through a normalising head is 1 / sqrt(1 +
a**2) for any norm of `c` (a=1: .707, .3: .958, .1: .995).
Insertion: changes the function, unless the branch has the stream's norm already; nothing behind it can absorb a factor
that differs from token to token.
Does not help: it hides that the raw branch grows (watch `branch_ratio` before it), and a constant gradient scale
doesn't matter to Adam anyway.
"""

from torch import Tensor


def norm_match(branch: Tensor, stream: Tensor, *, strength: float = 1.0, eps: float = 1e-6) -> Tensor:
    """`branch` with the norm of `stream` times `strength`, over the last axis.

    Args:
        branch: `[*batch, width]`, the values to be added.
        stream: `[*batch, width]`, the values they are added to.
        strength: Norm of the result relative to the stream's; 0 or more.
        eps: Keeps a zero branch zero.
    """
    ratio = stream.norm(dim=-1, keepdim=True) / (branch.norm(dim=-1, keepdim=True) + eps)
    return branch * (strength * ratio)
