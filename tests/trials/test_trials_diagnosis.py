"""Diagnose, end to end, on recipes whose answer is known; and its parts by themselves."""

import dataclasses
import json
import math

import pytest

from pitprop import PitpropError
from pitprop.records import RUN, Comparison, Finding
from pitprop.trials import Arm, Plan, diagnose, watched
from pitprop.trials.candidates import USUAL, candidates
from pitprop.trials.conclude import conclude, difference, winners
from pitprop.trials.diagnosis import fork_step
from pitprop.trials.guards import Guard
from pitprop.trials.interventions import Ablate, ClipGradient, Freeze, Knob, LearningRate, Replace, Scale
from pitprop.trials.progress import Progress
from pitprop.trials.run import RunSpec

CONTRACT = {"plan", "plan_hash", "command", "fork", "comparisons", "conclusion", "wall_s"}


@pytest.fixture(scope="module")
def guilty(pool, reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guilty")
    told: list[Progress] = []
    diagnosis = diagnose(
        reference("recipes_tiny", "guilty"), seeds=4, folder=folder, executor=pool, progress=told.append
    )
    return diagnosis, folder, told


def test_one_guilty_knob_among_others_is_found(guilty):
    diagnosis, _, _ = guilty
    conclusion = diagnosis.conclusion
    assert diagnosis.collapsed
    assert conclusion.cause == "the knob `pool` = 'batch'"
    assert conclusion.remedy == "knob pool = 'none'"
    unmoved = conclusion.statement.partition("Did not move the metric, at too few seeds to exonerate: ")[2]
    assert unmoved.partition(" (3 seeds)")[0].split(", ")[:2] == ["activation=relu", "bias=False"]
    assert LearningRate(0.1).describe() in unmoved and conclusion.exonerated == ()
    assert "over 4 fresh seeds" in conclusion.statement and "no longer shows the failure" in conclusion.statement
    assert any(f.rule == "output-duplication" and f.severity == "failure" for f in diagnosis.findings)
    assert diagnosis.fork is not None and diagnosis.plan is not None
    assert set(diagnosis.plan.seeds).isdisjoint(diagnosis.plan.confirm_seeds)
    assert [c.arm for c in diagnosis.confirm] == ["pool=none"]
    assert not diagnosis.failed


def test_its_folder_is_what_a_report_needs(guilty):
    diagnosis, folder, _ = guilty
    trial = json.loads((folder / "trial.json").read_text())
    assert CONTRACT <= set(trial) and trial["schema"] == 1
    assert trial["references"] == {"the mean": {"spread": 0.0, "loss": "nan"}}
    (loss,) = trial["guards"]
    assert set(loss) == {f.name for f in dataclasses.fields(Guard)}
    assert (loss["arm"], loss["metric"], len(loss["treated"])) == ("pool=none", "loss", 4)
    assert trial["fork"]["step"] == trial["plan"]["fork_step"] and trial["fork"]["steps"] == trial["plan"]["horizon"]
    assert trial["command"][-2:] == ["--out", str(folder)]
    assert trial["plan_hash"] == diagnosis.plan.hash == json.loads((folder / "plan.json").read_text())["hash"]
    assert Plan.from_dict(trial["plan"]) == diagnosis.plan
    assert {c["round"] for c in trial["comparisons"]} == {"screen", "confirm"}
    fields = {k: v for k, v in trial["comparisons"][0].items() if k != "round"}
    assert Comparison(**fields).metric == "spread"
    assert trial["conclusion"]["statement"] == diagnosis.conclusion.statement
    assert trial["fork"]["exact"] is True and trial["timing"]["engine_ms_per_run"] > 0
    assert (folder / "trace.sqlite").exists()
    assert len(list((folder / "runs").glob("*.json"))) == trial["timing"]["runs"]


def test_progress_counts_to_its_own_total(guilty):
    _, _, told = guilty
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert told[-1].done == told[-1].total and told[0].remaining_s is None
    assert any("screening 5 changes on 3 seeds" in p.stage for p in told)


def test_the_same_call_resumes_without_a_new_run(guilty, pool, reference):
    diagnosis, folder, _ = guilty
    files = {p: p.stat().st_mtime_ns for p in [*(folder / "runs").glob("*.json"), folder / "trace.sqlite"]}
    again = diagnose(reference("recipes_tiny", "guilty"), seeds=4, folder=folder, executor=pool)
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert len(list((folder / "runs").glob("*.json"))) == len(files) - 1
    assert again.conclusion == diagnosis.conclusion and again.findings == diagnosis.findings


@pytest.mark.slow
def test_a_control_that_is_not_finite_has_a_cause_too(pool, reference, tmp_path):
    diagnosis = diagnose(reference("recipes_tiny", "poisoned"), folder=tmp_path, executor=pool)
    conclusion = diagnosis.conclusion
    assert conclusion.cause == "the knob `pool` = 'batch'"
    assert "is finite at 5 of 5 fresh seeds, the control at 0 of 5 (exact one-sided test, p = 0.00098" in (
        conclusion.statement
    )
    assert "stops being finite at step 0 at the earliest" in conclusion.statement
    (confirmed,) = diagnosis.confirm
    assert math.isnan(confirmed.effect) and all(map(math.isnan, confirmed.control))


def test_a_collapse_on_another_seed_is_seen(pool, reference, tmp_path, monkeypatch):
    """Seed 0 is fine; the failure that seed 2 shows decides, and a second call begins with it."""
    spec = RunSpec(recipe=reference("recipes_tiny", "healthy"), source="", seed=0, horizon=20)
    monkeypatch.setattr(watched, "failures", lambda findings: [f for f in findings if f == "bad"])
    asked = []

    def run(specs, executor):
        asked.extend(specs.items())
        return [{"findings": ["bad"] if s.seed == 2 else []} for s in specs.values()]

    monkeypatch.setattr(watched, "watch_runs", run)
    told = []
    found, record, count = watched.watch_control(spec, (1, 2), tmp_path, pool, lambda: told.append(1))
    assert (found.seed, record["findings"], count, told) == (2, ["bad"], 3, [1])
    assert [s.seed for _, s in asked] == [0, 1, 2, 2] and asked[-1][0] == tmp_path
    monkeypatch.setattr(watched, "_known", lambda folder, s: {} if s.seed == 2 else None)
    asked.clear()
    assert watched.watch_control(spec, (1, 2), tmp_path, pool, lambda: None)[0].seed == 2
    assert [s.seed for _, s in asked] == [2]


def test_nothing_collapsed(pool, reference, tmp_path):
    diagnosis = diagnose(reference("recipes_tiny", "healthy"), folder=tmp_path, executor=pool)
    assert not diagnosis.collapsed and diagnosis.plan is None
    assert diagnosis.conclusion.statement.startswith("Nothing collapsed: the watched run shows no failure (3 seeds)")
    assert diagnosis.conclusion.cause is None
    trial = json.loads((tmp_path / "trial.json").read_text())
    assert CONTRACT <= set(trial) and trial["comparisons"] == []
    assert not list((tmp_path / "runs").glob("*.json")) and not (tmp_path / "plan.json").exists()


def test_where_nothing_helps_no_cause_is_named(pool, reference, tmp_path):
    diagnosis = diagnose(
        reference("recipes_tiny", "hopeless"), folder=tmp_path, executor=pool, suspects=[Ablate("3"), Scale("0", 0.5)]
    )
    conclusion = diagnosis.conclusion
    assert diagnosis.collapsed and diagnosis.confirm == ()
    assert conclusion.cause is None and conclusion.remedy is None
    assert conclusion.statement.startswith("Inconclusive")
    assert "suspects of your own" in conclusion.next
    assert conclusion.exonerated == (), "the metric is 0 at all three seeds, whatever is done"
    unmoved = conclusion.statement.partition("Did not move the metric, at too few seeds to exonerate: ")[2]
    assert "output of 3 multiplied by 0, output of 0 multiplied by 0.5" in unmoved


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knobs": {"failing": "raise"}}, "the arm is broken"),
        ({"knobs": {"widht": "3"}}, "did you mean `width`"),
        ({"seeds": 1}, "no spread"),
        ({"knobs": {"failing": "text"}}, "`step` returned 'hello' as `note`, which is no number"),
    ],
)
def test_what_cannot_be_diagnosed_is_an_error(pool, reference, tmp_path, options, message):
    with pytest.raises(PitpropError, match=message):
        diagnose(reference("recipes_tiny", "guilty"), folder=tmp_path, executor=pool, **options)


