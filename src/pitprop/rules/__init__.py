"""One failure mode per file, as a pure fold over rows; the file is its own page.

One more rule is one new file, one line in `RULES`, and its traces in `tests/rules/rule_traces.py`.
"""

import inspect
import sys
from collections.abc import Iterable

from pitprop._errors import PitpropError, nearest
from pitprop.records import Finding, Row
from pitprop.rules._allow import INTERNAL
from pitprop.rules._detector import Detector
from pitprop.rules._enough import Replay, measured_steps, num_steps, replay, too_few
from pitprop.rules._group import GRAVITY, Group, Groups, group
from pitprop.rules._rule import Rule
from pitprop.rules.adapter_asleep import AdapterAsleep
from pitprop.rules.adapter_runaway import AdapterRunaway
from pitprop.rules.attention_concentration import AttentionConcentration
from pitprop.rules.attention_head_redundancy import AttentionHeadRedundancy
from pitprop.rules.attention_logit_growth import AttentionLogitGrowth
from pitprop.rules.attention_sink import AttentionSink
from pitprop.rules.attention_uniformity import AttentionUniformity
from pitprop.rules.branch_domination import BranchDomination
from pitprop.rules.branch_laziness import BranchLaziness
from pitprop.rules.class_collapse import ClassCollapse
from pitprop.rules.codebook_collapse import CodebookCollapse
from pitprop.rules.condition_ignored import ConditionIgnored
from pitprop.rules.dead_gradient import DeadGradient
from pitprop.rules.dimensional_collapse import DimensionalCollapse
from pitprop.rules.dormant_units import DormantUnits
from pitprop.rules.ema_drift import EmaDrift
from pitprop.rules.embedding_collapse import EmbeddingCollapse
from pitprop.rules.epsilon_starvation import EpsilonStarvation
from pitprop.rules.gradient_conflict import GradientConflict
from pitprop.rules.gradient_explosion import GradientExplosion
from pitprop.rules.gradient_vanishing_at_site import GradientVanishingAtSite
from pitprop.rules.learning_rate_too_high import LearningRateTooHigh
from pitprop.rules.loss_plateau_at_floor import LossPlateauAtFloor
from pitprop.rules.loss_spike import LossSpike
from pitprop.rules.loss_weight_collapse import LossWeightCollapse
from pitprop.rules.non_finite import NonFinite
from pitprop.rules.output_duplication import OutputDuplication
from pitprop.rules.plasticity_loss import PlasticityLoss
from pitprop.rules.posterior_collapse import PosteriorCollapse
from pitprop.rules.residual_growth import ResidualGrowth
from pitprop.rules.router_collapse import RouterCollapse
from pitprop.rules.saturated_units import SaturatedUnits
from pitprop.rules.softmax_saturation import SoftmaxSaturation
from pitprop.rules.stage_switch_shock import StageSwitchShock
from pitprop.rules.stale_second_moment import StaleSecondMoment
from pitprop.rules.teacher_collapse import TeacherCollapse
from pitprop.rules.token_uniformity import TokenUniformity
from pitprop.rules.update_underflow import UpdateUnderflow
from pitprop.rules.warm_up_missing import WarmUpMissing
from pitprop.rules.weight_decay_collapse import WeightDecayCollapse
from pitprop.rules.weight_growth import WeightGrowth

__all__ = [
    "GRAVITY",
    "INTERNAL",
    "RULES",
    "Detector",
    "Group",
    "Groups",
    "Replay",
    "Rule",
    "by_name",
    "detect",
    "group",
    "measured_steps",
    "num_steps",
    "page",
    "replay",
    "too_few",
]

RULES: tuple[Rule, ...] = (
    NonFinite(),
    OutputDuplication(),
    LossPlateauAtFloor(),
    ClassCollapse(),
    EmbeddingCollapse(),
    TeacherCollapse(),
    PosteriorCollapse(),
    ConditionIgnored(),
    LossWeightCollapse(),
    LossSpike(),
    AdapterAsleep(),
    LearningRateTooHigh(),
    WarmUpMissing(),
    StageSwitchShock(),
    EmaDrift(),
    TokenUniformity(),
    SaturatedUnits(),
    DormantUnits(),
    DeadGradient(),
    GradientVanishingAtSite(),
    GradientExplosion(),
    BranchDomination(),
    DimensionalCollapse(),
    CodebookCollapse(),
    RouterCollapse(),
    BranchLaziness(),
    PlasticityLoss(),
    SoftmaxSaturation(),
    GradientConflict(),
    ResidualGrowth(),
    AdapterRunaway(),
    WeightDecayCollapse(),
    UpdateUnderflow(),
    EpsilonStarvation(),
    StaleSecondMoment(),
    WeightGrowth(),
    AttentionUniformity(),
    AttentionConcentration(),
    AttentionLogitGrowth(),
    AttentionSink(),
    AttentionHeadRedundancy(),
)
"""Every rule with its default thresholds; consequences first, cofactors last."""


def by_name(name: str) -> Rule:
    """The rule called `name`.

    Raises:
        PitpropError: There is none; the error names the nearest.
    """
    known = {rule.name: rule for rule in RULES}
    if name not in known:
        raise PitpropError(f"there is no rule `{name}`", do=nearest(name, known), read="pitprop list rules")
    return known[name]


def page(rule: Rule) -> str:
    """The page of `rule`: the docstring of the module that defines it, in Markdown."""
    return inspect.getdoc(sys.modules[type(rule).__module__]) or ""


def detect(rows: Iterable[Row], rules: Iterable[Rule] = RULES, allow: Iterable[str] = ()) -> list[Finding]:
    """Findings of `rules` in `rows`, in the order in which they would have come live.

    Args:
        rows: Rows in step order, of any sites.
        rules: Rules to apply.
        allow: What not to report: `"rule"`, or `"rule@site"` for one site only.

    Raises:
        PitpropError: `allow` names no rule.
    """
    detector = Detector(rules, allow)
    return [finding for row in rows for finding in detector.update(row)]
