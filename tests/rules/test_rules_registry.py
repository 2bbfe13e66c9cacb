"""The registry is the folder, every file is a page, and every page's example runs."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

import pitprop.rules
from pitprop import PitpropError, remedies
from pitprop.rules import RULES, by_name, page

SECTIONS = [
    "What it detects",
    "Why it matters",
    "Reads",
    "Threshold",
    "When it is wrong",
    "Remedies",
    "Example",
    "References",
]
INTERVENTIONS = {
    *("Knob", "Ablate", "Scale", "Freeze", "Detach", "Replace"),
    *("ClipGradient", "LearningRate", "Reinitialise", "Stage"),
    *("Precision", "ResetOptimizer", "ShuffleCondition", "WeightDecay"),
}
REMEDIES = {remedy.name for remedy in remedies.REMEDIES}
FOLDER = Path(pitprop.rules.__file__).parent
by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def sections(text: str) -> dict[str, str]:
    """Heading -> body of a page."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_registry_equals_folder():
    files = {path.stem for path in FOLDER.glob("[!_]*.py")}
    assert {rule.name.replace("-", "_") for rule in RULES} == files
    assert len({rule.name for rule in RULES}) == len(RULES)


@by_rule
def test_name_file_and_class_agree(rule):
    module = type(rule).__module__.rpartition(".")[2]
    assert module == rule.name.replace("-", "_")
    assert type(rule).__name__.lower() == rule.name.replace("-", "")


@by_rule
def test_page_has_all_sections_in_order_and_none_is_empty(rule):
    first, *_ = page(rule).splitlines()
    assert first.endswith(".") and not first.startswith("#")
    found = sections(page(rule))
    assert list(found) == SECTIONS
    assert all(body.strip() for body in found.values())
    for name in rule.reads:
        assert f"`{name}`" in found["Reads"]


@by_rule
def test_example_on_the_page_runs(rule):
    module = importlib.import_module(type(rule).__module__)
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@by_rule
def test_rule_is_a_frozen_value_whose_thresholds_are_explained(rule):
    with pytest.raises(FrozenInstanceError):
        rule.patience = 1
    assert rule == type(rule)() and hash(rule) == hash(type(rule)())
    assert rule.severity in ("note", "warning", "failure") and rule.shelf in ("preview", "stable")
    assert rule.reads and fields(rule)
    assert set(rule.remedies) <= INTERVENTIONS | REMEDIES


@by_rule
def test_cofactors_are_notes(rule):
    """Entropy is never a verdict."""
    if rule.name.startswith("attention-") or rule.name == "gradient-conflict":
        assert rule.severity == "note"


def test_by_name_finds_and_suggests():
    assert all(by_name(rule.name) is rule for rule in RULES)
    with pytest.raises(PitpropError) as error:
        by_name("output-duplicaton")
    text = str(error.value)
    assert text.startswith("there is no rule `output-duplicaton`\nDo: did you mean `output-duplication`, ")
    assert text.endswith("?\nRead: pitprop list rules")


def test_no_framework_is_imported():
    code = "import sys, pitprop.rules, pitprop.checks; sys.exit(any(m in sys.modules for m in ('torch', 'jax')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_helpers_are_documented():
    for path in FOLDER.glob("_*.py"):
        module = importlib.import_module(f"pitprop.rules.{path.stem}") if path.stem != "__init__" else pitprop.rules
        assert inspect.getdoc(module)