def test_an_error_says_once_what_to_do(pool, reference, tmp_path):
    with pytest.raises(PitpropError) as caught:
        diagnose(reference("recipes_tiny", "guilty"), folder=tmp_path, executor=pool, knobs={"failing": "None"})
    assert str(caught.value).count("Do: ") == 1


def test_failures_of_the_whole_run_come_first():
    part, whole = finding("attention-collapse", "a", "failure"), finding("output-duplication", RUN, "failure")
    assert watched.failures([part, whole]) == [whole, part]


def finding(rule, site, severity="warning"):
    return Finding(rule=rule, severity=severity, site=site, onset=0, detected=40, message="")


def test_candidates_come_from_findings_and_knobs():
    findings = [
        finding("saturated-units", "neck.act"),
        finding("branch-domination", "branch"),
        finding("loss-spike", RUN),
    ]
    arms = candidates(findings, [("gate", "pooled")], ["neck", "neck.act", "branch"], [Ablate("x")])
    assert [arm.interventions[0] for arm in arms] == [
        Ablate("x"),
        Knob("gate", "pooled"),
        Scale("neck.act", "unit", side="input"),
        Replace("neck.act", "unit-rms"),
        Scale("branch", 0.1),
        Ablate("branch"),
        *USUAL,
    ]
    assert len({arm.name for arm in arms}) == len(arms)


