"""Synthetic traces that the behaviour suite runs every rule on: healthy ones by indicator, faulty ones by rule.

One more rule adds its fault to `FAULTS`; an indicator that no rule has read before adds its healthy law to `HEALTHY`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pitprop.records import Row

Series = dict[str, np.ndarray]

HEALTHY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "loss": lambda z: np.exp(np.log(0.7) + 0.1 * z),
    "loss_floor": lambda z: np.full_like(z, 2.303),
    "gradient_norm": lambda z: np.exp(0.3 * z),
    "gradient_share": lambda z: np.clip(0.05 * np.exp(0.3 * z), 0, 1),
    "attention_entropy": lambda z: np.clip(0.95 + 0.01 * z, 0, 0.998),
    "attention_logit_scale": lambda z: 0.3 * np.exp(0.1 * z),
    "token_cosine": lambda z: np.clip(0.4 + 0.05 * z, -0.9, 0.98),
    "effective_rank": lambda z: np.maximum(20 + z, 1),
    "saturated_share": lambda z: np.clip(0.05 + 0.02 * z, 0, 1),
    "branch_ratio": lambda z: 0.5 * np.exp(0.2 * z),
    "output_uniqueness": lambda z: np.clip(0.96 + 0.01 * z, 0, 1),
    "output_spread": lambda z: 0.8 * np.exp(0.1 * z),
    "attention_sink": lambda z: np.clip(0.1 + 0.03 * z, -1, 1),
    "activation_peak": lambda z: 8 * np.exp(0.2 * z),
    "attention_logit_peak": lambda z: 0.3 * np.exp(0.1 * z),
    "head_redundancy": lambda z: np.clip(0.1 + 0.05 * z, -1, 1),
    "certain_share": lambda z: np.clip(0.05 + 0.02 * z, 0, 1),
    "logit_rounding": lambda z: 0.03 * np.exp(0.1 * z),
    "class_loss_ratio": lambda z: 0.5 * np.exp(0.1 * z),
    "class_entropy_ratio": lambda z: np.clip(0.95 + 0.02 * z, 0, None),
    "class_divergence": lambda z: 0.02 * np.exp(0.3 * z),
    "condition_gap": lambda z: 0.2 * np.exp(0.3 * z),
    "ablation_gap": lambda z: 0.05 * np.exp(0.3 * z),
    "gradient_cosine": lambda z: np.clip(0.5 + 0.08 * z, -1, 1),
    "embedding_spread": lambda z: np.clip(0.7 + 0.04 * z, 0, 1),
    "embedding_rank": lambda z: 0.5 * np.exp(0.1 * z),
    "latent_kl": lambda z: 12 * np.exp(0.2 * z),
    "latent_active_share": lambda z: np.clip(0.8 + 0.03 * z, 0, 1),
    "code_usage": lambda z: 0.5 * np.exp(0.1 * z),
    "teacher_information": lambda z: np.clip(0.3 * np.exp(0.1 * z), 0, 1),
    "teacher_entropy": lambda z: np.clip(0.3 + 0.03 * z, 0, 1),
    "load_entropy": lambda z: np.clip(0.9 + 0.02 * z, 0, 1),
    "load_chi_squared": lambda z: 5 * np.exp(0.3 * z),
    "steps_to_fit": lambda z: 40 * np.exp(0.1 * z),
    # Weights that wander around an interior optimum: what is aligned is their change, the difference of the wander.
    "loss_weight_alignment": lambda z: np.clip(2 * np.diff(z, prepend=0.0), -1, 1),
    "loss_weight_concentration": lambda z: np.clip(0.1 + 0.02 * z, 0, 1),
    "loss_weight_odds": lambda z: -1.4 + 0.05 * z,
    "loss_weight_vertex": np.zeros_like,
    "loss_weight_motion": lambda z: 0.02 * np.exp(0.3 * z),
    "whole_gradient_norm": lambda z: np.exp(0.3 * z),
    "num_trained": lambda z: np.full_like(z, 12.0),
    "zero_gradient_share": np.zeros_like,
    "momentum_alignment": lambda z: np.tanh(0.1 + 0.03 * z),
    "second_moment_ratio": lambda z: np.exp(0.08 * z),
    "starved_share": lambda z: np.clip(0.05 + 0.02 * z, 0, 1),
    "step_scale": lambda z: 0.4 * np.exp(0.1 * z),
    "shrinkage": lambda z: np.clip(0.2 + 0.05 * z, -1, 0.9),
    "rotation_ratio": lambda z: np.exp(0.2 * z),
    "weight_rms": lambda z: 0.05 * np.exp(0.05 * z),
    "lost_update_share": lambda z: np.clip(0.05 + 0.02 * z, 0, 1),
    "loss_scale": lambda z: np.full_like(z, 65536.0),
    "adapter_ratio": lambda z: 0.05 * np.exp(0.1 * z),
    "displacement_ratio": lambda z: 2.0 * np.exp(0.1 * z),
    "stream_growth": lambda z: 0.8 * np.exp(0.1 * z),
    "dead_share": lambda z: np.clip(0.05 + 0.02 * z, 0, 1),
    "ema_loss": lambda z: 0.35 * np.exp(0.1 * z),
    "trained_loss": lambda z: 0.7 * np.exp(0.1 * z),
    "ema_drift": lambda z: 0.01 * np.exp(0.1 * z),
    "ema_decay": lambda z: np.full_like(z, 0.95),
}
"""Indicator -> what a healthy model gives for a standard normal wander z."""

UNITS = (
    *("loss", "loss_floor", "gradient_norm", "steps_to_fit"),
    *("whole_gradient_norm", "ema_loss", "trained_loss", "weight_rms"),
)
"""Indicators with a unit that the user's loss or weights set; the others are pure numbers."""


