"""Verdicts are functions of stored numbers: the README agrees with them, and other numbers give other verdicts."""

import copy
import re
from dataclasses import replace

import pytest

from pitprop.cases._claims import generated, load_results, store
from pitprop.cases.model_merging import measurements
from pitprop.cases.model_merging.claims import CLAIMS, MERGING
from pitprop.cases.model_merging.measurements import (
    attention_only_at_initialisation,
    gates_at_initialisation,
)
from pitprop.cases.model_merging.prose import prose

MARKS = "\n".join(
    f"<!-- {name}: generated, see claims.py -->\nstale\n<!-- end of {name} -->" for name in ("prose", "claims")
)


@pytest.fixture
def results():
    return copy.deepcopy(load_results(MERGING))


def verdict(name, results):
    return next(claim for claim in CLAIMS if claim.name == f"S4-{name}").judge(results).verdict


def set_last(results, arm, metric, value):
    stored = results["arms"][arm][metric]
    stored["last"] = [value + 0.001 * i for i in range(len(stored["last"]))]


def test_all_sixteen_claims_are_there_in_order():
    assert [claim.name for claim in CLAIMS] == [f"S4-C{n}" for n in range(1, 17)]


def test_the_stored_numbers_come_from_at_least_five_seeds(results):
    assert len(results["provenance"]["settings"]["seeds"]) >= 5
    assert all(len(arm["output_spread"]["last"]) >= 5 for arm in results["arms"].values())


def test_the_table_keeps_what_stands_around_it(results):
    text = generated(f"before\n{MARKS}\nafter\n", MERGING, results)
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    assert text.count("| S4-C") == 16
    assert generated(text, MERGING, results) == text


def test_every_number_of_the_prose_follows_the_stored_ones(results):
    def numbers(text):
        return re.findall(r"\d+ %|\d\.\d\d", text)

    before = numbers(prose(results))
    assert before and before == numbers((MERGING.folder / "README.md").read_text().split("end of prose")[0])
    for arm in results["arms"].values():
        for metric in measurements.METRICS:
            for when in ("first", "last"):
                arm[metric][when] = [7.0 for _ in arm[metric][when]]
    results["references"]["constant mean"]["merged_accuracy"] = 7.0
    after = numbers(prose(results))
    assert set(after) == {"700 %", "7.00"} and len(after) == len(before)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_a_claim_reads_measurements_where_it_says_so_and_nowhere_else(claim, results):
    nothing = {"provenance": results["provenance"]}
    if claim.kind == "measurement":
        with pytest.raises(KeyError):
            claim.judge(nothing)
    else:
        assert claim.judge(nothing) == claim.judge(results)
        page = (MERGING.folder / "README.md").read_text().splitlines()
        row = next(line for line in page if line.startswith(f"| {claim.name} "))
        assert f"| {claim.kind}: " in row


def test_a_clipping_that_never_acted_refutes_nothing(results):
    judged = next(claim for claim in CLAIMS if claim.name == "S4-C12").judge(results)
    assert judged.verdict == "VACUOUS" and "never acted" in judged.evidence
    stored = results["arms"]["gradient stabiliser"]["mse"]
    stored["last"][0] *= 1.001  # it did something, and the runs collapsed all the same
    assert verdict("C12", results) == "REFUTED"
    set_last(results, "gradient stabiliser", "output_spread", 0.5)
    assert verdict("C12", results) == "CONFIRMED"


def test_the_baseline_was_evaluated_at_every_step(results):
    steps = results["provenance"]["settings"]["steps"]
    assert results["arms"]["ungated"]["evaluations"] == [steps + 1] * 5
    assert all(step is not None for step in results["arms"]["ungated"]["last_good_step"])


@pytest.mark.parametrize(
    ("name", "arm", "metric", "value", "expected"),
    [
        ("C2", "ungated", "attention_entropy", 1.0, "HALF"),
        ("C6", "mean bottleneck, uniform attention", "output_spread", 0.0, "OPEN"),
        ("C7", "ungated", "attention_entropy", 1.0, "OPEN"),
        ("C14", "mean bottleneck", "output_spread", 0.0, "OPEN"),
    ],
)
def test_other_numbers_would_give_another_verdict(results, name, arm, metric, value, expected):
    assert verdict(name, results) == "REFUTED"
    set_last(results, arm, metric, value)
    assert verdict(name, results) == expected


def test_a_gate_that_worked_would_be_believed(results):
    for arm in ("pooled gate", "elementwise gate", "headwise gate"):
        set_last(results, arm, "output_uniqueness", 0.99)
    assert verdict("C10", results) == "CONFIRMED"
    for arm in ("recover: pooled gate", "recover: elementwise gate"):
        set_last(results, arm, "output_spread", 0.5)
    assert verdict("C11", results) == "CONFIRMED"


def test_the_untrained_measurements_can_be_made_again(results):
    stored, fresh = results["attention_only"], attention_only_at_initialisation((0,))
    for kind, values in fresh.items():
        assert values["token_cosine"][0] == pytest.approx(stored[kind]["token_cosine"][0], abs=1e-3)
    gates = gates_at_initialisation((0,))
    assert gates["pooled"]["spread_over_tokens"][0] < 1e-6 < gates["elementwise"]["spread_over_tokens"][0]
    assert all(values["change_with_entropy"][0] == 0 for values in gates.values())
    assert all(values["entropy"][0] > 0.9 and values["entropy_sharp"][0] < 0.3 for values in gates.values())


@pytest.mark.slow
def test_the_whole_way_from_runs_to_a_table(tmp_path):
    results = measurements.run_claims(tmp_path, seeds=2, steps=2)
    store(results, tmp_path / "results" / "claims.json")
    stored = load_results(replace(MERGING, folder=tmp_path))
    assert generated(MARKS, MERGING, stored).count("| S4-C") == 16
