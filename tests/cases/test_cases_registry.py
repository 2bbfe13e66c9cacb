"""The list of cases names what is there, and costs nothing to import."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import pitprop.cases
from pitprop._errors import PitpropError
from pitprop.cases import CASES, by_name
from pitprop.cases._result import CaseResult
from pitprop.cli import main
from pitprop.trials.load import load_attribute, load_recipe

FOLDER = Path(pitprop.cases.__file__).parent


def test_the_registry_equals_the_folder():
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert {case.name for case in CASES} == folders


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_its_references_lead_somewhere(case):
    recipe = load_recipe(case.recipe)
    assert recipe.metric not in recipe.guards
    assert callable(load_attribute(case.run))
    assert by_name(case.name) is case
    assert (FOLDER / case.name / "README.md").is_file()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_its_options_have_defaults_and_sentences(case, capsys):
    assert case.options() is not None
    assert main(["case", case.name, "--help"]) == 0
    printed = capsys.readouterr().out
    for field in fields(case.options):
        assert f"--{field.name.replace('_', '-')}" in printed
        source = inspect.getsource(case.options)
        assert re.search(rf'{field.name}: .*\n    """', source), field.name


def test_a_case_that_takes_minutes_by_itself_names_the_diagnosis_in_place_of_making_it(monkeypatch, tmp_path, capsys):
    result = CaseResult(title="", rows=(("a row", "its value"),), files=())
    monkeypatch.setattr("pitprop.cases.timestep_attack.run.run", lambda *_, **__: result)
    monkeypatch.setattr("pitprop.cli.case.find_cause", lambda *_, **__: pytest.fail("nobody asked"))
    assert main(["case", "timestep_attack", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "its value" in printed and "pitprop diagnose timestep_attack" in printed
    with pytest.raises(pytest.fail.Exception):
        main(["case", "timestep_attack", "--diagnose", "--out", str(tmp_path)])


def test_a_case_that_is_none_is_explained(capsys):
    assert main(["case", "model_merge"]) == 2
    assert 'Did you mean "model_merging"?' in capsys.readouterr().err


def test_an_unknown_name_is_explained():
    with pytest.raises(PitpropError, match="There is no case `model_merge`: did you mean `model_merging`"):
        by_name("model_merge")


def test_the_registry_alone_imports_no_framework():
    code = "import pitprop.cases, sys; print(sorted({'torch', 'jax', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
