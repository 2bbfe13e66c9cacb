"""Indicators: pure measures of a training run, array in, number out, each with its facts beside it.

One source serves numpy, torch and jax. Undefined is NaN, never 0. Halves are summed in float32. Normalised entropy is
1 where attention is uniform and 0 where it is one-hot.
"""

from pitprop._errors import PitpropError, nearest
from pitprop.indicators._facts import Indicator
from pitprop.indicators.attention_entropy import INDICATOR as _ATTENTION_ENTROPY
from pitprop.indicators.attention_entropy import attention_entropy
from pitprop.indicators.attention_entropy_qk import INDICATOR as _ATTENTION_ENTROPY_QK
from pitprop.indicators.attention_entropy_qk import Estimate, attention_entropy_qk, attention_entropy_qk_estimate
from pitprop.indicators.attention_logit_scale import INDICATOR as _ATTENTION_LOGIT_SCALE
from pitprop.indicators.attention_logit_scale import attention_logit_scale
from pitprop.indicators.branch_ratio import INDICATOR as _BRANCH_RATIO
from pitprop.indicators.branch_ratio import branch_ratio
from pitprop.indicators.effective_rank import INDICATOR as _EFFECTIVE_RANK
from pitprop.indicators.effective_rank import effective_rank
from pitprop.indicators.gradient_norm import INDICATOR as _GRADIENT_NORM
from pitprop.indicators.gradient_norm import gradient_norm
from pitprop.indicators.gradient_share import INDICATOR as _GRADIENT_SHARE
from pitprop.indicators.gradient_share import gradient_share
from pitprop.indicators.output_spread import INDICATOR as _OUTPUT_SPREAD
from pitprop.indicators.output_spread import output_spread
from pitprop.indicators.output_uniqueness import INDICATOR as _OUTPUT_UNIQUENESS
from pitprop.indicators.output_uniqueness import output_uniqueness
from pitprop.indicators.saturated_share import INDICATOR as _SATURATED_SHARE
from pitprop.indicators.saturated_share import saturated_share
from pitprop.indicators.simplex_concentration import INDICATOR as _SIMPLEX_CONCENTRATION
from pitprop.indicators.simplex_concentration import simplex_concentration
from pitprop.indicators.stable_rank import INDICATOR as _STABLE_RANK
from pitprop.indicators.stable_rank import stable_rank
from pitprop.indicators.token_cosine import INDICATOR as _TOKEN_COSINE
from pitprop.indicators.token_cosine import token_cosine
from pitprop.indicators.total_variation import INDICATOR as _TOTAL_VARIATION
from pitprop.indicators.total_variation import total_variation
from pitprop.indicators.update_ratio import INDICATOR as _UPDATE_RATIO
from pitprop.indicators.update_ratio import update_ratio
from pitprop.indicators.wasserstein_distance import INDICATOR as _WASSERSTEIN_DISTANCE
from pitprop.indicators.wasserstein_distance import wasserstein_distance

INDICATORS: tuple[Indicator, ...] = (
    _ATTENTION_ENTROPY,
    _ATTENTION_ENTROPY_QK,
    _ATTENTION_LOGIT_SCALE,
    _BRANCH_RATIO,
    _EFFECTIVE_RANK,
    _GRADIENT_NORM,
    _GRADIENT_SHARE,
    _OUTPUT_SPREAD,
    _OUTPUT_UNIQUENESS,
    _SATURATED_SHARE,
    _SIMPLEX_CONCENTRATION,
    _STABLE_RANK,
    _TOKEN_COSINE,
    _TOTAL_VARIATION,
    _UPDATE_RATIO,
    _WASSERSTEIN_DISTANCE,
)
"""Every indicator, by name; a test compares it with the folder."""

__all__ = [
    "INDICATORS",
    "Estimate",
    "Indicator",
    "attention_entropy",
    "attention_entropy_qk",
    "attention_entropy_qk_estimate",
    "attention_logit_scale",
    "branch_ratio",
    "by_name",
    "effective_rank",
    "gradient_norm",
    "gradient_share",
    "output_spread",
    "output_uniqueness",
    "saturated_share",
    "simplex_concentration",
    "stable_rank",
    "token_cosine",
    "total_variation",
    "update_ratio",
    "wasserstein_distance",
]


def by_name(name: str) -> Indicator:
    """The indicator called `name`.

    Raises:
        PitpropError: There is none; the closest names are given.
    """
    found = {indicator.name: indicator for indicator in INDICATORS}
    if name not in found:
        raise PitpropError(
            f"there is no indicator `{name}`",
            means=nearest(name, found),
            do="`pitprop list indicators` names them all.",
        )
    return found[name]
