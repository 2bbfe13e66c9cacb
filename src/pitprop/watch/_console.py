"""What a watch says while the run goes on: findings, the growth of their groups and the end, on standard error."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pitprop.records import RUN, Finding
from pitprop.rules import GRAVITY, Group, Groups, group
from pitprop.watch.schedule import Schedule

STYLES = {"failure": "bold red", "warning": "yellow", "note": "cyan"}


class Voice:
    """Prints what is found as it comes; says nothing when quiet.

    Of a group (`rules/_group.py`) the first finding is printed in full, and so is one that is graver than all before.
    A line follows each time the number of its sites has doubled, and one at the end: 15 at most for 10 000 sites.
    """

    def __init__(self, *, quiet: bool):
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._groups = Groups()

    def know(self, finding: Finding) -> None:
        """A finding that was said before the run was resumed."""
        self._groups.add(finding)

    def finding(self, finding: Finding) -> None:
        """A new finding: in full, as the growth of its group, or left to a later line."""
        wave = self._groups.add(finding)
        gravity, num = GRAVITY.index(finding.severity), len(wave)
        if all(GRAVITY.index(before.severity) > gravity for before in islice(wave, num - 1)):
            self._in_full(finding)
        if num > 1 and _is_power_of_two(num):
            self._group(*group(wave))

    def groups(self) -> None:
        """The groups that have grown since they were spoken of."""
        for one in self._groups.all():
            if not _is_power_of_two(len(one.findings)):
                self._group(one)

    def goodbye(self, schedule: Schedule, folder: Path, notes: Sequence[str]) -> None:
        """What was watched, at what cost, and what was not seen."""
        cost = "" if schedule.share is None else f", {schedule.share:.1%} of the time"
        self._line(f"watched {schedule.num_steps} steps, measured {schedule.num_sampled}{cost}; trace in {folder}")
        for note in notes:
            self._line(note)

    def _in_full(self, finding: Finding) -> None:
        """What, where, the numbers, what to try and how to allow it."""
        where = "" if finding.site == RUN else f" at {finding.site}"
        text = Text.assemble(
            ("pitprop ", "dim"),
            (f"{finding.severity}: {finding.rule}", STYLES[finding.severity]),
            f"{where}, step {finding.detected} (began at {finding.onset})\n  {finding.message}",
        )
        if finding.evidence:
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in finding.evidence.items())
            text.append(f"\n  evidence: {numbers}")
        if finding.remedies:
            text.append(f"\n  worth a trial: {', '.join(finding.remedies)}")
        at_site = "" if finding.site == RUN else f'; here only: "{finding.rule}@{finding.site}"'
        text.append(f'\n  to allow it: allow=["{finding.rule}"]{at_site}', style="dim")
        self._console.print(text, soft_wrap=True)

    def _group(self, one: Group) -> None:
        label = (f"{one.severity}: {one.rule}", STYLES[one.severity])
        self._console.print(Text.assemble(("pitprop ", "dim"), label, f" at {one.summary}"), soft_wrap=True)

    def _line(self, message: str) -> None:
        self._console.print(Text.assemble(("pitprop ", "dim"), message), soft_wrap=True)


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0