def test_candidates_do_not_repeat_and_need_a_module():
    findings = [
        finding("saturated-units", "<model>"),
        finding("gradient-explosion", "a"),
        finding("gradient-explosion", "b"),
    ]
    arms = candidates(findings, [], ["a", "b"], [ClipGradient(1.0)])
    assert [arm.interventions[0] for arm in arms] == [ClipGradient(1.0), LearningRate(0.1)]


@pytest.mark.parametrize(("onset", "every", "step"), [(0, 1, 0), (1, 1, 0), (100, 1, 50), (101, 10, 50), (19, 10, 0)])
def test_fork_is_half_way_to_the_onset(onset, every, step):
    assert fork_step(onset, every) == step


def comparison(arm, effect, verdict, **options):
    defaults = {
        "arm": arm,
        "changes": f"change {arm}",
        "metric": "m",
        "higher_is_better": True,
        "seeds": (0, 1, 2),
        "control": (0.0, 0.0, 0.1),
        "treated": (effect, effect, effect),
        "effect": effect,
        "low": effect - 0.1,
        "high": effect + 0.1,
        "confidence": 0.95,
        "p_value": 0.25,
        "margin": 0.1,
        "verdict": verdict,
        "horizon": 10,
        "plan": "h",
    }
    return Comparison(**defaults | options)


PLAN = Plan(
    recipe="r",
    source="s",
    knobs={"a": 1},
    arms=(Arm("one", (Knob("a", 2),)), Arm("two", (LearningRate(0.1),)), Arm("three", (ClipGradient(1.0),))),
    seeds=(0,),
    metric="m",
    margin=0.1,
    horizon=10,
    confirm_seeds=(1,),
    confirm_arms=2,
)
FAILING = [finding("output-duplication", RUN, "failure")]


def test_winners_are_the_best_beyond_the_margin_in_the_good_direction():
    screen = [
        comparison("one", 0.3, "better"),
        comparison("two", 0.05, "better"),
        comparison("three", 0.9, "inconclusive"),
    ]
    assert winners(screen, PLAN) == ["three", "one"]
    assert winners([comparison("one", 0.9, "worse", higher_is_better=False)], PLAN) == []
    assert winners([comparison("one", float("nan"), "inconclusive")], PLAN) == []


