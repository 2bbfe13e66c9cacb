"""Many sites: the e-BH selection against its slow twin, and its promise over thousands of sites."""

import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pitprop.records import Finding, Row, RunInfo, Severity
from pitprop.rules import INTERNAL, Detector, detect, group
from pitprop.rules._many import Selection
from pitprop.rules._online import LOG_EVIDENCE, RUN_LENGTH, Evidence, follow, gather, new_shift, shifted
from pitprop.rules._rule import Shelf
from pitprop.trace import Reader, Writer


@dataclass(frozen=True)
class Leaves:
    """A rule that is nothing but the shift detector: the level leaves its warm-up by `span`."""

    name: ClassVar[str] = "leaves"
    reads: ClassVar[tuple[str, ...]] = ("level",)
    severity: ClassVar[Severity] = "warning"
    remedies: ClassVar[tuple[str, ...]] = ()
    shelf: ClassVar[Shelf] = "preview"
    scale_free: ClassVar[bool] = True
    alarms_on_nan: ClassVar[bool] = False
    span: float = 10.0
    patience: int = 1

    def init(self):
        return new_shift()

    def update(self, state, row):
        state = follow(state, row.step, row.values["level"], self.span)
        return state, _found(row.site, row.step, state.evidence.log_sum) if shifted(state, self.patience) else None


class Signs(Leaves):
    """A rule that is nothing but the evidence that more than half of the rows are 1."""

    def init(self):
        return Evidence()

    def update(self, state, row):
        state = gather(state, row.step, row.values["level"], 0.5)
        certain = state.log_sum >= math.log(RUN_LENGTH)
        return state, _found(row.site, row.step, state.log_sum) if certain else None


def _found(site: str, step: int, log_evidence: float) -> Finding:
    evidence = {} if math.isnan(log_evidence) else {LOG_EVIDENCE: log_evidence}
    return Finding(rule="leaves", severity="warning", site=site, onset=0, detected=step, message="m", evidence=evidence)


def _each(levels: np.ndarray) -> Iterator[Row]:
    """Rows of `levels[step, site]`."""
    for step, values in enumerate(levels.tolist()):
        for site, value in enumerate(values):
            yield Row(step=step, site=f"s.{site}", values={"level": value})


def _rows(levels: np.ndarray) -> list[Row]:
    return list(_each(levels))


