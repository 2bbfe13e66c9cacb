"""What a watch says while the run goes on: findings once, and one closing line, on standard error."""

from rich.console import Console
from rich.text import Text

from pitprop.records import RUN, Finding

STYLES = {"failure": "bold red", "warning": "yellow", "note": "cyan"}


class Voice:
    """Prints findings as they come; says nothing when quiet."""

    def __init__(self, *, quiet: bool):
        self._console = Console(stderr=True, quiet=quiet, highlight=False)

    def finding(self, finding: Finding) -> None:
        """One finding: what, where, the numbers, what to try and how to allow it."""
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

    def line(self, message: str) -> None:
        """One line about the watch itself."""
        self._console.print(Text.assemble(("pitprop ", "dim"), message), soft_wrap=True)
