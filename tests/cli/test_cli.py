"""The command line, end to end: what a user types, sees and gets as exit code."""

import json
import sqlite3
import sys
import textwrap
from pathlib import Path

import pytest

from pitprop.cases import CASES
from pitprop.cli import app, main
from pitprop.cli._say import progress_bar
from pitprop.records import RUN, RunInfo
from pitprop.trace import Writer


def strict(text: str):
    """JSON as a browser reads it: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} in JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def collapsed_run(tmp_path):
    """A run whose outputs are all the same from step 100 on, and one number that is undefined."""
    folder = tmp_path / "collapsed"
    info = RunInfo(name="collapsed", started="2026-01-01T00:00:00Z")
    with Writer(folder, info) as trace:
        for step in range(0, 400, 5):
            healthy = step < 100
            trace.append(
                step,
                {
                    "loss": {RUN: 1.0 / (1 + step)},
                    "output_uniqueness": {RUN: 1.0 if healthy else 1 / 64},
                    "output_spread": {RUN: 0.8 if healthy else 1e-7},
                    "token_cosine": {"blocks.0": float("nan")},
                },
            )
    return folder


def test_detect_finds_and_says_how_to_go_on(collapsed_run, capsys):
    assert main(["detect", str(collapsed_run)]) == 1
    out = capsys.readouterr().out
    assert "failure output-duplication at <run>" in out
    assert "pitprop explain output-duplication" in out


def test_detect_json_is_strict_and_allow_silences(collapsed_run, capsys):
    assert main(["detect", str(collapsed_run), "--json"]) == 1
    found = strict(capsys.readouterr().out)
    assert found["last_step"] == 395
    rules = {finding["rule"] for finding in found["findings"] if finding["severity"] == "failure"}
    assert rules == {"output-duplication"}
    assert main(["detect", str(collapsed_run), "--allow", "output-duplication"]) == 0


def test_detect_by_one_rule(collapsed_run, capsys):
    assert main(["detect", str(collapsed_run), "--rule", "loss-spike"]) == 0
    assert "Nothing wrong was found" in capsys.readouterr().out


def test_report_from_the_trace_alone(collapsed_run, capsys):
    assert main(["report", str(collapsed_run)]) == 0
    assert "report.html" in capsys.readouterr().out
    page = (collapsed_run / "report.html").read_text()
    assert "output-duplication" in page
    assert main(["report", str(collapsed_run), "--json"]) == 0
    strict(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["rules", "checks", "indicators", "remedies", "interventions", "cases"])
def test_list_and_explain(kind, capsys):
    assert main(["list", kind]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["list", kind, "--json"]) == 0
    for entry in strict(capsys.readouterr().out):
        assert entry["summary"], entry
        assert main(["explain", entry["name"]]) == 0
        assert len(capsys.readouterr().out) > 100, entry


def write(path, code):
    path.write_text(textwrap.dedent(code))
    return path


BAD = {
    "no such file": (lambda tmp: f"{tmp}/nowhere.py:recipe", "nowhere.py"),
    "no such module": (lambda tmp: "no_such_package.module:recipe", "no_such_package"),
    "no such attribute": (lambda tmp: f"{write(tmp / 'a.py', 'receipe = 1')}:recipe", "receipe"),
    "not a recipe": (lambda tmp: f"{write(tmp / 'b.py', 'recipe = 1')}:recipe", "int"),
    "raises on import": (lambda tmp: f"{write(tmp / 'c.py', 'import no_such_thing')}:recipe", "no_such_thing"),
    "neither": (lambda tmp: "model_mergin", "model_merging"),
    "only a file": (lambda tmp: "recipes.py", "recipes.py:recipe"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_recipes_are_explained(name, tmp_path, capsys):
    reference, expected = BAD[name]
    assert main(["diagnose", reference(tmp_path), "--out", str(tmp_path / "out")]) == 2
    seen = capsys.readouterr()
    assert expected in seen.err.replace("\n", "").replace("│", "").replace(" ", "") or expected in seen.err
    assert "Traceback" not in seen.err


def test_a_recipe_that_raises_while_building(tmp_path, capsys):
    path = write(
        tmp_path / "raises.py",
        """
        import dataclasses, pitprop

        @dataclasses.dataclass(frozen=True)
        class Knobs:
            width: int = 3

        def build(seed, knobs):
            raise ValueError("the data set is on another machine")

        recipe = pitprop.Recipe(build=build, knobs=Knobs, metric="accuracy")
        """,
    )
    assert main(["diagnose", f"{path}:recipe", "--out", str(tmp_path / "out")]) == 2
    assert "the data set is on another machine" in capsys.readouterr().err


def test_check_says_what_it_sees_and_fails_on_request(capsys):
    small = ["check", "model_merging", "--knob", "d_model=20"]
    assert main(small) == 0
    assert "warning saturated-at-initialisation at neck.squash" in capsys.readouterr().out
    assert main([*small, "--fail-on", "warning", "--json"]) == 1
    assert strict(capsys.readouterr().out)["findings"][0]["site"] == "neck.squash"


def test_a_model_that_cannot_step_cannot_be_checked(capsys):
    assert main(["check", "model_merging", "--knob", "d_model=7"]) == 2
    err = capsys.readouterr().err
    assert "RuntimeError" in err and "Traceback" not in err


def test_a_bug_of_ours_does_not_look_like_a_finding(monkeypatch, capsys):
    monkeypatch.setattr("pitprop.catalogue.entries", lambda kind: 1 / 0)
    assert main(["list", "rules"]) == 70
    assert "bug in pitprop" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    import pitprop.trials

    # What is imported again below becomes an attribute of `pitprop`; other tests need the one that they know.
    monkeypatch.setattr(pitprop, "trials", pitprop.trials)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("pitprop.trials") and "progress" not in name]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["check", "model_merging"]) == 2
    assert "pip install 'pitprop[torch]'" in capsys.readouterr().err


def test_a_case_whose_framework_is_missing_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jax", None)
    for name in [name for name in sys.modules if name.startswith("pitprop.cases.set_diffusion.")]:
        if not name.endswith(".options"):
            monkeypatch.delitem(sys.modules, name)
    assert main(["check", "set_diffusion"]) == 2
    assert "pip install 'pitprop[jax]'" in capsys.readouterr().err


def test_an_interrupt_says_what_is_kept(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pitprop.cli.diagnose.find_cause", interrupt)
    monkeypatch.setattr("pitprop.catalogue.entries", interrupt)
    assert main(["diagnose", "model_merging"]) == 130
    assert "goes on from there" in capsys.readouterr().err
    assert main(["list"]) == 130
    assert "goes on" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["bisect", "diagnose", "trial"])
def test_a_place_that_is_none_is_refused(verb, tmp_path, capsys):
    (tmp_path / "bad.toml").write_text("lr = 1.0")
    more = {"bisect": ["--bad", str(tmp_path / "bad.toml")], "trial": ["--knob-arm", "lr=1.0"]}.get(verb, [])
    recipe = f"{Path(__file__).parents[1] / 'trials' / 'recipes_bisect.py'}:one"
    assert main([verb, recipe, *more, "--on", "slurm", "--out", str(tmp_path / "out")]) == 2
    assert "`slurm` is no place to run a trial on" in capsys.readouterr().err
    assert main([verb, recipe, *more, "--timeout-s", "0", "--out", str(tmp_path / "out")]) == 2
    assert "give a timeout above 0" in capsys.readouterr().err


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_where_a_folder_is_to_be_made_is_no_bug(inside, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    out = file / "out" if inside else file
    assert main(["case", "grid_solver", "--config", "old", "--steps", "1", "--out", str(out)]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert str(file) in said.replace(" ", "") and "name another place" in said and "bug" not in said
    assert file.read_text() == "mine"


def test_what_a_recipe_prints_is_not_in_the_answer(capsys):
    with progress_bar(quiet=True):
        print("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_usage_errors_are_json_too(capsys):
    assert main(["detect", "--jsn", "x", "--json"]) == 2
    assert "error" in strict(capsys.readouterr().out)


def test_no_such_run(tmp_path, capsys):
    assert main(["detect", str(tmp_path / "nothing")]) == 2
    assert main(["report", str(tmp_path / "nothing"), "--json"]) == 2
    assert "error" in strict(capsys.readouterr().out)


def test_trace_of_another_version(collapsed_run, capsys):
    with sqlite3.connect(collapsed_run / "trace.sqlite") as file:
        file.execute("PRAGMA user_version = 999")
    assert main(["detect", str(collapsed_run)]) == 2
    assert "999" in capsys.readouterr().err


def test_truncated_trace_is_kept(collapsed_run, capsys):
    trace = collapsed_run / "trace.sqlite"
    whole = trace.read_bytes()
    trace.write_bytes(whole[: len(whole) // 2])
    assert main(["detect", str(collapsed_run)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert trace.read_bytes() == whole[: len(whole) // 2]


def test_explain_gives_the_nearest_name(capsys):
    assert main(["explain", "output-duplicatoin"]) == 2
    assert "output-duplication" in capsys.readouterr().err


def test_unknown_verb_and_option(capsys):
    assert main(["diagnoze", "x"]) == 2
    assert main(["detect", "x", "--fale-on", "note"]) == 2


def test_export(collapsed_run, tmp_path, capsys):
    import pyarrow.parquet as pq

    assert main(["export", str(collapsed_run), str(tmp_path / "t.parquet")]) == 0
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 80 * 4


CHANGES = (
    "* --ablate --change --clip --detach --freeze --knob-arm --lr --precision --reinitialise --replace "
    "--replace-keeping --reset-optimizer --scale --scale-parameters --shuffle-condition "
    "--stage --swap-data --uniform-attention --weight-decay"
)
OPTIONS = {
    "bisect": "--bad --budget --by-module --good --json --metric --on --out --timeout-s --workers RECIPE",
    "case grid_solver": "* --claims --config --data --diagnose --json --out --preset --seeds --size --steps",
    "case clip_anomaly": "* --claims --clip --context-norm --data --diagnose --json --metadata --out --paper-steps "
    "--preset --seeds --steps --variant",
    "case model_merging": "* --claims --diagnose --json --out --seeds --steps",
    "case set_diffusion": "* --claims --diagnose --fix --json --out --seeds --steps",
    "case timestep_attack": "* --claims --class-names --data --device --diagnose --images --json --mode --out --preset "
    "--resolution --seeds --source --stable-diffusion --surrogate",
    "check": "--allow --fail-on --format --json --knob --seed RECIPE",
    "detect": "--allow --fail-on --format --json --rule RUN",
    "diagnose": f"--json --knob --on --out --screen-seeds --seeds --timeout-s --workers RECIPE {CHANGES}",
    "explain": "--json NAME",
    "export": "--json RUN TO",
    "list": "--json WHAT",
    "report": "--allow --json --out RUN",
    "rescue": "--budget --json --knob --on --out --run --screen-seeds --seeds --timeout-s --workers CHECKPOINT RECIPE "
    f"{CHANGES}",
    "trial": "--direction --early-stop --factorial --fork-step --guard --horizon --json --knob --margin --metric "
    f"--on --out --resolution --seeds --timeout-s --workers RECIPE {CHANGES}",
}


def test_the_options_are_frozen():
    """A new option is a decision: it is added here too."""
    seen = {}
    for name in app:
        if name.startswith("-"):
            continue
        verbs = {f"{name} {case.name}": app[name][case.name] for case in CASES} if name == "case" else {name: app[name]}
        for verb, command in verbs.items():
            seen[verb] = " ".join(sorted({a.name for a in command.assemble_argument_collection()}))
    assert seen == {name: " ".join(sorted(options.split())) for name, options in OPTIONS.items()}


def test_a_page_keeps_its_doctest(capsys):
    assert main(["explain", "blind-metric"]) == 0
    out = capsys.readouterr().out
    assert ">>> import torch" in out and "...     outputs = model(x)" in out and "▌ ▌" not in out


def test_rules_are_listed_within_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", "rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines)
    at = next(i for i, line in enumerate(lines) if line.startswith("output-duplication  failure"))
    assert lines[at + 1].rstrip() == "  Different inputs get the same output."


def test_words_in_another_order_are_recognised(capsys):
    assert main(["explain", "uniform-attention"]) == 2
    assert "did you mean `attention-uniformity`" in " ".join(capsys.readouterr().err.split())


def test_only_recipes_are_suggested_for_a_recipe(tmp_path, capsys):
    code = """
        import dataclasses, pitprop

        @dataclasses.dataclass(frozen=True)
        class Knobs:
            width: int = 3

        def build(seed, knobs):
            raise ValueError(f"width {knobs.width}")

        receipt = 1
        my_recipe = pitprop.Recipe(build=build, knobs=Knobs, metric="accuracy")
        """
    path = write(tmp_path / "named.py", code)
    assert main(["check", f"{path}:recipt"]) == 2
    said = capsys.readouterr().err
    assert "`my_recipe`" in said and "receipt" not in said and "Knobs" not in said
    assert main(["check", f"{path}:my_recipe"]) == 2
    assert "named.py:9)" in "".join(capsys.readouterr().err.replace("│", "").split())


def test_what_a_recipe_warns_of_is_not_above_the_findings(tmp_path, capsys, recwarn):
    tiny = Path(__file__).parents[1] / "trials" / "recipes_tiny.py"
    path = write(
        tmp_path / "warns.py",
        f"""
        import dataclasses, sys, warnings
        sys.path.insert(0, {str(tiny.parent)!r})
        import recipes_tiny

        def build(seed, knobs):
            warnings.warn("my own", UserWarning)
            return recipes_tiny.Regression(seed, knobs)

        recipe = dataclasses.replace(recipes_tiny.healthy, build=build)
        """,
    )
    assert main(["check", f"{path}:recipe"]) in (0, 1)
    assert not [warning for warning in recwarn if "my own" in str(warning.message)]
