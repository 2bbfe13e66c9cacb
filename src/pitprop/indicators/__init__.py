"""Indicators: pure measures of a training run, array in, number out, each with its facts beside it.

One source serves numpy, torch and jax. Undefined is NaN, never 0. Halves are summed in float32. Normalised entropy is
1 where attention is uniform and 0 where it is one-hot.
"""

from pitprop._errors import PitpropError, nearest
from pitprop.indicators._facts import Indicator
from pitprop.indicators.activation_peak import INDICATOR as _ACTIVATION_PEAK
from pitprop.indicators.activation_peak import activation_peak
from pitprop.indicators.adapter_ratio import INDICATOR as _ADAPTER_RATIO
from pitprop.indicators.adapter_ratio import adapter_ratio
from pitprop.indicators.attention_entropy import INDICATOR as _ATTENTION_ENTROPY
from pitprop.indicators.attention_entropy import attention_entropy
from pitprop.indicators.attention_entropy_qk import INDICATOR as _ATTENTION_ENTROPY_QK
from pitprop.indicators.attention_entropy_qk import Estimate, attention_entropy_qk, attention_entropy_qk_estimate
from pitprop.indicators.attention_logit_peak import INDICATOR as _ATTENTION_LOGIT_PEAK
from pitprop.indicators.attention_logit_peak import attention_logit_peak
from pitprop.indicators.attention_logit_scale import INDICATOR as _ATTENTION_LOGIT_SCALE
from pitprop.indicators.attention_logit_scale import attention_logit_scale
from pitprop.indicators.attention_sink import INDICATOR as _ATTENTION_SINK
from pitprop.indicators.attention_sink import attention_sink
from pitprop.indicators.branch_ratio import INDICATOR as _BRANCH_RATIO
from pitprop.indicators.branch_ratio import branch_ratio
from pitprop.indicators.certain_share import INDICATOR as _CERTAIN_SHARE
from pitprop.indicators.certain_share import certain_share
from pitprop.indicators.class_divergence import INDICATOR as _CLASS_DIVERGENCE
from pitprop.indicators.class_divergence import class_divergence
from pitprop.indicators.class_entropy_ratio import INDICATOR as _CLASS_ENTROPY_RATIO
from pitprop.indicators.class_entropy_ratio import class_entropy_ratio
from pitprop.indicators.class_loss_ratio import INDICATOR as _CLASS_LOSS_RATIO
from pitprop.indicators.class_loss_ratio import class_loss_ratio
from pitprop.indicators.code_usage import INDICATOR as _CODE_USAGE
from pitprop.indicators.code_usage import code_usage
from pitprop.indicators.dead_share import INDICATOR as _DEAD_SHARE
from pitprop.indicators.dead_share import dead_share
from pitprop.indicators.displacement_ratio import INDICATOR as _DISPLACEMENT_RATIO
from pitprop.indicators.displacement_ratio import displacement_ratio
from pitprop.indicators.effective_rank import INDICATOR as _EFFECTIVE_RANK
from pitprop.indicators.effective_rank import effective_rank
from pitprop.indicators.embedding_rank import INDICATOR as _EMBEDDING_RANK
from pitprop.indicators.embedding_rank import embedding_rank
from pitprop.indicators.embedding_spread import INDICATOR as _EMBEDDING_SPREAD
from pitprop.indicators.embedding_spread import embedding_spread
from pitprop.indicators.gradient_cosine import INDICATOR as _GRADIENT_COSINE
from pitprop.indicators.gradient_cosine import gradient_cosine
from pitprop.indicators.gradient_norm import INDICATOR as _GRADIENT_NORM
from pitprop.indicators.gradient_norm import gradient_norm
from pitprop.indicators.gradient_share import INDICATOR as _GRADIENT_SHARE
from pitprop.indicators.gradient_share import gradient_share
from pitprop.indicators.head_redundancy import INDICATOR as _HEAD_REDUNDANCY
from pitprop.indicators.head_redundancy import head_redundancy
from pitprop.indicators.latent_active_share import INDICATOR as _LATENT_ACTIVE_SHARE
from pitprop.indicators.latent_active_share import latent_active_share
from pitprop.indicators.latent_kl import INDICATOR as _LATENT_KL
from pitprop.indicators.latent_kl import latent_kl
from pitprop.indicators.load_chi_squared import INDICATOR as _LOAD_CHI_SQUARED
from pitprop.indicators.load_chi_squared import load_chi_squared
from pitprop.indicators.load_entropy import INDICATOR as _LOAD_ENTROPY
from pitprop.indicators.load_entropy import load_entropy
from pitprop.indicators.logit_rounding import INDICATOR as _LOGIT_ROUNDING
from pitprop.indicators.logit_rounding import logit_rounding
from pitprop.indicators.loss_weight_alignment import INDICATOR as _LOSS_WEIGHT_ALIGNMENT
from pitprop.indicators.loss_weight_alignment import loss_weight_alignment
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
from pitprop.indicators.teacher_entropy import INDICATOR as _TEACHER_ENTROPY
from pitprop.indicators.teacher_entropy import teacher_entropy
from pitprop.indicators.teacher_information import INDICATOR as _TEACHER_INFORMATION
from pitprop.indicators.teacher_information import teacher_information
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
    _ACTIVATION_PEAK,
    _ADAPTER_RATIO,
    _ATTENTION_ENTROPY,
    _ATTENTION_ENTROPY_QK,
    _ATTENTION_LOGIT_PEAK,
    _ATTENTION_LOGIT_SCALE,
    _ATTENTION_SINK,
    _BRANCH_RATIO,
    _CERTAIN_SHARE,
    _CLASS_DIVERGENCE,
    _CLASS_ENTROPY_RATIO,
    _CLASS_LOSS_RATIO,
    _CODE_USAGE,
    _DEAD_SHARE,
    _DISPLACEMENT_RATIO,
    _EFFECTIVE_RANK,
    _EMBEDDING_RANK,
    _EMBEDDING_SPREAD,
    _GRADIENT_COSINE,
    _GRADIENT_NORM,
    _GRADIENT_SHARE,
    _HEAD_REDUNDANCY,
    _LATENT_ACTIVE_SHARE,
    _LATENT_KL,
    _LOAD_CHI_SQUARED,
    _LOAD_ENTROPY,
    _LOGIT_ROUNDING,
    _LOSS_WEIGHT_ALIGNMENT,
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
    _TEACHER_ENTROPY,
    _TEACHER_INFORMATION,
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
    "activation_peak",
    "adapter_ratio",
    "attention_entropy",
    "attention_entropy_qk",
    "attention_entropy_qk_estimate",
    "attention_logit_peak",
    "attention_logit_scale",
    "attention_sink",
    "branch_ratio",
    "by_name",
    "certain_share",
    "class_divergence",
    "class_entropy_ratio",
    "class_loss_ratio",
    "code_usage",
    "dead_share",
    "displacement_ratio",
    "effective_rank",
    "embedding_rank",
    "embedding_spread",
    "gradient_cosine",
    "gradient_norm",
    "gradient_share",
    "head_redundancy",
    "latent_active_share",
    "latent_kl",
    "load_chi_squared",
    "load_entropy",
    "logit_rounding",
    "loss_weight_alignment",
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
    "teacher_entropy",
    "teacher_information",
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
