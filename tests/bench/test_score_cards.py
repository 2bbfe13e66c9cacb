"""The machinery behind the score cards: the table, the counting, the seeds, and a few real runs."""

import itertools
import json
import math

import pytest
from score_cards import __main__ as command
from score_cards import card, run, variants
from score_cards.run import Run
from score_cards.variants import Variant

from pitprop.records import RUN, Finding
from pitprop.rules import RULES, _card, by_name

SPIKE = by_name("loss-spike")


# -- the table ----------------------------------------------------------------------------------------------------


def test_every_rule_has_one_fault_and_no_fault_is_of_nothing():
    faults = [v.rule for v in variants.table() if v.kind == "fault"]
    assert sorted(faults) == sorted(rule.name for rule in RULES)


def test_the_table_is_whole():
    table = variants.table()
    assert len({(v.kind, v.name) for v in table}) == len(table)
    assert len({v.model for v in table if v.kind == "healthy"}) >= 8
    rules = {rule.name for rule in RULES}
    for variant in table:
        assert (variant.kind == "fault") == (variant.truth is not None)
        assert set(variant.true_of) <= rules


def test_the_address_of_a_run_is_of_what_makes_it():
    """Seeds, steps and values that a fault closes over change it; it is the same each time it is asked."""
    [fault] = [v for v in variants.table() if v.rule == "adapter-runaway"]
    [other] = [v for v in variants.table() if v.rule == "weight-growth"]
    assert Run(fault, 0).folder == Run(fault, 0).folder
    different = [
        Run(Variant(kind="fault", name="x", model="lora", step=step, change=change, truth=truth), seed).folder.name
        for step, change, truth, seed in (
            (150, fault.change, fault.truth, 0),
            (151, fault.change, fault.truth, 0),
            (150, other.change, fault.truth, 0),
            (150, fault.change, other.truth, 0),
        )
    ]
    assert len(set(different)) == 4


# -- the counting -------------------------------------------------------------------------------------------------


def labelled(kind="healthy", *, detected=(), severity="failure", took=True, name="a", seed=0, step=0, **other):
    variant = Variant(
        kind=kind, name=name, model="mlp", step=step, rule="loss-spike" if kind == "fault" else "", **other
    )
    found = tuple(
        Finding(rule="loss-spike", severity=severity, site=RUN, onset=d, detected=d, message="") for d in detected
    )
    return card.Labelled(Run(variant, seed), took, frozenset({"loss"}), found)


def test_a_card_from_labelled_runs():
    healthy = [labelled(seed=s) for s in range(9)] + [labelled(name="b", detected=[5])]
    faults = [labelled("fault", step=100, seed=s, detected=[100 + d]) for s, d in enumerate((10, 20, 30, 40, 50))]
    faults += [labelled("fault", step=100, seed=5), labelled("fault", step=100, seed=6, took=False, detected=[120])]
    one = card.card_of(SPIKE, [*healthy, *faults], "test")
    assert (one.healthy, one.alarms, one.alarmed_on) == (10, 1, {"healthy b": 1})
    assert (one.faults, one.not_taken, one.missed) == (6, 1, 1)
    assert (one.delay, one.delay_low, one.delay_high) == (35.0, 10.0, math.inf)
    assert one.line() == "1 of 10 healthy, missed 1 of 6, delay 35 [10, never] steps"


def test_what_counts_as_an_alarm():
    notes = [labelled(detected=[5], severity="note")]
    assert card.card_of(SPIKE, notes, "").alarms == 0 and card.card_of(SPIKE, notes, "").notes == 1
    right = [labelled("benign", detected=[5], true_of=("loss-spike",))]
    assert card.card_of(SPIKE, right, "").healthy == 0
    unread = [card.Labelled(labelled().run, True, frozenset({"dead_share"}), ())]
    assert card.card_of(SPIKE, unread, "").healthy == 0


def test_findings_before_the_injection_are_not_hits():
    early = labelled("fault", step=100, detected=[50])
    assert card.card_of(SPIKE, [early], "").missed == 1


def test_findings_of_other_rules_on_a_fault_run_are_shown_and_not_false():
    fault = labelled("fault", step=100, detected=[110])
    other = Finding(rule="non-finite", severity="failure", site=RUN, onset=120, detected=120, message="")
    both = card.Labelled(fault.run, True, fault.indicators | {"loss"}, (*fault.findings, other))
    assert card.card_of(SPIKE, [both], "").also == {"non-finite": 1}
    assert card.card_of(by_name("non-finite"), [both], "").alarms == 0


def test_median_interval_holds_the_median_as_often_as_it_says():
    """Over all orders of n values around their median: the k-th smallest is over it where fewer than k lie under it."""
    for n in (6, 9, 12):
        low, high = card.median_interval(range(n))  # values are their own index, so k = low + 1
        under = [sum(sides) for sides in itertools.product((0, 1), repeat=n)]
        assert sum(low < number <= high for number in under) / 2**n >= 0.95
        assert sum(low + 1 < number <= high - 1 for number in under) / 2**n < 0.95
    assert all(math.isnan(v) for v in card.median_interval(range(5)))


