"""Indicators: pure measures of a training run, array in, number out, each with its facts beside it.

One source serves numpy, torch and jax. Undefined is NaN, never 0. Halves are summed in float32. Normalised entropy is
1 where attention is uniform and 0 where it is one-hot.
"""

from pitprop._errors import PitpropError, nearest
from pitprop.indicators._facts import Indicator
from pitprop.indicators.adapter_ratio import INDICATOR as _ADAPTER_RATIO
from pitprop.indicators.adapter_ratio import adapter_ratio
from pitprop.indicators.attention_entropy import INDICATOR as _ATTENTION_ENTROPY
from pitprop.indicators.attention_entropy import attention_entropy
from pitprop.indicators.attention_entropy_qk import INDICATOR as _ATTENTION_ENTROPY_QK
from pitprop.indicators.attention_entropy_qk import Estimate, attention_entropy_qk, attention_entropy_qk_estimate
from pitprop.indicators.attention_logit_scale import INDICATOR as _ATTENTION_LOGIT_SCALE
from pitprop.indicators.attention_logit_scale import attention_logit_scale
from pitprop.indicators.branch_ratio import INDICATOR as _BRANCH_RATIO
from pitprop.indicators.branch_ratio import branch_ratio
from pitprop.indicators.dead_share import INDICATOR as _DEAD_SHARE
from pitprop.indicators.dead_share import dead_share
from pitprop.indicators.displacement_ratio import INDICATOR as _DISPLACEMENT_RATIO
from pitprop.indicators.displacement_ratio import displacement_ratio
from pitprop.indicators.effective_rank import INDICATOR as _EFFECTIVE_RANK
from pitprop.indicators.effective_rank import effective_rank
from pitprop.indicators.gradient_norm import INDICATOR as _GRADIENT_NORM
from pitprop.indicators.gradient_norm import gradient_norm
from pitprop.indicators.gradient_share import INDICATOR as _GRADIENT_SHARE
from pitprop.indicators.gradient_share import gradient_share
from pitprop.indicators.lost_update_share import INDICATOR as _LOST_UPDATE_SHARE
from pitprop.indicators.lost_update_share import lost_update_share
from pitprop.indicators.momentum_alignment import INDICATOR as _MOMENTUM_ALIGNMENT
from pitprop.indicators.momentum_alignment import momentum_alignment
from pitprop.indicators.output_spread import INDICATOR as _OUTPUT_SPREAD
from pitprop.indicators.output_spread import output_spread
from pitprop.indicators.output_uniqueness import INDICATOR as _OUTPUT_UNIQUENESS
from pitprop.indicators.output_uniqueness import output_uniqueness
from pitprop.indicators.rotation_ratio import INDICATOR as _ROTATION_RATIO
from pitprop.indicators.rotation_ratio import rotation_ratio
from pitprop.indicators.saturated_share import INDICATOR as _SATURATED_SHARE
from pitprop.indicators.saturated_share import saturated_share
from pitprop.indicators.second_moment_ratio import INDICATOR as _SECOND_MOMENT_RATIO
from pitprop.indicators.second_moment_ratio import second_moment_ratio
from pitprop.indicators.shrinkage import INDICATOR as _SHRINKAGE
from pitprop.indicators.shrinkage import shrinkage
from pitprop.indicators.simplex_concentration import INDICATOR as _SIMPLEX_CONCENTRATION
from pitprop.indicators.simplex_concentration import simplex_concentration
from pitprop.indicators.stable_rank import INDICATOR as _STABLE_RANK
from pitprop.indicators.stable_rank import stable_rank
from pitprop.indicators.starved_share import INDICATOR as _STARVED_SHARE
from pitprop.indicators.starved_share import starved_share
from pitprop.indicators.step_scale import INDICATOR as _STEP_SCALE
from pitprop.indicators.step_scale import step_scale
from pitprop.indicators.stream_growth import INDICATOR as _STREAM_GROWTH
from pitprop.indicators.stream_growth import stream_growth
from pitprop.indicators.token_cosine import INDICATOR as _TOKEN_COSINE
from pitprop.indicators.token_cosine import token_cosine
from pitprop.indicators.total_variation import INDICATOR as _TOTAL_VARIATION
from pitprop.indicators.total_variation import total_variation
from pitprop.indicators.update_ratio import INDICATOR as _UPDATE_RATIO
from pitprop.indicators.update_ratio import update_ratio
from pitprop.indicators.wasserstein_distance import INDICATOR as _WASSERSTEIN_DISTANCE
from pitprop.indicators.wasserstein_distance import wasserstein_distance
from pitprop.indicators.zero_gradient_share import INDICATOR as _ZERO_GRADIENT_SHARE
from pitprop.indicators.zero_gradient_share import zero_gradient_share

INDICATORS: tuple[Indicator, ...] = (
    _ADAPTER_RATIO,
    _ATTENTION_ENTROPY,
    _ATTENTION_ENTROPY_QK,
    _ATTENTION_LOGIT_SCALE,
    _BRANCH_RATIO,
    _DEAD_SHARE,
    _DISPLACEMENT_RATIO,
    _EFFECTIVE_RANK,
    _GRADIENT_NORM,
    _GRADIENT_SHARE,
    _LOST_UPDATE_SHARE,
    _MOMENTUM_ALIGNMENT,
    _OUTPUT_SPREAD,
    _OUTPUT_UNIQUENESS,
    _ROTATION_RATIO,
    _SATURATED_SHARE,
    _SECOND_MOMENT_RATIO,
    _SHRINKAGE,
    _SIMPLEX_CONCENTRATION,
    _STABLE_RANK,
    _STARVED_SHARE,
    _STEP_SCALE,
    _STREAM_GROWTH,
    _TOKEN_COSINE,
    _TOTAL_VARIATION,
    _UPDATE_RATIO,
    _WASSERSTEIN_DISTANCE,
    _ZERO_GRADIENT_SHARE,
)
"""Every indicator, by name; a test compares it with the folder."""

__all__ = [
    "INDICATORS",
    "Estimate",
    "Indicator",
    "adapter_ratio",
    "attention_entropy",
    "attention_entropy_qk",
    "attention_entropy_qk_estimate",
    "attention_logit_scale",
    "branch_ratio",
    "by_name",
    "dead_share",
    "displacement_ratio",
    "effective_rank",
    "gradient_norm",
    "gradient_share",
    "lost_update_share",
    "momentum_alignment",
    "output_spread",
    "output_uniqueness",
    "rotation_ratio",
    "saturated_share",
    "second_moment_ratio",
    "shrinkage",
    "simplex_concentration",
    "stable_rank",
    "starved_share",
    "step_scale",
    "stream_growth",
    "token_cosine",
    "total_variation",
    "update_ratio",
    "wasserstein_distance",
    "zero_gradient_share",
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