def ar(num_rows: int, phi: float, rng: np.random.Generator) -> np.ndarray:
    """AR(1) with unit variance from the first row on."""
    noise = rng.standard_normal(num_rows) * np.sqrt(1 - phi * phi)
    z = np.empty(num_rows)
    z[0] = rng.standard_normal()
    for t in range(1, num_rows):
        z[t] = phi * z[t - 1] + noise[t]
    return z


def healthy(reads, num_rows: int, phi: float, seed: int, shape: str = "steady") -> Series:
    """A healthy run, all of whose indicators wander on their own.

    Shapes: `steady`; `trend` (three deviations over the run); `drop` (learning-rate drop, three deviations down at
    half-time); `warm-up` (five deviations that decay within 20 rows); `spike` (ten deviations for 10 rows, recovering).
    """
    rng = np.random.default_rng(seed)
    t = np.arange(num_rows)
    half = num_rows // 2
    mean = {
        "steady": np.zeros(num_rows),
        "trend": 3.0 * t / num_rows,
        "drop": np.where(t < half, 0.0, -3.0),
        "warm-up": 5.0 * np.exp(-t / 5),
        "spike": np.where((t >= half) & (t < half + 10), 10.0 * np.exp(-(t - half) / 4), 0.0),
    }[shape]
    return {name: HEALTHY[name](mean + ar(num_rows, phi, rng)) for name in reads}


SHAPES = ("steady", "trend", "drop", "warm-up", "spike")


@dataclass(frozen=True)
class Fault:
    """What goes wrong in a healthy run, from which row on, and by when it must be seen."""

    of: str
    """Rule that must see it."""
    name: str
    change: Callable[[Series, np.ndarray], None]
    """Edits the rows of the mask in place."""
    start: int = 150
    within: int = 60
    """Rows after the start within which it must be seen."""
    onset_error: int = 10
    """Rows by which the reported onset may miss the true one."""


def _set(name: str, value: float) -> Callable[[Series, np.ndarray], None]:
    return lambda series, rows: series[name].__setitem__(rows, value)


def _times(name: str, factor: float) -> Callable[[Series, np.ndarray], None]:
    return lambda series, rows: series[name].__setitem__(rows, series[name][rows] * factor)


