"""Bisect, end to end, on recipes whose guilty changes are known."""

import json
import math
from dataclasses import replace

import pytest

from pitprop import PitpropError
from pitprop.records import Comparison
from pitprop.trials import bisect
from pitprop.trials.bisection.changes import read_knobs
from pitprop.trials.bisection.endpoints import CONFIDENCE, Cut, cut_between
from pitprop.trials.comparison import compare
from pitprop.trials.plan import content_hash

GOOD = {"warmup": 5}
BAD = {
    "lr": 1.0,
    "depth": 4,
    "norm": "none",
    "bias": False,
    "betas": [0.5, 0.9],
    "dropout": 0.5,
    "warmup": 0,
    "init": "zero",
    "gate": True,
    "augment": True,
    "width": 16,
    "precision": "double",
}


@pytest.fixture(scope="module")
def answer(pool, reference, tmp_path_factory):
    """`answer("one")`: the bisection of a recipe, made once."""
    known = {}

    def get(name, **options):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            known[name] = bisect(reference("recipes_bisect", name), GOOD, BAD, folder=folder, executor=pool, **options)
        return known[name]

    return get


def names(culprits):
    assert all(c.minimal for c in culprits)
    return [set(c.changes) for c in culprits]


@pytest.mark.parametrize(
    ("name", "bringing", "curing"),
    [
        ("one", [{"norm"}], [{"norm"}]),
        ("noisy", [{"norm"}], [{"norm"}]),
        ("together", [{"lr", "norm"}], [{"lr"}, {"norm"}]),
        ("independent", [{"lr"}, {"norm"}], [{"lr", "norm"}]),
    ],
)
def test_the_guilty_are_found_and_nobody_else(answer, name, bringing, curing):
    found = answer(name)
    assert found.collapsed and found.found.ends == "apart"
    assert names(found.found.bringing) == bringing and names(found.found.curing) == curing
    guilty = set().union(*bringing)
    assert set(found.found.exonerated) == set(BAD) - guilty
    assert not found.found.open and not found.failed
    assert found.runs <= found.budget == 300


def test_fresh_seeds_confirm_each_set_and_each_member_of_a_pair(answer):
    verdicts = {c.arm: c.verdict for c in answer("together").confirm}
    assert verdicts == {
        "good + lr + norm": "worse",
        "bad - lr": "better",
        "bad - norm": "better",
        "good + lr + norm, without lr": "better",
        "good + lr + norm, without norm": "better",
    }
    effect = answer("together").confirm[0]
    assert effect.changes == "lr: 0.1 -> 1.0; norm: 'layer' -> 'none'"
    assert effect.high < -0.9 and effect.confidence > 0.95 and len(effect.seeds) == 8
    searched = range(100)
    assert not set(effect.seeds) & set(searched)


def test_the_answer_reads_in_sentences(answer):
    assert answer("one").statement.startswith("`norm` brings the collapse (spread -1, ")
    assert "Reversing `norm` cures it (spread " in answer("one").statement
    assert "Reversing any one of these cures it: `lr` (" in answer("together").statement
    assert "`lr` together with `norm` brings the collapse" in answer("together").statement
    assert "Each of these alone brings the collapse: `lr` (" in answer("independent").statement
    assert "Innocent, even all together: depth, bias" in answer("independent").statement
    assert answer("independent").next == "Reverse `lr` together with `norm`."


@pytest.mark.parametrize("name", ["none", "everywhere"])
def test_where_bad_is_no_worse_than_good_nothing_is_searched(answer, name):
    found = answer(name)
    assert not found.collapsed and found.found.ends == "no difference"
    assert found.runs == 16 and found.steps == () and found.confirm == ()
    assert found.statement.startswith("Nothing to find: bad and good do not differ by more than the margin")
    assert "good is as well" in found.next


def test_exchanged_ends_are_noticed(pool, reference, tmp_path):
    found = bisect(reference("recipes_bisect", "one"), BAD, GOOD, folder=tmp_path, executor=pool)
    assert found.found.ends == "bad is better" and not found.collapsed
    assert found.next.startswith("Exchange the two")


def test_the_folder_holds_the_plan_the_runs_and_the_answer(answer):
    found = answer("one")
    plan = json.loads((found.folder / "plan.json").read_text())
    assert plan.pop("hash") == found.plan == content_hash(plan)
    assert plan["cut"] == found.cut and plan["budget"] == 300 and plan["changes"]["lr"] == ["0.1", "1.0"]
    written = json.loads((found.folder / "bisection.json").read_text())
    assert written == json.loads(json.dumps(found.to_dict()))
    assert [set(c["changes"]) for c in written["found"]["bringing"]] == [{"norm"}]
    assert Comparison(**{k: v for k, v in written["ends"].items()}).verdict == "worse"
    assert len(list((found.folder / "runs").glob("*.json"))) == found.runs


