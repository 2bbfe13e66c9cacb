"""The list of cases names what is there, and costs nothing to import."""

import subprocess
import sys
from pathlib import Path

import pytest

import pitprop.cases
from pitprop._errors import PitpropError
from pitprop.cases import CASES, by_name
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


def test_an_unknown_name_is_explained():
    with pytest.raises(PitpropError, match="There is no case `model_merge`: did you mean `model_merging`"):
        by_name("model_merge")


def test_the_registry_alone_imports_no_framework():
    code = "import pitprop.cases, sys; print(sorted({'torch', 'jax', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
