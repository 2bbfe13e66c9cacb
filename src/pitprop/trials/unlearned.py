"""A run that ends as it began: a start is excused while it may yet be left, and a recipe says for how long.

Healthy networks begin with outputs alike, one class for all and a loss at the prior's, so live the rules wait for 240
rows before they call it a failure. A recipe's `steps` are what its author thinks is enough to learn something.
"""

from collections.abc import Sequence
from dataclasses import replace

from pitprop.records import Finding, Row
from pitprop.rules import detect


def unlearned(rows: Sequence[Row], live: Sequence[Finding]) -> list[Finding]:
    """Failures that a whole run ends in and that were excused as its start.

    Args:
        rows: All rows of the run, in step order.
        live: What the rules said of them with the excuse.

    Returns:
        Findings whose state held over as many rows at the end as the rule needs of a trained network. They are
        detected at the last row, for not before is the run's length known.
    """
    if not rows:
        return []
    last, said = rows[-1].step, {(f.rule, f.site) for f in live if f.severity == "failure"}
    found = [f for f in _failures(rows) if (f.rule, f.site) not in said]
    return [replace(f, detected=last) for f in found if _ends_in(rows, f)]


def _ends_in(rows: Sequence[Row], finding: Finding) -> bool:
    begin = rows[-1].step - (finding.detected - finding.onset)
    at_the_end = _failures([row for row in rows if row.step >= begin])
    return any((f.rule, f.site) == (finding.rule, finding.site) for f in at_the_end)


def _failures(rows: Sequence[Row]) -> list[Finding]:
    return [f for f in detect(rows, fresh=False) if f.severity == "failure"]