def _coin(name: str) -> Callable[[Series, np.ndarray], None]:
    """Every other batch is better without: no effect at all."""
    return lambda series, rows: series[name].__setitem__(rows, np.where(rows % 2, 0.1, -0.1))


def _keep(*names: str) -> Callable[[Series, np.ndarray], None]:
    def change(series: Series, rows: np.ndarray) -> None:
        for name in set(series) - set(names):
            del series[name]

    return change


def _all(*changes: Callable[[Series, np.ndarray], None]) -> Callable[[Series, np.ndarray], None]:
    def change(series: Series, rows: np.ndarray) -> None:
        for one in changes:
            one(series, rows)

    return change


def _late(name: str, factor: float, after: int) -> Callable[[Series, np.ndarray], None]:
    """`_times` that begins `after` rows later."""
    return lambda series, rows: series[name].__setitem__(rows[after:], series[name][rows[after:]] * factor)


def _decay(name: str, to: float, over: int) -> Callable[[Series, np.ndarray], None]:
    """Geometric fall by the factor `to` over `over` rows, then staying there."""

    def change(series: Series, rows: np.ndarray) -> None:
        progress = np.minimum(np.arange(len(rows)) / over, 1.0)
        series[name][rows] *= to**progress

    return change


def _approach(name: str, to: float, rate: float) -> Callable[[Series, np.ndarray], None]:
    """Geometric approach to the value `to`."""

    def change(series: Series, rows: np.ndarray) -> None:
        begin = series[name][rows[0]]
        series[name][rows] = to + (begin - to) * rate ** np.arange(len(rows))

    return change


def _thrown(series: Series, rows: np.ndarray) -> None:
    """The first steps go wrong."""
    series["loss"][rows[3:]] *= 5
    series["whole_gradient_norm"][rows[3:10]] *= 100


def _thrown_and_slow(series: Series, rows: np.ndarray) -> None:
    """The second step throws the loss to ten times; it comes back to just over where it began, and no further."""
    t = np.arange(len(rows) - 1)
    series["loss"][rows[1:]] *= 1.5 + 9 * np.exp(-t / 20)