class Counting:
    """An executor that counts, and stops where it is told."""

    workers = 1

    def __init__(self, pool, stop=None):
        self.pool, self.stop, self.count = pool, stop, 0

    def run(self, tasks):
        for item in self.pool.run(tasks):
            if self.count == self.stop:
                raise KeyboardInterrupt
            self.count += 1
            yield item


def test_an_interrupted_bisection_goes_on_where_it_was(pool, reference, tmp_path):
    recipe = reference("recipes_bisect", "one")
    first = Counting(pool, stop=30)
    with pytest.raises(KeyboardInterrupt):
        bisect(recipe, GOOD, BAD, folder=tmp_path, executor=first)
    second, third = Counting(pool), Counting(pool)
    found = bisect(recipe, GOOD, BAD, folder=tmp_path, executor=second)
    assert names(found.found.bringing) == [{"norm"}]
    assert second.count == found.runs - 30
    again = bisect(recipe, GOOD, BAD, folder=tmp_path, executor=third)
    assert third.count == 0 and again.found == found.found and again.confirm == found.confirm


@pytest.mark.parametrize("budget", [16, 30, 60, 90])
def test_the_budget_is_honoured(pool, reference, tmp_path, budget):
    executor = Counting(pool)
    found = bisect(
        reference("recipes_bisect", "together"), GOOD, BAD, budget=budget, folder=tmp_path, executor=executor
    )
    assert executor.count == found.runs <= budget
    assert found.collapsed and found.found.open
    assert "budget" in found.statement and "larger budget" in found.next
    assert all({"lr", "norm"} <= set(c.changes) for c in found.found.bringing)


def test_a_budget_under_the_end_points_is_refused(reference, tmp_path):
    with pytest.raises(PitpropError, match="A budget of 15 runs does not hold the end points"):
        bisect(reference("recipes_bisect", "one"), GOOD, BAD, budget=15, folder=tmp_path)


def test_another_metric_finds_its_own_direction(pool, reference, tmp_path):
    recipe = reference("recipes_bisect", "one")
    found = bisect(recipe, GOOD, BAD, metric="error", folder=tmp_path, executor=pool)
    assert not found.ends.higher_is_better and names(found.found.bringing) == [{"norm"}]
    with pytest.raises(PitpropError, match="returned no `eror`: did you mean `error`"):
        bisect(recipe, GOOD, BAD, metric="eror", folder=tmp_path, executor=pool)


def test_a_metric_that_is_not_finite_is_a_collapse(pool, reference, tmp_path):
    found = bisect(reference("recipes_bisect", "one"), GOOD, BAD, metric="distance", folder=tmp_path, executor=pool)
    assert names(found.found.bringing) == names(found.found.curing) == [{"norm"}]
    assert found.cut != found.cut
    # Survival decides where the metric is not finite (docs/verdicts.md), so both are confirmed without an effect.
    assert [c.verdict for c in found.confirm] == ["worse", "better"]
    assert all(math.isnan(c.effect) for c in found.confirm)
    assert "Not confirmed" not in found.statement and "Without an effect" not in found.statement
    assert found.to_dict()["cut"] == "nan"


def test_changes_that_cannot_be_made_one_without_the_other(pool, reference, tmp_path):
    """Half precision, which good has, raises without a bias: such sets cannot run, and accuse nobody."""
    good, bad = {"precision": "half"}, {"bias": False, "gate": True, "width": 16}
    found = bisect(reference("recipes_bisect", "wide"), good, bad, folder=tmp_path, executor=pool)
    assert names(found.found.bringing) == names(found.found.curing) == [{"width"}]
    assert any(step.outcome == "unresolved" and "bias" in step.changes for step in found.steps)
    assert found.failed and all("half precision needs a bias" in failed["error"] for failed in found.failed)


def test_an_end_that_raises_is_refused(pool, reference, tmp_path):
    bad = {"precision": "half", "bias": False}
    with pytest.raises(PitpropError, match="The bad end failed at 8 of 8 seeds: RuntimeError: half precision"):
        bisect(reference("recipes_bisect", "one"), GOOD, bad, folder=tmp_path, executor=pool)


