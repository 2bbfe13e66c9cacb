"""`trial`: known answers on tiny recipes, how its result shows itself, and what it refuses before the first run."""

import importlib
import json
import os
from html.parser import HTMLParser

import pytest
from rich.console import Console

import pitprop
from pitprop import PitpropError, report
from pitprop.records import Comparison
from pitprop.report.wording import show
from pitprop.trials import Arm, Plan, Recipe, designs, trial
from pitprop.trials.designs import factorial
from pitprop.trials.interventions import (
    Ablate,
    ClipGradient,
    Knob,
    LearningRate,
    Replace,
    ResetOptimizer,
    Scale,
    SwapData,
)
from pitprop.trials.load import load_recipe
from pitprop.trials.progress import Progress
from pitprop.trials.reference import reference_to
from pitprop.trials.summary import summarise

GUILTY = Knob("pool", "none")
FEW = {"seeds": 3, "horizon": 40}


@pytest.fixture(scope="module")
def found(pool, reference, tmp_path_factory):
    told: list[Progress] = []
    result = trial(
        reference("recipes_tiny", "guilty"),
        [GUILTY, Arm("half", (Scale("0", 0.5),)), *designs.ladder(LearningRate, (0.1, 0.5))],
        folder=tmp_path_factory.mktemp("trial"),
        executor=pool,
        progress=told.append,
        **FEW,
    )
    return result, told


@pytest.fixture(scope="module")
def crossed(pool, reference, tmp_path_factory):
    return trial(
        reference("recipes_tiny", "guilty"),
        factorial([GUILTY, LearningRate(0.5)]),
        folder=tmp_path_factory.mktemp("factorial"),
        executor=pool,
        command=("pitprop", "trial", "x"),
        **FEW,
    )


def test_the_guilty_change_is_the_one_that_is_better(found):
    result, told = found
    assert [c.arm for c in result.comparisons] == [
        "pool=none",
        "half",
        "learning rate multiplied by 0.1",
        "learning rate multiplied by 0.5",
    ]
    assert [c.verdict for c in result.comparisons] == ["better", *["inconclusive"] * 3]
    assert result.conclusion.remedy == "pool=none" and result.conclusion.cause is None
    assert not any(c.effect for c in result.comparisons[1:]), "a metric that stays 0 at three seeds shows nothing"
    assert result.conclusion.exonerated == (), "a trial accuses nobody"
    assert result.comparisons[0].confidence == pytest.approx(1 - 0.04 / 4), (
        "shared by the arms, at the first look's share"
    )
    assert told[-1].done == told[-1].total == 5 * 3
    assert result.fork is None and not result.failed and not result.effects


def test_a_remedy_a_harm_and_a_change_that_does_not_matter_are_told_apart(pool, reference, tmp_path):
    """Larger steps train further, pooling collapses, and Adam divides out the bound of a gradient's norm."""
    changes = [LearningRate(5.0), Knob("pool", "batch"), ClipGradient(1.0)]
    options = {"metric": "loss", "higher_is_better": False, "margin": 0.5, "seeds": 8, "horizon": 60}
    found = trial(reference("recipes_tiny", "healthy"), changes, folder=tmp_path, executor=pool, **options)
    assert [c.verdict for c in found.comparisons] == ["better", "worse", "no difference within margin"]
    assert found.comparisons[2].effect != 0 and not found.conclusion.inert, "it acted"


def test_it_is_on_disk_as_it_prints(found):
    result, _ = found
    content = json.loads((result.folder / "trial.json").read_text())
    assert content == json.loads(json.dumps(result.to_dict()))
    assert Plan.from_dict(content["plan"]) == result.plan and content["plan_hash"] == result.plan.hash
    assert json.loads((result.folder / "plan.json").read_text())["hash"] == result.plan.hash
    text = str(result)
    assert repr(result) == text and max(map(len, text.splitlines())) <= 100
    for word in ("pool=none", "better", "inconclusive", str(result.folder)[:20], "●"):
        assert word in text
    console = Console(record=True, width=140, file=open(os.devnull, "w"))
    console.print(result)
    console.file.close()
    assert "control → treated" in console.export_text()
    console = Console(record=True, width=80, file=open(os.devnull, "w"))
    console.print(result)
    console.file.close()
    assert "inconclusive" in console.export_text() and "●" not in console.export_text(), "no room to draw"


