"""The registry names what is there, and a remedy imports its framework and nothing else."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pitprop.remedies
from pitprop.remedies import REMEDIES

FOLDER = Path(pitprop.remedies.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*/*.py") if path.stem != "__init__")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or ".").split(".")[0])
    return names


def test_the_registry_equals_the_folder():
    listed = {(remedy.framework, remedy.name.replace("-", "_")) for remedy in REMEDIES}
    assert listed == {(path.parent.name, path.stem) for path in FILES}
    assert [remedy.name for remedy in REMEDIES] == sorted(remedy.name for remedy in REMEDIES)


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: f"{remedy.framework}-{remedy.name}")
def test_where_leads_to_something_documented(remedy):
    for where in remedy.where:
        module, _, attribute = where.partition(":")
        assert getattr(importlib.import_module(module), attribute).__doc__


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_remedy_is_a_leaf(path):
    frameworks = {"torch": {"torch"}, "jax": {"jax", "flax", "optax"}}
    assert imported(path) <= frameworks[path.parent.name] | sys.stdlib_module_names


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_head_comment_answers_its_questions(path):
    head = ast.get_docstring(ast.parse(path.read_text())) or ""
    for word in ("Source", "Differences:", "Cost:", "Insertion:", "Does not help:"):
        assert word in head


def test_the_registry_alone_imports_no_framework():
    code = "import pitprop.remedies, sys; print(sorted({'torch', 'jax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
