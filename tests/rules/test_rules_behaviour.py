"""What every rule must do, run over the registry; no rule is an exception by name."""

import json
import math
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from rule_traces import FAULTS, HEALTHY, SHAPES, UNITS, faulty, healthy, rows

from pitprop.records import Row
from pitprop.rules import GRAVITY, RULES, Detector, by_name, detect

ROWS = 400
by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
by_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.of}:{fault.name}")


def structure(state):
    """The shape of a state: nested types and lengths, without the numbers."""
    if isinstance(state, tuple):
        return type(state), tuple(structure(part) for part in state)
    assert type(state) in (int, float), f"{type(state)} in a state"
    return None


def rebuilt(template, data):
    """A state from its JSON, by the shape of a fresh one."""
    if not isinstance(template, tuple):
        return type(template)(data)
    parts = [rebuilt(one, other) for one, other in zip(template, data, strict=True)]
    return type(template)(*parts) if hasattr(template, "_fields") else tuple(parts)


def fold(rule, trace, state=None):
    """State and first finding of `rule` over `trace`, without the engine."""
    state, found = rule.init() if state is None else state, None
    for row in trace:
        state, finding = rule.update(state, row)
        found = found or finding
    return state, found


def test_every_rule_has_a_fault_and_a_healthy_law():
    assert {fault.of for fault in FAULTS} == {rule.name for rule in RULES}
    assert {name for rule in RULES for name in rule.reads} <= set(HEALTHY)


@by_fault
def test_fault_is_found_in_time_with_its_onset(fault):
    rule = by_name(fault.of)
    for seed in range(5):
        trace = rows(faulty(fault, rule.reads, ROWS, seed), every=3)
        findings = detect(trace, (rule,))
        assert findings, f"seed {seed}"
        assert all(GRAVITY.index(b.severity) < GRAVITY.index(a.severity) for a, b in pairwise(findings)), findings
        finding = findings[0]
        assert finding.rule == rule.name
        assert abs(finding.onset - 3 * fault.start) <= 3 * fault.onset_error, finding
        assert 0 <= finding.detected - 3 * fault.start <= 3 * fault.within, finding
        assert finding.onset <= finding.detected
        assert finding.evidence and finding.remedies == rule.remedies
        assert "site" in finding.message and finding.message.endswith(".")


def test_no_finding_is_graver_than_its_rule_declares():
    for fault in FAULTS:
        rule = by_name(fault.of)
        for finding in detect(rows(faulty(fault, rule.reads, ROWS, 0)), (rule,)):
            assert GRAVITY.index(finding.severity) >= GRAVITY.index(rule.severity)


@by_rule
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("phi", [0.0, 0.9, 0.98])
def test_healthy_is_silent(rule, shape, phi):
    for seed in range(3):
        assert detect(rows(healthy(rule.reads, ROWS, phi, seed, shape)), (rule,)) == []


@by_fault
def test_deterministic_and_live_is_replay_is_resumed(fault):
    rule = by_name(fault.of)
    trace = rows(faulty(fault, rule.reads, ROWS, 1))
    replay = detect(trace, (rule,))
    assert replay == detect(trace, (rule,))
    for cut in (1, 10, 155, 170):
        live = Detector((rule,))
        early = [finding for row in trace[:cut] for finding in live.update(row)]
        resumed = pickle.loads(pickle.dumps(live))
        late = [finding for row in trace[cut:] for finding in resumed.update(row)]
        assert early + late == replay


@by_fault
def test_state_survives_json_in_the_middle_of_a_run(fault):
    rule = by_name(fault.of)
    trace = rows(faulty(fault, rule.reads, ROWS, 2))
    whole_state, whole = fold(rule, trace)
    for cut in (5, 40, 160):
        state, early = fold(rule, trace[:cut])
        state = rebuilt(rule.init(), json.loads(json.dumps(state)))
        state, late = fold(rule, trace[cut:], state)
        assert repr(state) == repr(whole_state)  # repr, because NaN is not equal to itself
        assert (early or late) == whole


@by_fault
def test_state_keeps_its_shape(fault):
    rule = by_name(fault.of)
    state = rule.init()
    shape = structure(state)
    for row in rows(faulty(fault, rule.reads, ROWS, 3)):
        state, _ = rule.update(state, row)
        assert structure(state) == shape


