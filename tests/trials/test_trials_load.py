"""Loading a recipe and reading its knobs: what is right works, and each way to be wrong has its own message."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest

from pitprop import PitpropError
from pitprop.trials import Recipe, load_recipe
from pitprop.trials.interventions import Replace, from_dict, to_dict
from pitprop.trials.knobs import alternatives, knobs_to_json, make_knobs
from pitprop.trials.sources import source_digest

RECIPE = """
from dataclasses import dataclass
from pitprop.trials import Recipe
{before}
@dataclass
class Knobs:
    {knobs}
recipe = Recipe(build=print, knobs={kind}, metric="m")
"""


def write(tmp_path, before="", knobs="lr: float = 0.1", kind="Knobs"):
    file = tmp_path / "train.py"
    file.write_text(RECIPE.format(before=before, knobs=knobs, kind=kind))
    return file


def test_a_recipe_can_be_written_without_torch():
    code = "import sys; from pitprop.trials import Recipe, load_recipe; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_from_a_file_with_a_neighbour(tmp_path):
    (tmp_path / "neighbour_of_train.py").write_text("WIDTH = 3\n")
    file = write(tmp_path, before="from neighbour_of_train import WIDTH", knobs="width: int = WIDTH")
    assert load_recipe(f"{file}:recipe").knobs().width == 3


def test_from_a_module_here(tmp_path, monkeypatch):
    package = tmp_path / "package_of_a_user"
    package.mkdir()
    write(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(load_recipe("package_of_a_user.train:recipe"), Recipe)
    with pytest.raises(PitpropError, match=r"no module `package_of_a_user\.trian`"):
        load_recipe("package_of_a_user.trian:recipe")


def test_an_edited_file_is_loaded_anew_and_has_another_digest(tmp_path):
    file = write(tmp_path)
    before = source_digest(f"{file}:recipe")
    assert source_digest(f"{file}:recipe") == before
    write(tmp_path, knobs="rate: float = 0.5")
    assert load_recipe(f"{file}:recipe").knobs().rate == 0.5
    assert source_digest(f"{file}:recipe") != before


FILES = {
    "recipe.py": "import parts.conf\ndef build():\n    from library_of_a_user import deep\n",
    "parts/conf.py": "WIDTH = 1\n",
    "notes/a.txt": "",
}
LIBRARY = {"library_of_a_user/__init__.py": "", "library_of_a_user/a/deep.py": "import second_of_a_user\n",
           "second_of_a_user.py": "", "not_imported_by_a_user.py": ""}  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    for folder, files in (("recipes", FILES), ("lib", LIBRARY)):
        for name, text in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.chdir(tmp_path / "recipes")
    return tmp_path / "recipes"


@pytest.mark.parametrize("reference", ["{}/recipe.py:r", "recipe:r"])
@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("parts/conf.py", True),
        ("../lib/library_of_a_user/a/deep.py", True),
        ("../lib/library_of_a_user/by_name.py", True),
        ("../lib/second_of_a_user.py", True),
        ("../lib/not_imported_by_a_user.py", False),
        ("notes/a.txt", False),
        (".hidden/a.py", False),
        ("runs/pyvenv.cfg", False),
    ],
)
def test_what_the_recipe_imports_counts_wherever_it_lies(project, reference, edited, counts):
    reference = reference.format(project)
    before = source_digest(reference)
    (project / edited).parent.mkdir(exist_ok=True)
    (project / edited).write_text("# edited\n")
    assert (source_digest(reference) != before) == counts
    code = f"from pitprop.trials.sources import source_digest; print(source_digest({reference!r}))"
    path = f"{project.parent / 'lib'}:{':'.join(sys.path)}"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.stdout.decode().strip() == source_digest(reference), done.stderr


def test_the_digest_is_the_same_on_another_machine(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "elsewhere"
    shutil.copytree(project, other)
    assert source_digest(f"{project}/recipe.py:r") == source_digest(f"{other}/recipe.py:r")


def test_an_edited_factory_is_another_change(project):
    (project / "factory.py").write_text("import parts.conf\ndef make(old): return old\n")
    before = Replace("head", "factory.py:make")
    assert before.remedy == f"{project}/factory.py:make" and Replace("head", "factory.py:make") == before
    for edited in ("factory.py", "parts/conf.py"):
        (project / edited).write_text("def make(old): return None\n")
        after = Replace("head", "factory.py:make")
        assert after.source != before.source
        before = after
    (project / "factory.py").unlink()
    assert from_dict(to_dict(before)) == before, "an old plan is read as it was written"
    assert Replace("head", "unit-rms").source == ""


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("train.py", "not a reference"),
        (":recipe", "not a reference"),
        ("{folder}/trian.py:recipe", "no file .*did you mean `train.py`"),
        ("{folder}/train.py:recip", "no attribute `recip`: did you mean `recipe`"),
        ("{folder}/train.py:Knobs", "is a type, not a Recipe"),
        ("no_such_package_at_all.x:recipe", "no module `no_such_package_at_all`"),
    ],
)
def test_what_is_not_there(tmp_path, reference, message):
    write(tmp_path)
    with pytest.raises(PitpropError, match=message):
        load_recipe(reference.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("1 / 0", r"ZeroDivisionError: division by zero \(at .*train\.py:4\)"),
        ("import no_such_module_at_all", r"No module named 'no_such_module_at_all'"),
        ("def f(:", r"SyntaxError.*train\.py:4"),
    ],
)
def test_a_file_that_raises_shows_its_own_line(tmp_path, before, message):
    file = write(tmp_path, before=before)
    with pytest.raises(PitpropError, match=message):
        load_recipe(f"{file}:recipe")


@pytest.mark.parametrize(
    ("knobs", "kind", "message"),
    [("lr: float", "Knobs", "no default for: lr"), ("lr: float = 1", "dict", "not a dataclass")],
)
def test_knobs_must_be_a_dataclass_with_defaults(tmp_path, knobs, kind, message):
    file = write(tmp_path, knobs=knobs, kind=kind)
    with pytest.raises(PitpropError, match=message):
        load_recipe(f"{file}:recipe")


@dataclass(frozen=True)
class Knobs:
    gate: Literal["none", "pooled"] = "none"
    heads: Literal[1, 4] = 4
    clip: bool = False
    depth: int = 2
    lr: float = 0.1
    name: str = "x"
    warmup: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    extra: list = field(default_factory=list)


KNOBS = Recipe(build=print, knobs=Knobs, metric="m")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("gate", "pooled", "pooled"),
        ("heads", "1", 1),
        ("heads", 1, 1),
        ("clip", "true", True),
        ("clip", "off", False),
        ("depth", "3", 3),
        ("depth", 3.0, 3),
        ("lr", "1e-3", 1e-3),
        ("lr", 1, 1.0),
        ("name", "3", "3"),
        ("warmup", "none", None),
        ("warmup", "7", 7),
        ("sizes", [3, 4], (3, 4)),
    ],
)
def test_knobs_are_read_by_type(name, text, value):
    got = getattr(make_knobs(KNOBS, {name: text}), name)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gat", "none", "no knob `gat`: did you mean `gate`"),
        ("gate", "pool", "did you mean `pooled`"),
        ("heads", True, "cannot be True"),
        ("clip", "maybe", "true or false"),
        ("depth", "2.5", "a whole number"),
        ("depth", 2.5, "a whole number"),
        ("depth", True, "a whole number"),
        ("lr", "fast", "a number"),
        ("name", 3, "it takes text"),
        ("warmup", "soon", "it takes int | None"),
        ("sizes", "1,2", "write it as JSON"),
    ],
)
def test_wrong_knobs_are_errors_with_a_hint(name, text, message):
    with pytest.raises(PitpropError, match=message):
        make_knobs(KNOBS, {name: text})


def test_knobs_round_trip_through_json():
    knobs = make_knobs(KNOBS, {"sizes": (5,), "warmup": 2})
    assert make_knobs(KNOBS, knobs_to_json(knobs)) == knobs
    with pytest.raises(PitpropError, match="`extra` holds a list"):
        knobs_to_json(Knobs(extra=[print]))


def test_alternatives_are_what_literals_and_bools_declare():
    assert alternatives(KNOBS, Knobs()) == [("gate", "pooled"), ("heads", 1), ("clip", True)]
    assert ("clip", False) in alternatives(KNOBS, Knobs(clip=True))