def test_by_module_the_guilty_part_is_found(pool, reference, tmp_path):
    found = bisect(reference("recipes_bisect", "part_two"), by_module=["parts.*"], folder=tmp_path, executor=pool)
    assert list(found.changes) == [f"parts.{i}" for i in range(5)]
    assert names(found.found.bringing) == names(found.found.curing) == [{"parts.2"}]
    assert found.confirm[0].changes == "parts.2: ablated -> active"
    assert found.command[-2:] == ("--by-module", "parts.*")


def test_modules_that_cannot_be_told_apart_or_found(pool, reference, tmp_path):
    recipe = reference("recipes_bisect", "part_two")
    with pytest.raises(PitpropError, match=r"`parts.0.inner` is inside of `parts.0`"):
        bisect(recipe, by_module=["parts.*", "parts.*.inner"], folder=tmp_path, executor=pool)
    with pytest.raises(PitpropError, match=r"No module matches `part.0`: did you mean `parts.0`"):
        bisect(recipe, by_module=["part.0"], folder=tmp_path, executor=pool)
    with pytest.raises(PitpropError, match="`good` and `by_module` were given together"):
        bisect(recipe, GOOD, by_module=["parts.*"], folder=tmp_path, executor=pool)


def test_configurations_that_cannot_be_read(reference, tmp_path):
    recipe = reference("recipes_bisect", "one")

    def refused(bad, message):
        with pytest.raises(PitpropError, match=message):
            bisect(recipe, {}, bad, folder=tmp_path / "out")

    refused({}, "no knob differs")
    refused({"nrom": "none"}, "no knob `nrom`: did you mean `norm`")
    refused({"depth": 1.5}, "`depth` cannot be 1.5")
    refused(tmp_path / "bad.toml", "cannot be read: No such file")
    (tmp_path / "bad.toml").write_text("norm = none")
    refused(tmp_path / "bad.toml", "is not TOML")
    (tmp_path / "bad.toml").write_text('[model]\nnorm = "none"')
    refused(tmp_path / "bad.toml", r"has a table `\[model\]`")
    (tmp_path / "bad.toml").write_text('norm = "none"\nbetas = [0.5, 0.9]')
    assert read_knobs(tmp_path / "bad.toml") == {"norm": "none", "betas": [0.5, 0.9]}
    assert not (tmp_path / "out").exists()


def ends(good, bad, **options):
    given = {"arm": "bad", "seeds": range(len(good)), "metric": "spread", "confidence": CONFIDENCE, "margin": 0.05}
    return compare(good, bad, **given | options)


def test_the_cut_lies_between_good_and_the_humps_of_bad():
    many = [1.0, 0.9, 1.1, 1.0, 1.0, 0.9, 1.1, 1.0] * 2
    noisy = [0.0, 1.0, 0.1, 0.9, 0.0, 0.0, 1.0, 0.0] * 2
    assert cut_between(ends(many[:8], noisy[:8])) is None, "eight seeds of two humps look skewed: a second look is due"
    assert cut_between(ends(many, noisy)) == Cut(value=0.5, higher_is_better=True)
    assert cut_between(ends([1 - x for x in many], [1 - x for x in noisy], higher_is_better=False)) == Cut(
        value=0.5, higher_is_better=False
    )


def test_one_run_far_out_does_not_move_the_cut_past_the_others():
    good, bad = [1.5 + x / 100 for x in range(8)], [1.6 + x / 100 for x in range(8)]
    apart = ends(good, bad, higher_is_better=False)
    plain, pulled = (cut_between(replace(apart, treated=(*bad[:7], last))) for last in (1.67, 2.25))
    assert plain is not None and plain == pulled
    assert plain.value == pytest.approx((1.535 + 1.66) / 2) and all(plain.collapsed(value) for value in bad)


def test_no_cut_without_an_interval_beyond_the_margin():
    good, nan = [1.0, 0.9, 1.1, 1.0], float("nan")
    assert cut_between(ends(good, [0.96, 0.86, 1.06, 0.96])) is None
    assert cut_between(ends(good, [0.96, 0.86, 1.06, 0.96], margin=0.03)) is not None
    assert cut_between(ends(good, [2.0, 2.0, 2.0, 2.0])) is None
    lost = cut_between(ends(good, [nan, 0.9, 1.1, 1.0]))
    assert lost is not None and lost.collapsed(nan) and not lost.collapsed(-100.0)
    assert cut_between(ends([*good[:3], nan], [nan, nan, nan, 1.0])) is None
    both = cut_between(ends(good, [nan, 0.0, 0.1, 0.1]))
    assert both is not None and both.collapsed(nan) and both.collapsed(0.3) and not both.collapsed(0.6)
