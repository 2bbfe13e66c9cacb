"""The result of a trial: a value that prints as a table, draws itself in a notebook and is written as `trial.json`."""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from pitprop.records import Comparison
from pitprop.report.as_cell import to_cell
from pitprop.report.as_text import failed_lines, guards_table, trials_tables
from pitprop.report.value import Guard as ShownGuard
from pitprop.report.value import Trial as Shown
from pitprop.report.wording import restarted
from pitprop.trials.conclude import Conclusion
from pitprop.trials.guards import Guard
from pitprop.trials.plan import Plan
from pitprop.trials.proof import ForkProof
from pitprop.trials.trial_file import trial_content


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Trial:
    """What a trial found. It prints as a table and draws itself in a notebook; the same is in `trial.json`."""

    folder: Path
    """Holds `plan.json`, `runs/`, `trial.json`; `pitprop report FOLDER` shows it."""
    plan: Plan
    """What was run and how it was to be judged, hashed before the first run."""
    comparisons: tuple[Comparison, ...]
    """Each arm against the control; the intervals hold for all arms together."""
    effects: tuple[Comparison, ...] = ()
    """Main effects and two-way interactions of a factorial; their intervals hold together as well."""
    guards: tuple[Guard, ...] = ()
    """What each arm does to the metrics that don't decide; their intervals hold together."""
    conclusion: Conclusion
    """The answer in words, and the further seeds that may settle what is open."""
    fork: ForkProof | None = None
    """Proof that the recipe can be forked; None for a trial from step 0."""
    failed: tuple[Mapping[str, Any], ...] = ()
    """Runs that raised, hung, died, or ended without a finite metric: arm, seed, error."""
    timing: Mapping[str, float] = field(default_factory=dict)
    """Runs, seconds of training per run, milliseconds of engine per run."""
    command: tuple[str, ...] = ()
    """The command line that makes it again, where there is one."""
    wall_s: float = math.nan
    """Seconds that the trial took, runs that were there already not counted."""

    @property
    def rounds(self) -> dict[str, tuple[Comparison, ...]]:
        """The comparisons by the name that `trial.json` gives them, what answers the question first."""
        rounds = {"factors": self.effects, "single": self.comparisons}
        return {name: comparisons for name, comparisons in rounds.items() if comparisons}

    def to_dict(self) -> dict[str, Any]:
        """The content of `trial.json`: JSON values, with "nan" for NaN."""
        return trial_content(
            plan=self.plan,
            rounds=self.rounds,
            fork=self.fork,
            conclusion=self.conclusion,
            guards=self.guards,
            failed=self.failed,
            timing=self.timing,
            command=self.command,
            wall_s=self.wall_s,
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.conclusion.statement)
        shown = [Shown(round=name, comparison=c) for name, comparisons in self.rounds.items() for c in comparisons]
        for table in trials_tables(shown, options.max_width, ascii_only=options.ascii_only):
            yield Text()
            yield table
        if self.guards:
            yield Text()
            yield guards_table(self._guards())
        for words in self._remarks():
            yield Text(words, style="dim")

    def __str__(self) -> str:
        file = io.StringIO()
        # In a notebook rich would show it at once, beside what `_repr_html_` draws, and leave the text empty.
        Console(file=file, width=100, color_system=None, legacy_windows=False, force_jupyter=False).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return to_cell(self.conclusion.statement, self.rounds, self._remarks(), self._guards())

    def _guards(self) -> list[ShownGuard]:
        return [ShownGuard(**asdict(g)) for g in self.guards]

    def _remarks(self) -> list[str]:
        return [
            *failed_lines(self.failed),
            *restarted(int(self.timing.get("restarted_runs", 0))),
            *([self.conclusion.next] if self.conclusion.next else []),
            f"folder: {self.folder}",
        ]
