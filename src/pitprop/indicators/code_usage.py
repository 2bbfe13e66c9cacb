"""How much of a codebook a batch uses."""

from jaxtyping import Int

from pitprop._array import NAN, Array, accumulate, like, namespace
from pitprop.indicators._expect import expect_axes
from pitprop.indicators._facts import Indicator


def code_usage(codes: Int[Array, "*batch position"], *, num_codes: int) -> Array:
    """Distinct codes over the number that a balanced codebook would show in as many draws.

    n draws from K equally likely codes show K (1 - (1 - 1/K)^n) different ones on average (coupon collector): 1 is
    balanced at any n, and n ln n-sized samples are not needed. Codes of real data are not equally likely, so healthy
    codebooks lie below 1.

    Args:
        codes: Chosen codes, from 0 up; positions of all samples together.
        num_codes: Size of the codebook.

    Returns:
        "*batch" of pure numbers from 0 up; NaN without codes, or with one that is not in the codebook.

    Raises:
        PitpropError: `codes` is a scalar.

    Cost: num_codes comparisons per code. Source: coupon collector; perplexity and dead codes as in van den Oord et al.
    2017, arXiv 1711.00937.
    """
    expect_axes("code_usage", "position", codes=codes)
    x = accumulate(codes)
    xp = namespace(x)
    draws = x.shape[-1]
    if draws == 0:
        return xp.sum(x, axis=-1) + NAN
    known = xp.all((x >= 0) & (x < num_codes), axis=-1)  # False for a NaN
    used = xp.any(x[..., None] == like(range(num_codes), x), axis=-2)
    distinct = xp.sum(xp.astype(used, x.dtype), axis=-1)
    expected = num_codes * (1 - (1 - 1 / num_codes) ** draws)
    return xp.where(known, distinct / expected, NAN)


INDICATOR = Indicator(
    function=code_usage,
    unit="1",
    low=0.0,
    cost="C1",
    invariances=("permute-entries",),
    at_initialisation="0.83 for 512 codes drawn narrowly (uniform in 1/512) and 0.92 drawn like the data, "
    "on Gaussian data",
)
