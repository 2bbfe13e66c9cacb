"""The records are frozen, and every field carries a sentence."""

import ast
import dataclasses
from pathlib import Path

import pytest

from pitprop import records
from pitprop.records import RUN, Finding, Row

RECORDS = (records.Row, records.Finding, records.Comparison, records.RunInfo)


def test_frozen():
    row = Row(step=0, site=RUN, values={"loss": 1.0})
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.step = 1


def test_delay():
    assert Finding(rule="r", severity="note", site=RUN, onset=10, detected=14, message="m").delay == 4


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_has_a_sentence(record):
    tree = ast.parse(Path(records.__file__).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == record.__name__).body
    for here, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(here, ast.AnnAssign):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert documented and str(after.value.value).endswith("."), here.target.id
