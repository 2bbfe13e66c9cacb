"""How much of a layer its low-rank adapter is."""

from jaxtyping import Float

from pitprop._array import NAN, Array, accumulate, divide, matmul, namespace, size
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def adapter_ratio(
    up: Float[Array, "*batch out rank"], down: Float[Array, "*batch rank in"], base_norm: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """|B A|_2 / |W|_2: the largest gain of the adapter over the largest gain of the layer that it adapts.

    Args:
        up: B, with the adapter's scaling multiplied in.
        down: A.
        base_norm: Spectral norm of W.

    Returns:
        Pure number from 0 up; over 1 some direction is the adapter's more than the layer's. NaN for a base of norm 0
        and for entries that are not finite.

    Raises:
        PitpropError: `up` or `down` has fewer than two axes.

    Cost: a QR and a set of singular values at the adapter's rank; B A is never formed. Source: LoRA is Hu et al. 2021,
    arXiv 2106.09685; the ratio is structural.
    """
    expect_axes("adapter_ratio", "row column", up=up, down=down)
    b, a, w = accumulate(up), accumulate(down), accumulate(base_norm)
    xp = namespace(b, a, w)
    if not size(b) or not size(a):
        return w + NAN
    peaks = [xp.max(xp.abs(x), axis=(-2, -1), keepdims=True) for x in (b, a)]
    usable = xp.isfinite(peaks[0]) & xp.isfinite(peaks[1])  # LAPACK would raise on anything else
    b, a = (xp.where(usable, x, 0.0) / xp.where(usable & (p > 0), p, 1.0) for x, p in zip((b, a), peaks, strict=True))
    _, r = xp.linalg.qr(b)
    gain = xp.linalg.svdvals(matmul(r, a))[..., 0] * peaks[0][..., 0, 0]
    return xp.where(usable[..., 0, 0], divide(gain, xp.abs(w)) * peaks[1][..., 0, 0], NAN)


INDICATOR = Indicator(
    function=adapter_ratio,
    unit="1",
    low=0.0,
    cost="C1",
    at_initialisation="exactly 0 for LoRA (B = 0)",
)
