"""Registries are explicit tuples; each agrees with its folder, and every name that one room says another room knows."""

from pathlib import Path

import pitprop
from pitprop.cases import CASES
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
