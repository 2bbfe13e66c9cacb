"""QK-norm: queries and keys at unit RMS per head, with learned gains, so that attention logits are bounded.

Paper: Henry et al., Query-Key Normalization for Transformers, arXiv 2010.04245 (2020); in the RMS form of ViT-22B,
arXiv 2302.05442, and of Qwen3. Source read: `modeling_qwen3.py` (Apache-2.0); written anew, no code copied.
Differences: none in the function; the gain is shared by all heads, as in Qwen3.
Cost: 2 * head_width parameters per layer, one pass over q and k.
Facts: with gains of 1 and scale 1/sqrt(head_width) a logit is at most sqrt(head_width) in size (Cauchy-Schwarz).
Insertion: changes the function of a trained attention: the norms of its queries and keys, which differ from token to
token, are lost, and one gain per channel can't give them back.
Does not help: against uniform attention (it bounds logits, it doesn't raise them), or where the tokens themselves are
alike.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QKNorm(nn.Module):
    """Normalises queries and keys to unit RMS over the head's channels, then scales each channel.

    Args:
        head_width: Channels of one head.
        eps: Added to the mean square.

    Shapes: `q` and `k` are `[*batch, head, token, head_width]`, and so are the two results.
    """

    def __init__(self, head_width: int, *, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.query_gain = nn.Parameter(torch.ones(head_width))
        self.key_gain = nn.Parameter(torch.ones(head_width))

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        shape = (q.shape[-1],)
        return F.rms_norm(q, shape, self.query_gain, self.eps), F.rms_norm(k, shape, self.key_gain, self.eps)