def test_an_arm_that_removes_the_finding_beats_a_larger_effect_that_does_not():
    confirm = [comparison("one", 0.5, "better"), comparison("two", 0.9, "better")]
    conclusion = conclude(PLAN, confirm, confirm, FAILING, FAILING, {"one": [], "two": FAILING})
    assert conclusion.cause == "the knob `a` = 1" and conclusion.remedy == "change one"
    assert "two" not in conclusion.statement
    both = conclude(PLAN, confirm, confirm, FAILING, FAILING, {"one": [], "two": []})
    assert both.remedy == "change two" and "Confirmed as well, each by itself: one." in both.statement


def test_the_mechanism_is_told_where_a_cure_takes_away_only_what_a_finding_describes():
    change = Scale("neck.squash", "unit", side="input")
    plan = dataclasses.replace(PLAN, arms=(*PLAN.arms, Arm("unsquashed", (change,))))
    findings = [*FAILING, finding("saturated-units", "neck.squash", "warning")]
    confirm = [comparison("two", 0.9, "better"), comparison("unsquashed", 0.5, "better")]
    cured = {"two": [], "unsquashed": []}
    told = conclude(plan, confirm, confirm, findings, FAILING, cured)
    assert told.mechanism == "saturated-units at neck.squash from step 0"
    assert f"How it acts is in the trace: {told.mechanism}" in told.statement
    assert "Confirmed as well" not in told.statement
    assert "How it acts" not in conclude(plan, confirm, confirm, FAILING, FAILING, cured).statement


def test_a_finding_is_a_symptom_where_intervening_on_it_changes_nothing():
    tried = (Scale("blocks.1", 0.1), Ablate("blocks.1"), Scale("blocks.2", 0.1), Freeze("blocks.3"))
    plan = dataclasses.replace(PLAN, arms=(*PLAN.arms, *(Arm(c.describe(), (c,)) for c in tried)))
    halved, ablated, other, idle = (c.describe() for c in tried)
    findings = [*FAILING, *(finding("branch-domination", f"blocks.{i}", "warning") for i in (1, 2, 3))]
    none = "no difference within margin"
    screen = [comparison(halved, 0.0, none), comparison(ablated, 0.0, none), comparison(other, 0.1, "inconclusive")]
    screen.append(comparison(idle, 0.0, none))
    best = comparison("two", 0.9, "better")
    told = conclude(plan, [*screen, best], [best], findings, FAILING, {"two": []}, inert=(idle,))
    assert told.symptoms == ("branch-domination at blocks.1",) and told.cause == "the learning rate"
    words = "A symptom, not a cause (intervening on it changes nothing): branch-domination at blocks.1."
    assert words in told.statement
    assert set(told.exonerated) == {halved, ablated}
    screen[1] = comparison(ablated, 0.1, "inconclusive")
    assert conclude(plan, screen, [], findings, FAILING, {}).symptoms == ("branch-domination at blocks.3",)


def test_a_change_that_helps_without_removing_the_collapse_says_so():
    confirm = [comparison("two", 0.9, "better")]
    conclusion = conclude(PLAN, confirm, confirm, FAILING, FAILING, {"two": FAILING})
    assert conclusion.cause is None and conclusion.remedy == "change two"
    assert "helps without removing the collapse" in conclusion.statement


def test_a_winner_that_is_not_confirmed_is_not_named():
    screen = [comparison("one", 0.5, "better"), comparison("three", 0.0, "no difference within margin")]
    confirm = [comparison("one", 0.2, "inconclusive", treated=(0.1, 0.2, 0.4), further_seeds=7)]
    conclusion = conclude(PLAN, screen, confirm, FAILING, FAILING, {})
    assert conclusion.cause is None and conclusion.exonerated == ("three",)
    assert "On fresh seeds, one: +0.2" in conclusion.statement
    assert "Not the cause by itself: three (3 seeds)." in conclusion.statement
    assert "Further seeds may settle: one (about 7)." in conclusion.next