def _healthy(num_rows: int, num_sites: int, phi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """AR(1) of unit variance at every site, `[row, site]`; `phi` by site."""
    levels = np.empty((num_rows, num_sites))
    levels[0] = rng.standard_normal(num_sites)
    for t in range(1, num_rows):
        levels[t] = phi * levels[t - 1] + np.sqrt(1 - phi**2) * rng.standard_normal(num_sites)
    return levels


said = st.tuples(st.integers(0, 7), st.one_of(st.none(), st.just(math.nan), st.floats(9.3, 12.5)))


@settings(deadline=None)
@given(st.lists(said, max_size=60))
def test_selection_is_e_bh_at_every_row(sequence):
    selection = Selection()
    selection.num_sites = num_sites = 8
    current, found = dict.fromkeys(range(8), -math.inf), set()
    for step, (site, log_evidence) in enumerate(sequence):
        if site in found or math.isnan(current[site]):
            continue
        finding = None if log_evidence is None else _found(str(site), step, log_evidence)
        certain = selection.judge(str(site), finding)
        current[site] = -math.inf if log_evidence is None else log_evidence
        if log_evidence is not None and math.isnan(log_evidence):
            assert certain == [finding]
            continue
        # e-BH by its definition: the largest k such that k sites have e-values of S / (k alpha) or more.
        e_values = {s: math.inf if s in found else math.exp(v) for s, v in current.items() if not math.isnan(v)}
        sizes = [k for k in range(1, 9) if sum(e >= num_sites / k * RUN_LENGTH for e in e_values.values()) >= k]
        bar = num_sites / max(sizes) * RUN_LENGTH if sizes else math.inf
        new = {s for s, e in e_values.items() if e >= bar} - found
        assert {f.site for f in certain} == {str(s) for s in new}
        assert all(f.detected == step for f in certain)
        found |= new


def test_one_site_needs_no_more_than_before():
    levels = _healthy(80, 1, np.zeros(1), np.random.default_rng(0))
    levels[40:] += 11
    [finding] = detect(_rows(levels), (Leaves(),))
    state = new_shift()
    for step, value in enumerate(levels[:, 0]):
        state = follow(state, step, float(value), 10.0)
        if shifted(state, 1):
            break
    assert finding.detected == step


def test_more_sites_mean_more_evidence_and_faults_at_many_less():
    """One site of 1000 waits longer than a site alone; where all leave together, they find each other."""
    rng = np.random.default_rng(1)
    levels = _healthy(180, 1000, np.zeros(1000), rng)
    levels[60:, 0] += 11
    alone = detect(_rows(levels[:, :1]), (Leaves(),))
    [one] = detect(_rows(levels), (Leaves(),))
    assert one.site == alone[0].site and one.detected > alone[0].detected
    assert one.evidence[LOG_EVIDENCE] >= math.log(1000 * RUN_LENGTH)
    levels[60:, 1:] += 11
    every = detect(_rows(levels), (Leaves(),))
    assert len(every) >= 990  # a warm-up may look twice as noisy as it is, and the margin with it
    first = next(f.detected for f in every if f.site == "s.0")
    assert alone[0].detected <= first < one.detected


def test_live_is_replay_is_resumed_while_findings_are_held(tmp_path):
    rng = np.random.default_rng(2)
    levels = _healthy(120, 40, np.full(40, 0.9), rng).astype(np.float32)
    levels[50:, :7] += 11
    trace = _rows(levels)
    replay = detect(trace, (Leaves(),))
    assert len(replay) == 7
    for cut in (10 * 40, 70 * 40 + 3, 75 * 40 + 20):
        live = Detector((Leaves(),))
        early = [f for row in trace[:cut] for f in live.update(row)]
        resumed = pickle.loads(pickle.dumps(live))
        assert early + [f for row in trace[cut:] for f in resumed.update(row)] == replay
    with Writer(tmp_path, RunInfo(name="run", started="2026-01-01T00:00:00Z")) as writer:
        for step, values in enumerate(levels.tolist()):
            writer.append(step, {"level": {f"s.{site}": value for site, value in enumerate(values)}})
    with Reader(tmp_path) as reader:
        assert detect(reader.rows(), (Leaves(),)) == replay


def test_a_site_whose_rows_end_while_it_is_held_comes_with_the_others():
    selection = Selection()
    selection.num_sites = 2
    assert selection.judge("a", _found("a", 3, math.log(1.5 * RUN_LENGTH))) == []
    both = selection.judge("b", _found("b", 9, math.log(1.2 * RUN_LENGTH)))
    assert [(f.site, f.detected) for f in both] == [("a", 9), ("b", 9)]


def test_a_rule_that_raises_everywhere_is_one_group():
    class Raises(Leaves):
        def update(self, state, row):
            raise KeyError(row.site)

    findings = detect(_rows(np.zeros((3, 10_000))), (Raises(),))
    assert len(findings) == 10_000
    [one] = group(findings)
    assert (one.rule, one.num_sites) == (INTERNAL, 10_000)
    assert one.lead.message.startswith("rule leaves raised KeyError: 's.0' at s.0 in step 0")


def test_at_the_edge_of_the_hypothesis_many_sites_are_as_silent_as_one():
    """Coins, the worst that is healthy: in 500 rows one site alarms with a chance of up to 5 %, and so do all 400."""
    coins = np.random.default_rng(4).integers(0, 2, (500, 400)).astype(float)
    trace = _rows(coins)
    alone = sum(bool(detect(trace[site::400], (Signs(),))) for site in range(400))
    assert 1 <= alone <= 0.05 * 400 + 3 * math.sqrt(400 * 0.05 * 0.95)
    assert detect(trace, (Signs(),)) == []
    coins[200:, :8] = 1
    assert {f.site for f in detect(_each(coins), (Signs(),))} == {f"s.{site}" for site in range(8)}


@pytest.mark.slow
def test_ten_thousand_sites_and_twenty_faults():
    """Healthy AR(1) at 10 000 sites over 500 rows, with the patience that rules have; 20 sites fail at row 300."""
    rng = np.random.default_rng(5)
    levels = _healthy(500, 10_000, np.resize([0.0, 0.9, 0.98], 10_000), rng)
    levels[300:, :20] += 24
    findings = detect(_each(levels), (Leaves(span=20.0, patience=20),))
    assert {f.site for f in findings} == {f"s.{site}" for site in range(20)}
    assert all(f.detected <= 340 for f in findings)
    coins = rng.integers(0, 2, (500, 10_000)).astype(float)
    assert len(detect(_each(coins), (Signs(),))) == 0  # one by one: over 300
