"""Claims: the testable sentences of a post-mortem, each with what settles it, judged from stored numbers alone.

A case lists its claims and hands them to `main`, which measures (`--run`), writes the README's generated parts
(`--write`) and fails where README and stored numbers differ (`--check`). A claim says whether a measurement settles it,
or arithmetic, or a definition: for the last two, no stored number can change the verdict.
"""

import argparse
import json
import math
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from pitprop._errors import PitpropError
from pitprop.trials.progress import OnProgress, Progress

Kind = Literal["measurement", "arithmetic", "definition"]
Word = Literal["CONFIRMED", "REFUTED", "HALF", "OPEN", "VACUOUS"]
"""HALF: true in part. OPEN: the numbers don't settle it. VACUOUS: what it speaks of never happened."""
Results = dict[str, Any]
"""What `results/claims.json` holds."""


class Judgement(NamedTuple):
    """A verdict and the numbers it rests on."""

    verdict: Word
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One testable sentence of a seed."""

    name: str
    """For example `S4-C1`."""
    statement: str
    """What the seed says, in short."""
    settled_by: str
    """What decides."""
    before: str
    """Verdict of the science note, before the system was built here."""
    judge: Callable[[Results], Judgement]
    kind: Kind = "measurement"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsOf:
    """The claims of one case, with how they are measured and written up."""

    case: str
    """The case's name; also the folder's."""
    folder: Path
    """The case's folder, with `README.md` and `results/claims.json`."""
    claims: tuple[Claim, ...]
    measure: Callable[[Path, int | None, OnProgress | None], Results]
    """`measure(scratch folder, number of seeds (None: the default), progress)` -> the numbers that `judge` reads."""
    header: Callable[[Results], str]
    """Of the table: what was run, on how many seeds, what the intervals are."""
    prose: Callable[[Results], str] | None = None
    """Text whose every number comes from the results."""
    measure_on: Callable[[Path, OnProgress | None], Results] | None = None
    """`measure_on(folder with the user's data, progress)` -> numbers of their own; None: the case takes no data."""
    prose_on: Callable[[Results], str] | None = None
    """Text whose every number comes from those."""

    @property
    def stored(self) -> Path:
        """The committed numbers."""
        return self.folder / "results" / "claims.json"

    @property
    def stored_on_data(self) -> Path:
        """Those that `measure_on` gave."""
        return self.folder / "results" / "on_data.json"


def table(claims: Sequence[Claim], results: Results, header: str) -> str:
    """The verdict table as Markdown, a function of the numbers alone."""
    lines = [
        header,
        "",
        "| claim | the seed says | settled by | verdict | numbers |",
        "|---|---|---|---|---|",
    ]
    for claim in claims:
        judged = claim.judge(results)
        differs = "" if judged.verdict == claim.before else f" (science note: {claim.before})"
        by = claim.settled_by if claim.kind == "measurement" else f"{claim.kind}: {claim.settled_by}"
        lines.append(f"| {claim.name} | {claim.statement} | {by} | {judged.verdict}{differs} | {judged.evidence} |")
    return "\n".join(lines)


def generated(readme: str, of: ClaimsOf, results: Results) -> str:
    """`readme` with the parts between the marks replaced by what the numbers say."""
    parts: dict[str, Callable[[], str]] = {"claims": lambda: table(of.claims, results, of.header(results))}
    if (prose := of.prose) is not None:
        parts["prose"] = lambda: prose(results)
    if (prose_on := of.prose_on) is not None and of.stored_on_data.exists():
        parts["data"] = lambda: prose_on(json.loads(of.stored_on_data.read_text()))
    for name, write in parts.items():
        begin, end = f"<!-- {name}: generated, see claims.py -->", f"<!-- end of {name} -->"
        if begin in readme and end in readme:
            head, _, rest = readme.partition(begin)
            readme = f"{head}{begin}\n{write()}\n{end}{rest.partition(end)[2]}"
    return readme


def load_results(of: ClaimsOf) -> Results:
    """The stored numbers; raises `PitpropError` where there are none."""
    try:
        return json.loads(of.stored.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise PitpropError(
            f"{of.stored} can't be read: {error}",
            means=f"the claims of {of.case} can't be judged without their measurements.",
            do=f"run them: python -m pitprop.cases.{of.case}.claims --run",
        ) from error


def store(results: Results, path: Path) -> None:
    """Writes the numbers; undefined ones become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(results), indent=1, allow_nan=False) + "\n")


def provenance(command: Sequence[str], **settings: Any) -> dict[str, Any]:
    """What made the numbers: the command, the settings and the versions of what computes."""
    return {
        "command": list(command),
        "settings": plain(settings),
        "python": platform.python_version(),
        **{name: found for name in ("torch", "jax", "numpy", "scikit-learn") if (found := _version(name))},
    }


def plain(value: Any) -> Any:
    """JSON values: undefined numbers become null, floats keep six digits."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.6g}") if math.isfinite(value) else None
    return value


def write_up(of: ClaimsOf, results: Results, folder: Path) -> tuple[list[tuple[str, str]], list[Path]]:
    """Writes `claims.json` and `claims.md` of a run's own numbers; returns the rows to print and the files."""
    numbers = plain(results)
    store(numbers, folder / "claims.json")
    (folder / "claims.md").write_text(table(of.claims, numbers, of.header(numbers)) + "\n")
    rows = [(f"{claim.name} {claim.statement}", claim.judge(numbers).verdict) for claim in of.claims]
    return rows, [folder / "claims.json", folder / "claims.md"]


def exit_with(main: Callable[[], int]) -> NoReturn:
    """Ends the script with the code that `main` returns; bad input with its message, and no traceback."""
    try:
        code = main()
    except PitpropError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


def main(of: ClaimsOf, arguments: Sequence[str] | None = None) -> int:
    """`python -m pitprop.cases.NAME.claims`: 0 when all is well, 1 when README and numbers differ."""
    parser = argparse.ArgumentParser(prog=f"python -m pitprop.cases.{of.case}.claims", description=f"{of.case}: claims")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", action="store_true", help="measure anew and store the numbers")
    what.add_argument("--write", action="store_true", help="write the generated parts of README.md")
    what.add_argument("--check", action="store_true", help="exit 1 when README.md differs from the stored numbers")
    parser.add_argument("--seeds", type=int, default=None, help="number of seeds; by default the case's own")
    if (measure_on := of.measure_on) is not None:
        parser.add_argument("--data", type=Path, help="with --run: measure on the data in this folder instead")
    options = parser.parse_args(arguments)
    if options.run and measure_on is not None and options.data is not None:
        store(measure_on(options.data, _told), of.stored_on_data)
        print(f"stored in {of.stored_on_data}; now --write")
        return 0
    if options.run:
        with tempfile.TemporaryDirectory() as folder:
            store(of.measure(Path(folder), options.seeds, _told), of.stored)
        print(f"stored in {of.stored}; now --write")
        return 0
    page = of.folder / "README.md"
    readme = page.read_text()
    wanted = generated(readme, of, load_results(of))
    if options.write:
        page.write_text(wanted)
        return 0
    if wanted != readme:
        print("README.md differs from the stored numbers; run --write")
        return 1
    return 0


def _told(now: Progress) -> None:
    rest = "" if now.remaining_s is None else f", {now.remaining_s:.0f} s left"
    print(f"{now.done}/{now.total} {now.stage}{rest}", file=sys.stderr)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