FAULTS = (
    Fault("non-finite", "loss", _set("loss", np.nan), within=0, onset_error=0),
    Fault("non-finite", "infinite-loss", _set("loss", np.inf), within=0, onset_error=0),
    Fault("non-finite", "gradient", _all(_keep("gradient_norm"), _set("gradient_norm", np.inf)), within=16),
    Fault("output-duplication", "same-rows", _all(_set("output_uniqueness", 0.02), _set("output_spread", 0.03))),
    Fault("output-duplication", "shrinking", _decay("output_spread", 1e-4, 20)),
    Fault("output-duplication", "from-start", _all(_times("output_spread", 1e-3)), start=0, within=240),
    Fault("output-duplication", "no-targets", _all(_keep("output_uniqueness"), _set("output_uniqueness", 0.02))),
    Fault("loss-plateau-at-floor", "from-start", _set("loss", 2.31), start=0, within=240, onset_error=20),
    Fault("loss-plateau-at-floor", "unlearned", _set("loss", 2.31), within=80, onset_error=15),
    Fault("loss-spike", "jump", _times("loss", 5.0)),
    Fault("loss-spike", "diverges-at-once", _times("loss", 1e3), start=2),
    Fault("loss-spike", "climb", _decay("loss", 20.0, 30), within=100),
    Fault("token-uniformity", "from-start", _set("token_cosine", 0.99999), start=0),
    Fault("token-uniformity", "later", _set("token_cosine", 0.9999)),
    Fault("token-uniformity", "slowly", _approach("token_cosine", 1.0, 0.9), within=90),
    Fault("saturated-units", "from-start", _set("saturated_share", 0.92), start=0),
    Fault("saturated-units", "later", _set("saturated_share", 0.92)),
    Fault("dead-gradient", "from-start", _set("zero_gradient_share", 1.0), start=0),
    Fault("dead-gradient", "later", _set("zero_gradient_share", 0.3)),
    Fault("dormant-units", "from-start", _set("dead_share", 0.9), start=0),
    Fault("dormant-units", "later", _set("dead_share", 0.9)),
    Fault("epsilon-starvation", "from-start", _set("starved_share", 1.0), start=0),
    Fault("epsilon-starvation", "later", _set("starved_share", 0.9)),
    Fault("stale-second-moment", "jump", _all(_times("second_moment_ratio", 5.0), _times("gradient_norm", 20.0))),
    Fault("learning-rate-too-high", "never-lower", _late("loss", 6.0, 3), start=0, within=80, onset_error=20),
    Fault("learning-rate-too-high", "thrown", _thrown_and_slow, start=0, within=80, onset_error=20),
    Fault("learning-rate-too-high", "opposed", _set("momentum_alignment", -0.95), within=120),
    Fault("warm-up-missing", "thrown", _thrown, start=0),
    Fault("stage-switch-shock", "on", _all(_set("num_trained", 16.0), _times("loss", 4.0)), onset_error=1),
    Fault("ema-drift", "behind", _times("ema_loss", 8.0), within=80),
    Fault("weight-decay-collapse", "later", _set("shrinkage", 1.0)),
    Fault("weight-decay-collapse", "from-start", _set("shrinkage", 0.9999), start=0),
    Fault("update-underflow", "later", _set("lost_update_share", 0.95)),
    Fault("update-underflow", "scale", _all(_keep("loss_scale"), _set("loss_scale", 2.0**-9))),
    Fault("adapter-asleep", "nothing", _all(_set("adapter_ratio", 0.0), _set("displacement_ratio", 0.0)), start=0),
    Fault("adapter-asleep", "hardly-moves", _times("displacement_ratio", 0.01), start=0),
    Fault("adapter-runaway", "jump", _times("adapter_ratio", 100.0)),
    Fault("adapter-runaway", "slowly", _decay("adapter_ratio", 100.0, 50), within=90, onset_error=50),
    Fault("residual-growth", "from-start", _times("stream_growth", 50.0), start=0),
    Fault("residual-growth", "later", _times("stream_growth", 30.0)),
    Fault("weight-growth", "climb", _decay("weight_rms", 100.0, 60), within=100, onset_error=30),
    Fault("gradient-vanishing-at-site", "fading", _decay("gradient_share", 1e-14, 100), within=100, onset_error=25),
    Fault("gradient-explosion", "jump", _times("gradient_norm", 1e4)),
    Fault("gradient-explosion", "own-norm-only", _all(_keep("gradient_norm"), _times("gradient_norm", 1e3))),
    Fault("branch-domination", "jump", _times("branch_ratio", 100.0)),
    Fault("branch-domination", "from-start", _times("branch_ratio", 100.0), start=0),
    Fault("attention-uniformity", "from-start", _set("attention_entropy", 1.0), start=0),
    Fault("attention-uniformity", "later", _set("attention_entropy", 1.0)),
    Fault("attention-concentration", "logits", _times("attention_logit_scale", 100.0)),
    Fault("attention-concentration", "entropy", _all(_keep("attention_entropy"), _times("attention_entropy", 0.05))),
    Fault("attention-sink", "sink", _set("attention_sink", 0.8)),
    Fault("attention-sink", "massive", _all(_keep("activation_peak"), _set("activation_peak", 5e3)), start=0),
    Fault("attention-logit-growth", "grows", _decay("attention_logit_peak", 1e3, 60), within=120, onset_error=60),
    Fault("attention-logit-growth", "after-learning-to-attend", _all(_times("attention_logit_peak", 5.0),
          _late("attention_logit_peak", 10.0, 50)), within=90, onset_error=60),
    Fault("attention-head-redundancy", "copies", _set("head_redundancy", 0.98)),
    Fault("softmax-saturation", "certain", _set("certain_share", 0.9)),
    Fault("softmax-saturation", "certain-from-start", _set("certain_share", 0.9), start=0),
    Fault("softmax-saturation", "drift", _decay("logit_rounding", 100.0, 40), within=80, onset_error=40),
    Fault("class-collapse", "from-start", _all(_set("class_loss_ratio", 1.01), _set("class_entropy_ratio", 0.0)),
          start=0, within=240, onset_error=20),
    Fault("class-collapse", "later", _all(_set("class_loss_ratio", 1.3), _set("class_entropy_ratio", 0.1)),
          within=110),
    Fault("embedding-collapse", "constant", _decay("embedding_spread", 1e-4, 20), onset_error=15),
    Fault("embedding-collapse", "nearly", _decay("embedding_spread", 0.04, 20), onset_error=15),
    Fault("embedding-collapse", "from-start", _set("embedding_spread", 1e-3), start=0, within=120),
    Fault("dimensional-collapse", "later", _times("embedding_rank", 0.02)),
    Fault("dimensional-collapse", "from-start", _set("embedding_rank", 0.03), start=0, within=120),
    Fault("teacher-collapse", "one-prototype", _all(_set("teacher_information", 0.0), _set("teacher_entropy", 0.01))),
    Fault("teacher-collapse", "uniform", _all(_set("teacher_information", 1e-4), _set("teacher_entropy", 1.0)), start=0,
          within=120),
    Fault("posterior-collapse", "kl", _set("latent_kl", 0.05)),
    Fault("posterior-collapse", "kl-from-start", _set("latent_kl", 0.05), start=0, within=120),
    Fault("posterior-collapse", "no-active", _all(_keep("latent_active_share"), _set("latent_active_share", 0.0))),
    Fault("posterior-collapse", "half-active", _times("latent_active_share", 0.3)),
    Fault("codebook-collapse", "later", _set("code_usage", 0.03)),
    Fault("codebook-collapse", "from-start", _set("code_usage", 0.03), start=0, within=120),
    Fault("router-collapse", "one-expert", _all(_set("load_entropy", 0.05), _set("load_chi_squared", 400.0))),
    Fault("condition-ignored", "coin", _coin("condition_gap"), within=120),
    Fault("condition-ignored", "coin-from-start", _coin("condition_gap"), start=0, within=220),
    Fault("condition-ignored", "exactly-nothing", _set("condition_gap", 0.0)),
    Fault("branch-laziness", "coin", _coin("ablation_gap"), within=120),
    Fault("branch-laziness", "from-start", _set("ablation_gap", -1e-3), start=0, within=120),
    Fault("gradient-conflict", "opposed", _set("gradient_cosine", -0.4)),
    Fault("plasticity-loss", "slow", _times("steps_to_fit", 3.0), within=10),
    Fault("plasticity-loss", "never", _set("steps_to_fit", np.inf), within=5),
    Fault("loss-weight-collapse", "direction", _all(_set("loss_weight_alignment", 0.8),
          _approach("loss_weight_odds", 3.0, 0.98)), onset_error=25),
    Fault("loss-weight-collapse", "vertex", _all(_keep("loss_weight_concentration", "loss_weight_motion"),
          _set("loss_weight_concentration", 0.99), _set("loss_weight_motion", 0.8))),
    Fault("loss-weight-collapse", "untrained", _all(_keep("loss_weight_motion"), _set("loss_weight_motion", 0.0)),
          start=0, within=100),
)  # fmt: skip


def faulty(fault: Fault, reads, num_rows: int, seed: int, phi: float = 0.9) -> Series:
    """A run that is healthy up to `fault.start`."""
    series = healthy(reads, num_rows, phi, seed)
    fault.change(series, np.arange(fault.start, num_rows))
    return series


def rows(series: Series, site: str = "site", every: int = 1) -> list[Row]:
    """`series` as a trace; row number t is step t * every."""
    num_rows = len(next(iter(series.values())))
    return [
        Row(step=t * every, site=site, values={name: float(values[t]) for name, values in series.items()})
        for t in range(num_rows)
    ]