class Cell(HTMLParser):
    """Checks that every element is closed in order; collects text and tags."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_it_draws_itself_in_a_notebook(found, crossed):
    cell = Cell(found[0]._repr_html_())
    assert cell.tags.count("svg") == 4 + 1, "an interval for each arm, and their axis"
    assert "pool=none" in cell.text and "script" not in cell.tags
    both = Cell(crossed._repr_html_())
    assert both.tags.count("svg") == 3 + 1 + 3 + 1
    assert "Main effects and interactions" in both.text


def test_names_cannot_break_a_cell():
    c = Comparison(
        **{"arm": "<script>x</script>", "changes": "<b>", "metric": "<i>", "verdict": "inconclusive", "plan": ""},
        **dict.fromkeys(("effect", "low", "high", "confidence", "p_value"), float("nan")),
        **{"margin": 0.1, "horizon": 1, "seeds": (0,), "control": (1.0,), "treated": (2.0,), "higher_is_better": True},
    )
    cell = Cell(report.to_cell("<script>", {"single": [c]}, ["<script>"]))
    assert "script" not in cell.tags and "i" not in cell.tags and "undefined" in cell.text


def test_a_factorial_reports_main_effects_and_their_interaction(crossed):
    main, slow, both = crossed.effects
    assert (main.arm, both.arm) == ("pool=none", "pool=none x learning rate multiplied by 0.5")
    assert main.verdict == "better"
    # Pooled outputs are all the same at any learning rate: what it does, it does where the pool is gone.
    assert slow.effect == pytest.approx(both.effect)
    arms = {c.arm: c for c in crossed.comparisons}
    combined = arms["pool=none + learning rate multiplied by 0.5"]
    assert main.effect == pytest.approx((arms["pool=none"].effect + combined.effect) / 2)
    assert "Full factorial of 2 changes in 4 combinations" in crossed.conclusion.statement
    assert {c["round"] for c in crossed.to_dict()["comparisons"]} == {"factors", "single"}


def test_a_report_needs_no_trace(crossed, tmp_path):
    built = report.build(crossed.folder)
    assert built.last_step is None and built.command == ("pitprop", "trial", "x")
    assert built.headline.statement.startswith("Knob pool = 'none'")
    alone = crossed.comparisons[0]
    assert (alone.arm, built.headline.fixes) == ("pool=none", "knob pool = 'none'")
    assert f"effect {show(alone.effect, sign=True)}, " in built.headline.sure, "the arm's effect, not the main effect"
    page = report.to_html(built)
    assert "Main effects and interactions" in page and "No rule found anything" not in page
    assert 'class="tone">Trial<' in page and "<span>started" not in page
    assert json.loads(report.to_json(built))["diagnosis"]["plan_hash"] == crossed.plan.hash
    console = Console(record=True, width=100, file=open(os.devnull, "w"))
    report.to_text(built, console)
    console.file.close()
    assert "pool=none x learning" in console.export_text()


def test_the_same_call_runs_nothing_again(found, pool, reference):
    result, _ = found
    before = {p: p.stat().st_mtime_ns for p in (result.folder / "runs").glob("*.json")}
    again = trial(
        reference("recipes_tiny", "guilty"), [GUILTY], folder=result.folder, executor=pool, **(FEW | {"seeds": (0, 2)})
    )
    assert {p: p.stat().st_mtime_ns for p in (result.folder / "runs").glob("*.json")} == before
    assert again.comparisons[0].seeds == (0, 2)


def test_from_a_fork_the_fork_is_proved(pool, reference, tmp_path):
    result = trial(
        reference("recipes_tiny", "healthy"),
        [ResetOptimizer(), SwapData(9)],
        seeds=2,
        horizon=3,
        fork_step=4,
        folder=tmp_path,
        executor=pool,
    )
    assert result.fork is not None and result.to_dict()["fork"]["exact"] is True
    assert not result.failed and len(list((tmp_path / "forks").iterdir())) == 2


def test_an_arm_that_breaks_is_reported_and_the_others_stand(pool, reference, tmp_path):
    arms = [Knob("failing", "raise"), GUILTY]
    result = trial(reference("recipes_tiny", "guilty"), arms, folder=tmp_path, executor=pool, **FEW | {"seeds": 4})
    assert [run["seed"] for run in result.failed] == [0, 1, 2, 3] and "the arm is broken" in str(result)
    assert [c.verdict for c in result.comparisons] == ["worse", "better"]


def test_an_arm_that_ends_without_a_number_is_listed(pool, reference, tmp_path):
    result = trial(reference("recipes_tiny", "guilty"), [Knob("failing", "nan")], folder=tmp_path, executor=pool, **FEW)
    assert [run["seed"] for run in result.failed] == [0, 1, 2]
    assert "failed: failing=nan, seed 0, 1, 2: it ended with spread = nan; its loss was not finite" in str(result)


@pytest.mark.parametrize(
    ("arms", "options", "match"),
    [
        ([Ablate("00")], {}, "No module matches `00`"),
        ([Scale("0", 0.5), Replace("1", "unit-rsm")], {}, "`unit-rms`"),
        ([Knob("pol", "none")], {}, "no knob `pol`.*`pool`"),
        ([Knob("pool", "non")], {}, "cannot be 'non'"),
        ([Knob("pool", "batch")], {}, "already"),
        ([SwapData(1)], {}, "its own batches"),
        (["ablate"], {}, "no intervention"),
        ([], {}, "no arm"),
        ([GUILTY], {"metric": "los", "higher_is_better": False}, "no `los`, only: spread, loss"),
        ([GUILTY], {"metric": "loss"}, "direction"),
        ([GUILTY], {"guards": ["los=lower"]}, "no `los`, only: spread, loss"),
        ([GUILTY], {"guards": ["loss=down"]}, "no guard metric"),
        ([GUILTY], {"seeds": 1}, "at least 2"),
        ([GUILTY], {"seeds": (3, 3)}, "each once"),
        ([GUILTY], {"fork_step": 100, "horizon": None}, "fork within"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_first_run(pool, reference, tmp_path, arms, options, match):
    with pytest.raises(PitpropError, match=f"(?s){match}"):
        trial(reference("recipes_tiny", "guilty"), arms, folder=tmp_path, executor=pool, **(FEW | options))
    assert not {path.name for path in (tmp_path / "runs").glob("*")} - {".lock"}


def test_another_metric_has_its_own_direction_and_no_margin(pool, reference, tmp_path):
    result = trial(
        reference("recipes_tiny", "guilty"),
        [GUILTY],
        metric="loss",
        higher_is_better=False,
        folder=tmp_path,
        executor=pool,
        **FEW,
    )
    (c,) = result.comparisons
    assert (c.metric, c.higher_is_better, c.margin) == ("loss", False, 0.0)
    assert c.effect < 0 and c.verdict in ("better", "inconclusive")


def comparison(treated, **options):
    from pitprop.trials import compare

    return compare([0.0] * len(treated), treated, arm="a", seeds=range(len(treated)), metric="m", **options)


def test_an_inconclusive_verdict_names_the_further_seeds():
    c = comparison([1.0, 0.2, -0.3], margin=0.1)
    more = c.further_seeds
    assert c.verdict == "inconclusive" and more is not None and more > 3
    plan = Plan(recipe="r", source="", arms=(), seeds=(0, 1, 2), metric="m", horizon=5)
    said = summarise(plan, [c], (), None)
    assert f"Further seeds may settle: a (about {more} more)." in said.next and "Inconclusive: a" in said.statement
    assert said.remedy is None and "None of 1 arm is shown to make m better" in said.statement
    assert f"about {more} more seeds" in Cell(report.to_cell("", {"single": [c]})).text
    hopeless = comparison([1.0, -1.0])
    assert hopeless.further_seeds is None
    assert "Not settled by 1000 seeds" in summarise(plan, [hopeless], (), None).next


@pytest.fixture(scope="module")
def stopped(pool, reference, tmp_path_factory):
    return trial(
        reference("recipes_tiny", "healthy"),
        [Knob("pool", "batch"), LearningRate(2.0)],
        seeds=8,
        horizon=60,
        guards=["loss=lower"],
        folder=tmp_path_factory.mktemp("stopped"),
        executor=pool,
    )


def test_an_arm_that_is_clearly_worse_stops_early_and_says_so(stopped):
    worse, other = stopped.comparisons
    after = len(worse.seeds)
    assert worse.verdict == "worse" and 4 <= after < worse.stopped_of == 8 and worse.seeds == tuple(range(after))
    assert worse.high < -worse.margin and worse.confidence == 1 - 0.005 / 2
    assert other.stopped_of is None and len(other.seeds) == 8
    assert len(list((stopped.folder / "runs").glob("*.json"))) == 8 + after + 8
    assert f"stopped after {after} of 8 seeds" in stopped.conclusion.statement and f"{after} of 8" in str(stopped)
    assert f"stopped after {after} of 8 seeds" in Cell(stopped._repr_html_()).text
    content = json.loads((stopped.folder / "trial.json").read_text())
    assert content["plan"]["early_stop"] is True
    assert [c["stopped_of"] for c in content["comparisons"]] == [8, None]
    assert f"stopped after {after} of 8 seeds" in report.to_html(report.build(stopped.folder))


def test_guards_are_planned_and_shown_and_harm_is_pointed_out(stopped):
    assert stopped.plan.guards == ("loss=lower",), "the recipe's own, with the direction that was given"
    harmed, other = stopped.guards
    assert (harmed.arm, harmed.metric, harmed.verdict) == ("pool=batch", "loss", "worse")
    assert len(harmed.seeds) < len(other.seeds) == 8 and harmed.confidence == pytest.approx(1 - 0.04 / 2)
    assert "Beside it gets worse: loss by +" in stopped.conclusion.statement
    assert "] with pool=batch." in stopped.conclusion.statement
    assert "beside it" in str(stopped) and "loss" in str(stopped)
    content = json.loads((stopped.folder / "trial.json").read_text())
    assert [g["verdict"] for g in content["guards"]] == [g.verdict for g in stopped.guards]
    console = Console(record=True, width=100, file=open(os.devnull, "w"))
    report.to_text(report.build(stopped.folder), console)
    console.file.close()
    assert "gets worse with pool=batch: loss" in console.export_text()


def test_a_recipe_in_hand_is_found_by_its_name(reference, monkeypatch):
    text = reference("recipes_tiny", "guilty")
    assert reference_to(text) == text
    assert reference_to(load_recipe(text)) == text, "loaded by reference, it is the file again"
    module = importlib.import_module("recipes_tiny")
    assert reference_to(module.hopeless) == "recipes_tiny:hopeless"
    assert load_recipe(reference_to(module.hopeless)) is module.hopeless


def test_a_recipe_without_a_name_is_an_error():
    nameless = Recipe(build=lambda seed, knobs: None, knobs=dict, metric="m")  # type: ignore[arg-type]
    with pytest.raises(PitpropError, match="notebook"):
        pitprop.trial(nameless, [GUILTY])