def test_shares_are_clopper_pearson():
    assert card.share(0, 90) == pytest.approx((0.0, 1 - 0.025 ** (1 / 90)))
    assert card.share(0, 0) == (0.0, 1.0)


def test_what_is_written_is_read_again_and_other_rules_keep_theirs(tmp_path):
    path = tmp_path / "cards.json"
    path.write_text('{"cards": []}')
    faults = [labelled("fault", step=100, seed=s, detected=[110] * (s > 3)) for s in range(6)]
    one = card.card_of(SPIKE, faults, "test")
    card.write([one], path)
    card.write([card.card_of(by_name("non-finite"), [labelled()], "test")], path)
    stored = json.loads(path.read_text())["cards"]
    assert [c["rule"] for c in stored] == ["non-finite", "loss-spike"]
    assert _card.read(stored[1]) == one and math.isinf(one.delay)


# -- the seeds ----------------------------------------------------------------------------------------------------


def seeds(*arguments: str) -> set[int]:
    return {run.seed for run in command.select(command.parse(list(arguments)))}


def test_development_and_the_card_share_no_seed():
    assert seeds() == {0, 1, 2, 3, 4, 5}
    assert seeds("--development", "--seeds", "2") == {100, 101}
    assert seeds("--quick") == {100}


def test_several_rules_at_once_are_their_faults_and_all_that_is_healthy():
    chosen = command.select(command.parse(["--only", "loss-spike", "non-finite"]))
    assert {run.variant.rule for run in chosen} == {"loss-spike", "non-finite", ""}
    assert len(chosen) == 6 * (2 + sum(v.kind != "fault" for v in variants.table()))
    assert [one.rule for one in card.cards([], ["loss-spike", "non-finite"], "")] == ["non-finite", "loss-spike"]


@pytest.mark.parametrize("arguments", [["--seeds", "5"], ["--seeds", "101"], ["--development", "--seeds", "0"]])
def test_a_card_of_too_few_or_of_development_seeds_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        command.parse(arguments)
    assert "seeds" in capsys.readouterr().err


def test_development_and_failed_runs_write_nothing(monkeypatch, tmp_path, capsys):
    path = tmp_path / "cards.json"
    path.write_text('{"cards": []}')
    few = [Run(v, 0) for v in variants.table()[:3]]
    monkeypatch.setattr(command, "select", lambda options: few)
    monkeypatch.setattr(card, "write", lambda new: path.write_text("written"))
    monkeypatch.setattr(command, "run_all", lambda wanted, *_: iter([(wanted[0], RuntimeError("no"))]))
    assert command.main([]) == 1 and path.read_text() == '{"cards": []}'
    monkeypatch.setattr(command, "run_all", lambda *_: iter(()))
    assert command.main(["--development"]) == 0 and path.read_text() == '{"cards": []}'
    assert command.main([]) == 0 and path.read_text() == "written"
    assert "about" in capsys.readouterr().out


# -- real runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "CACHE", tmp_path_factory.mktemp("traces"))
    yield
    patch.undo()


def test_a_fault_takes_and_is_found_after_it_was_made_and_a_trace_is_made_once(cache):
    fault = run.find("fault", "posterior-collapse", command.DEVELOPMENT)
    result = run.train(fault)
    written = (fault.folder / "trace.sqlite").stat().st_mtime_ns
    assert run.train(fault) == result and (fault.folder / "trace.sqlite").stat().st_mtime_ns == written
    judged = card.Labelled(fault, *card.judge("fault", "posterior-collapse", command.DEVELOPMENT))
    findings = judged.of(by_name("posterior-collapse"))
    assert judged.took and findings and all(f.detected >= 150 for f in findings)


@pytest.mark.slow
def test_its_healthy_twin_is_left_alone(cache):
    healthy = run.find("healthy", "vae", command.DEVELOPMENT)
    _, _, findings = card.judge("healthy", "vae", command.DEVELOPMENT)
    assert healthy.result is not None and healthy.result["score"] > 0.3
    assert [f for f in findings if f.severity != "note"] == []


def test_a_run_that_was_cut_off_begins_anew(cache):
    short = Run(Variant(kind="healthy", name="short", model="mlp", knobs={"steps": 20}), command.DEVELOPMENT)
    run.train(short)
    (short.folder / "result.json").unlink()
    assert short.result is None and run.train(short)["took"]


@pytest.mark.slow
def test_the_command_trains_in_other_processes(cache, capsys):
    wanted = [run.find("healthy", "vae", command.DEVELOPMENT)]
    [(done, judged)] = run.run_all(wanted, 1, card.judge)
    assert done is wanted[0] and judged[0] is True and "latent_kl" in judged[1]
