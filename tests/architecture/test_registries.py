"""Registries are explicit tuples; each agrees with its folder, and every name that one room says another room knows."""

import re
from pathlib import Path

import pitprop
from pitprop.cases import CASES
from pitprop.checks import CHECKS
from pitprop.indicators import INDICATORS
from pitprop.remedies import REMEDIES
from pitprop.rules import RULES
from pitprop.trials.interventions import INTERVENTIONS

SOURCE = Path(pitprop.__file__).parent


def modules(folder: str) -> set[str]:
    return {p.stem for p in (SOURCE / folder).glob("*.py") if not p.stem.startswith("_")}


def test_rules_name_remedies_that_exist():
    known = {remedy.name for remedy in REMEDIES} | {intervention.__name__ for intervention in INTERVENTIONS}
    for rule in RULES:
        assert set(rule.remedies) <= known, rule.name


def test_case_folders():
    folders = {p.name for p in (SOURCE / "cases").iterdir() if p.is_dir() and not p.name.startswith("_")}
    assert folders == {case.name for case in CASES}


def test_rule_folder():
    assert modules("rules") == {rule.name.replace("-", "_") for rule in RULES}


def test_the_readme_counts_what_the_registries_hold():
    readme = (SOURCE.parents[1] / "README.md").read_text(encoding="utf-8")
    counts = {"rules": len(RULES), "checks": len(CHECKS), "indicators": len(INDICATORS)}
    assert {name: int(number) for number, name in re.findall(r"\b(\d+) (rules|checks|indicators)\b", readme)} == counts