@by_rule
def test_undefined_numbers_are_no_evidence(rule):
    nothing = [Row(step=t, site="site", values=dict.fromkeys(rule.reads, math.nan)) for t in range(100)]
    findings = detect(nothing, (rule,))
    assert bool(findings) == rule.alarms_on_nan
    if not rule.alarms_on_nan:
        assert repr(fold(rule, nothing)[0]) == repr(rule.init())


@by_fault
def test_holes_do_not_hide_a_fault(fault):
    """Every third row undefined: `max(0, nan)` would clear a careless detector each time."""
    rule = by_name(fault.of)
    if rule.alarms_on_nan:
        pytest.skip("for this rule an undefined number is the fault")
    trace = rows(faulty(fault, rule.reads, ROWS, 4))
    holed = [
        replace(row, values=dict.fromkeys(row.values, math.nan)) if t % 3 == 2 else row for t, row in enumerate(trace)
    ]
    assert [(f.rule, f.severity) for f in detect(holed, (rule,))] == [
        (f.rule, f.severity) for f in detect(trace, (rule,))
    ]


@by_rule
@pytest.mark.parametrize("value", [math.inf, -math.inf, 0.0, -1.0, 1e-45, 3e38])
def test_no_number_makes_a_rule_raise(rule, value):
    series = healthy(rule.reads, 60, 0.9, 0)
    trace = rows(series) + [Row(step=60 + t, site="site", values=dict.fromkeys(rule.reads, value)) for t in range(60)]
    assert not [f for f in detect(trace + rows(series), (rule,)) if f.rule != rule.name]
    only_odd = [Row(step=t, site="site", values=dict.fromkeys(rule.reads, value)) for t in range(60)]
    assert not [f for f in detect(only_odd + rows(series), (rule,)) if f.rule != rule.name]


@by_fault
def test_short_traces_and_single_indicators(fault):
    rule = by_name(fault.of)
    trace = rows(faulty(replace(fault, start=0), rule.reads, 10, 0))
    if not rule.alarms_on_nan:
        assert detect(trace, (rule,)) == []
    for name in rule.reads:
        alone = [
            Row(step=t, site="site", values={name: float(v)}) for t, v in enumerate(healthy([name], 80, 0.9, 0)[name])
        ]
        assert detect(alone, (rule,)) == []


@by_fault
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_unit_has_no_effect(fault, factor):
    rule = by_name(fault.of)
    if not rule.scale_free:
        pytest.skip("declares that it is not scale-free")
    series = faulty(fault, rule.reads, ROWS, 5)
    scaled = {name: values * factor if name in UNITS else values for name, values in series.items()}
    ours, theirs = detect(rows(series), (rule,)), detect(rows(scaled), (rule,))
    assert [(f.onset, f.detected, f.severity) for f in ours] == [(f.onset, f.detected, f.severity) for f in theirs]