def test_what_was_worse_or_did_nothing_is_not_exonerated():
    screen = [comparison("one", -0.5, "worse"), comparison("three", 0.0, "no difference within margin")]
    conclusion = conclude(PLAN, screen, [], FAILING, FAILING, {}, inert=("three",))
    assert conclusion.exonerated == () and conclusion.worse == ("one",) and conclusion.inert == ("three",)
    assert "Made it worse: one (3 seeds). Without effect at all, so not tested: three." in conclusion.statement
    assert "none of the 1 changes" in conclusion.statement


def test_an_arm_that_moved_nothing_at_few_seeds_is_not_exonerated():
    still = {"control": (0.0, 0.0, 0.1), "low": math.nan, "high": math.nan}
    screen = [
        comparison("one", 0.0, "inconclusive", **still | {"treated": still["control"]}),
        comparison("two", 0.0, "inconclusive", **still | {"treated": (0.0, 0.0, math.nan)}),
        comparison("three", 0.0, "no difference within margin"),
    ]
    told = conclude(PLAN, screen, [], FAILING, FAILING, {})
    assert told.exonerated == ("three",)
    assert "Did not move the metric, at too few seeds to exonerate: one (3 seeds)." in told.statement
    assert "Did not move" not in conclude(PLAN, screen[:1], [], FAILING, FAILING, {}, inert=("one",)).statement


def test_what_else_a_remedy_changes_is_told_largest_first():
    def side(metric, effect, low, high):
        said = {"arm": "two", "control": (1.0,), "treated": (), "seeds": (1,)}
        sure = "changed" if low > 0 or high < 0 else "inconclusive"
        return Guard(metric=metric, effect=effect, low=low, high=high, verdict=sure, **said)

    guards = [
        side("accuracy", -0.2, -0.3, -0.1),
        side("mse", 0.5, 0.4, 0.6),
        side("unsure", 9.0, -1.0, 19.0),
        side("small", 0.01, 0.005, 0.015),
        side("tiny", 0.001, 0.0005, 0.0015),
        side("none", math.nan, math.nan, math.nan),
        dataclasses.replace(side("other", 9.0, 8.0, 10.0), arm="one"),
        dataclasses.replace(side("lost at one seed", 9.0, 8.0, 10.0), verdict="inconclusive"),
    ]
    confirm = [comparison("two", 0.9, "better")]
    conclusion = conclude(PLAN, confirm, confirm, FAILING, FAILING, {"two": []}, guards=guards)
    assert (
        "no longer shows the failure (1 seed). Beside it, mse changes by +0.5 (+0.4 to +0.6), accuracy by -0.2 "
        "(-0.3 to -0.1), small by +0.01 (+0.005 to +0.015) (95 % intervals)."
    ) in conclusion.statement


def test_a_remedy_that_costs_a_number_says_so():
    nan = float("nan")
    lost = {"control": (1.0,) * 5, "treated": (nan,) * 5, "seeds": tuple(range(5)), "verdict": "worse"}
    guards = [Guard(arm="two", metric="loss", effect=nan, low=nan, high=nan, **lost)]
    confirm = [comparison("two", 0.9, "better")]
    conclusion = conclude(PLAN, confirm, confirm, FAILING, FAILING, {"two": []}, guards=guards)
    assert "Beside it, loss is finite at 0 of 5 seeds, the control at 5." in conclusion.statement
    assert "95 % intervals" not in conclusion.statement


def test_an_interval_that_is_undefined_is_said_to_be():
    assert difference(dataclasses.replace(comparison("a", 0.5, "inconclusive"), low=math.nan, high=math.nan)) == (
        "+0.5 (interval undefined)"
    )


def test_an_arm_that_saves_runs_is_admitted_and_one_that_loses_them_is_not():
    nan = float("nan")
    saves = comparison("one", nan, "inconclusive", control=(nan, nan, 0.1), treated=(0.1, 0.1, 0.1))
    loses = comparison("two", 0.9, "inconclusive", treated=(0.9, 0.9, nan))
    assert winners([loses, saves, comparison("three", 0.9, "better")], PLAN) == ["one", "three"]
