"""Groups: which findings belong together, in which order their sites came, and that none is lost."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pitprop.records import Finding, Severity
from pitprop.rules import INTERNAL, group
from pitprop.rules._group import Groups, _tau


def found(site: str, onset: int, detected: int, rule="r", severity: Severity = "warning", message="m") -> Finding:
    return Finding(rule=rule, severity=severity, site=site, onset=onset, detected=detected, message=message)


@pytest.mark.parametrize(
    ("onsets", "order"),
    [
        ([10, 11, 12, 13, 14], "upward"),
        ([14, 13, 12, 11, 10], "downward"),
        ([10, 10, 10, 10, 10], "together"),
        ([12, 10, 14, 11, 13], "in no clear order"),
        ([10, 11, 12, 14, 13, 15], "upward"),  # tau 13/15
        ([10, 11], ""),
    ],
)
def test_order_along_the_depth(onsets, order):
    findings = [found(f"blocks.{8 + i}.attn", onset, onset + 30) for i, onset in enumerate(onsets)]
    [one] = group(reversed(findings))
    assert one.order == order


def test_summary_names_the_first_and_the_way():
    findings = [found(f"blocks.{i}.attn", 100 + 5 * abs(i - 11), 180) for i in (9, 10, 11)]
    [one] = group(findings)
    assert one.summary == "3 sites, first at blocks.11.attn (step 100), then downward, last at blocks.9.attn (step 110)"
    [one] = group(found(f"blocks.{i}", 0, 39) for i in (10, 9, 11))
    assert one.summary == "3 sites, all from step 0 on, blocks.9 to blocks.11"
    [one] = group([found("neck", 3, 5)])
    assert (one.summary, one.order, one.num_sites) == ("neck", "", 1)


def test_the_order_is_that_of_the_stack_with_most_sites_and_of_each_depths_first_site():
    findings = [
        found(f"encoder.{i}.{part}", 100 + i + late, 150) for i in range(6) for part, late in (("a", 0), ("b", 9))
    ]
    findings += [found(f"decoder.{i}", 120 - i, 150) for i in range(4)]
    [one] = group(findings)
    assert one.order == "upward" and one.num_sites == 16


def test_a_later_wave_and_another_rule_are_groups_of_their_own():
    findings = [found("a", 10, 40), found("b", 35, 60), found("c", 61, 90), found("a", 10, 40, rule="other")]
    assert [[f.site for f in one.findings] for one in group(findings)] == [["a", "b"], ["a"], ["c"]]


def test_a_finding_that_began_before_two_waves_joins_them():
    findings = [found("a", 10, 40), found("b", 61, 90), found("slow", 20, 95)]
    assert [one.num_sites for one in group(findings)] == [3]


def test_the_gravest_leads_and_the_earliest_is_first():
    [one] = group([found("a", 10, 40), found("b", 20, 50, severity="failure"), found("c", 30, 60, severity="failure")])
    assert (one.lead.site, one.severity, one.findings[0].site) == ("b", "failure", "a")


def test_findings_about_pitprop_are_grouped_by_what_failed_and_how():
    messages = [f"rule {rule} raised {error}: at {site}" for rule in "pq" for error in ("E", "F") for site in "123"]
    groups = group(found(m[-1], 5, 5, rule=INTERNAL, message=m) for m in messages)
    assert [one.num_sites for one in groups] == [3] * 4


spans = st.tuples(st.sampled_from("pq"), st.integers(0, 60), st.integers(0, 20))


@settings(deadline=None)
@given(st.lists(spans, max_size=25), st.randoms())
def test_nothing_is_lost_and_neither_order_nor_moment_matters(made, random):
    findings = [found(f"s.{i}", on, on + delay, rule=rule) for i, (rule, on, delay) in enumerate(made)]
    groups = group(findings)
    assert sorted(f.site for one in groups for f in one.findings) == sorted(f.site for f in findings)
    # The slow twin: connected components of overlapping spans, by union of sets.
    waves = [{f} for f in map(id, findings)]
    for f, g in itertools.combinations(findings, 2):
        if f.rule == g.rule and f.onset <= g.detected and g.onset <= f.detected:
            one, other = (next(w for w in waves if id(x) in w) for x in (f, g))
            if one is not other:
                waves.remove(other)
                one |= other
    assert {frozenset(map(id, one.findings)) for one in groups} == {frozenset(w) for w in waves}
    shuffled = findings[:]
    random.shuffle(shuffled)
    assert {frozenset(one.findings and map(id, one.findings)) for one in group(shuffled)} == {
        frozenset(w) for w in waves
    }
    live = Groups()
    for finding in sorted(findings, key=lambda f: f.detected):
        assert live.add(finding)[-1] is finding
    assert live.all() == groups


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=20))
def test_tau_is_the_balance_of_pairs(values):
    pairs = list(itertools.combinations(values, 2))
    assert _tau(values) == pytest.approx(sum((b > a) - (b < a) for a, b in pairs) / len(pairs))