@pytest.mark.slow
@by_rule
def test_false_alarms_are_as_rare_as_the_pages_say(rule, capsys):
    """200 healthy AR(1) runs of 3000 rows per rule. The e-detector alone would allow 3000 / 10 000 = 30 % at most."""
    alarms = 0
    for seed in range(200):
        phi = (0.0, 0.9, 0.98)[seed % 3]
        reads = rule.reads if seed % 2 else (rule.reads[seed // 2 % len(rule.reads)],)  # together, and one by one
        alarms += bool(detect(rows(healthy(reads, 3000, phi, 1000 + seed)), (rule,)))
    with capsys.disabled():
        print(f"\n{rule.name}: {alarms} false alarms in 200 healthy runs of 3000 rows")
    assert alarms == 0


def test_whitelist_of_the_frightening_but_fine():
    """What science.md calls healthy although it looks ill gives no warning and no failure."""
    t = np.arange(200)
    waking = np.where(t < 2, 0.0, np.minimum(1e-3 * t, 0.3))
    fine = {
        "zero-initialised output that wakes up": {
            "output_spread": np.minimum(1e-3 * t, 0.8),
            "output_uniqueness": np.where(t < 3, 1 / 64, 0.95),
        },
        "zero-initialised path that wakes up": {"gradient_share": waking**2, "gradient_norm": waking},
        "path that wakes up slowly and grows a thousandfold": {
            "gradient_norm": np.minimum(4e-6 * 1.1**t, 4e-3),
            "gradient_share": np.minimum(4e-6 * 1.1**t, 4e-3) ** 2,
        },
        "near-uniform attention at initialisation": {
            "attention_entropy": np.where(t < 30, 0.9995, 0.97),
            "attention_logit_scale": np.full(200, 0.1),
        },
        "attention uniform for good": {"attention_entropy": np.ones(200)},
        "one-hot head": {"attention_entropy": np.full(200, 0.09), "attention_logit_scale": np.full(200, 1.6)},
        "converged classifier with few answers": {
            "output_uniqueness": np.full(200, 0.1),
            "output_spread": np.full(200, 0.97),
        },
        "sigmoid output that becomes sure": {"saturated_share": np.minimum(t / 150, 0.95)},
        "transient at the marginal": {
            "loss": np.where(t < 10, 3.0, np.where(t < 30, 2.303, 2.2 - t / 200)),
            "loss_floor": np.full(200, 2.303),
        },
        "zero-initialised path that wakes up at order 2": {"zero_gradient_share": np.where(t < 3, 1.0, 0.0)},
        "LoRA with B = 0": {
            "adapter_ratio": np.where(t < 1, 0.0, 1e-3 * t),
            "displacement_ratio": np.minimum(1 + 0.1 * t, 5.0),
            "weight_rms": 1e-3 * t,
        },
        "stage that is switched on without a shock": {
            "num_trained": np.where(t < 100, 10.0, 14.0),
            "loss": 0.5 + 0.02 * np.sin(t),
        },
        "experts that come and go": {"num_trained": 10.0 + t % 3, "loss": np.where(t < 100, 0.5, 0.9)},
        "average that is behind at first": {
            "ema_loss": 2.0 * np.exp(-np.maximum(t - 20, 0) / 30),
            "trained_loss": 2.0 * np.exp(-t / 30),
            "ema_decay": np.full(200, 0.95),
        },
        "learning rate that warms up from nothing in bfloat16": {"lost_update_share": np.clip(1 - t / 30, 0, 1)},
        "converged to gradients under Adam's epsilon": {"starved_share": np.clip(t / 100 - 0.5, 0, 1)},
        "ReLU that becomes sparse": {"dead_share": np.minimum(t / 150, 0.95)},
        "second moment that lags for three rows": {"second_moment_ratio": np.where((t > 99) & (t < 103), 8.0, 1.0)},
        "loss scaler searching": {"gradient_norm": np.where(t < 16, np.inf, 1.0)},
        "transient all-background": {
            "class_entropy_ratio": np.where(t < 60, 0.0, 0.9),
            "class_loss_ratio": np.where(t < 60, 1.01, 0.6),
        },
        "unbalanced classes below the floor": {
            "class_entropy_ratio": np.full(200, 0.1),
            "class_loss_ratio": np.full(200, 0.7),
        },
        "condition behind a zero-initialised path": {"condition_gap": np.where(t < 90, 0.0, 0.01)},
        "branch behind a zero-initialised path": {"ablation_gap": np.where(t < 90, 0.0, 0.01)},
        "sink head": {"attention_sink": np.full(200, 0.95), "activation_peak": np.full(200, 5e3)},
        "heads that are copies": {"head_redundancy": np.ones(200)},
        "learning to attend": {"attention_logit_peak": np.minimum(0.02 * 1.05**t, 2.0)},
        "converged and certain": {"certain_share": np.minimum(t / 100, 1.0), "logit_rounding": np.full(200, 2e-6)},
        "zero-initialised router": {"load_entropy": np.ones(200), "load_chi_squared": np.zeros(200)},
        "fewer tokens than experts": {"load_entropy": np.full(200, 0.33), "load_chi_squared": np.full(200, 0.95)},
        "zero-initialised posterior that wakes up": {
            "latent_kl": np.minimum(0.02 * t, 12),
            "latent_active_share": np.minimum(t / 50, 1.0),
        },
        "fixed loss weights": {"loss_weight_motion": np.zeros(200), "loss_weight_concentration": np.full(200, 0.1)},
        "losses that have settled": {"gradient_cosine": np.full(200, -0.99)},
        "deep network that starts constant": {"embedding_spread": np.where(t < 90, 3e-4, 0.5)},
        "random teacher": {"teacher_information": np.where(t < 90, 1e-3, 0.3)},
        "codebook far from the data": {"code_usage": np.where(t < 90, 0.02, 0.6)},
    }
    for what, series in fine.items():
        grave = [f for f in detect(rows(series)) if f.severity != "note"]
        assert grave == [], f"{what}: {grave}"
