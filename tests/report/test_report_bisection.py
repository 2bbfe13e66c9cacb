"""The report of a bisection: read strictly from `bisection.json`, over changes and revisions, in all three forms."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_run import HOSTILE
from test_report_browser import CHROMIUM, opened, root_of

from pitprop import PitpropError
from pitprop.report import build, to_html, to_json, to_text, write


def comparison(arm: str, verdict: str) -> dict:
    sign = -1 if verdict == "worse" else 1
    return {
        "arm": arm, "changes": "a: 1 -> 2", "metric": "spread", "higher_is_better": True, "seeds": [0, 1],
        "control": [1.0, 0.9], "treated": [0.0, "nan"], "effect": 0.9 * sign, "low": -1.1, "high": -0.7,
        "confidence": 0.975, "p_value": 0.5, "margin": 0.05, "verdict": verdict, "horizon": 100, "plan": "p",
    }  # fmt: skip


COMMON = {
    "next": "Do it.", "ends": comparison("bad", "worse"), "cut": 0.5, "budget": 300, "runs": 41, "plan": "f" * 64,
    "command": ["pitprop", "bisect", "r.py:recipe"], "wall_s": 61.0, "folder": "x",
}  # fmt: skip


def changes(name: str = "norm") -> dict:
    names = ["lr", name, "width"]

    def step(made: list[str], collapsed: int, runs: int, outcome: str) -> dict:
        interval = [0.3, 1.0] if collapsed else [0.0, 0.4]
        return {"changes": made, "collapsed": collapsed, "runs": runs, "outcome": outcome, "interval": interval}

    culprit = {"changes": [name], "minimal": True}
    return COMMON | {
        "kind": "changes",
        "statement": f"`{name}` brings the collapse. Innocent, even all together: lr, width.",
        "changes": {n: "1 -> 2" for n in names},
        "found": {"bringing": [culprit], "curing": [culprit]},
        "steps": [
            step([], 0, 8, "healthy"),
            step(names, 7, 8, "collapses"),
            step([name], 3, 3, "collapses"),
            step(["lr", "width"], 0, 8, "healthy"),
        ],
        "confirm": [comparison(f"good + {name}", "worse"), comparison(f"bad - {name}", "better")],
        "failed": [{"changes": "nothing", "seed": 3, "error": "RuntimeError: no"}],
    }


def revisions(subject: str = "Drop the norm") -> dict:
    commits = [
        {"hash": c * 40, "tree": c * 40, "parents": [], "author": "Ada", "date": "2026-01-02T03:04:05Z", "subject": s}
        for c, s in (("a", "Start"), ("b", "Rename"), ("c", "Broken"), ("d", subject), ("e", "Note"))
    ]

    def tested(hash_: str, outcome: str, collapsed: int, runs: int, interval: list, error: str = "") -> dict:
        return {
            "commit": hash_ * 40, "outcome": outcome, "seeds": list(range(runs)), "values": [0.0] * runs,
            "collapsed": collapsed, "failed": 0, "error": error, "interval": interval,
        }  # fmt: skip

    return COMMON | {
        "kind": "revisions",
        "statement": f"The first bad commit is one of 2. 3 of 3 runs collapse at `{'d' * 10}`.",
        "good": commits[0],
        "commits": commits[1:],
        "healthy": "b" * 40,
        "candidates": ["c" * 40, "d" * 40],
        "tested": [
            tested("a", "healthy", 0, 8, [0.0, 0.37]),
            tested("b", "healthy", 0, 8, [0.0, 0.37]),
            tested("c", "cannot be built", 0, 0, ["nan", "nan"], "SyntaxError: no\nmore"),
            tested("d", "collapses", 3, 3, [0.29, 1.0]),
            tested("e", "collapses", 8, 8, [0.63, 1.0]),
        ],
        "files": [["M", "src/norm.py"], ["A", "src/new.py"]],
        "confirm": comparison("first bad", "worse"),
        "limits": ["All revisions ran with the packages that are installed now."],
    }


def folder_of(place: Path, content: object) -> Path:
    (place / "bisection.json").write_text(json.dumps(content), encoding="utf-8")
    return place


def text_of(folder: Path) -> str:
    console = Console(width=100, file=io.StringIO())
    to_text(build(folder), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_changes_are_shown_with_the_sets_that_were_found(tmp_path: Path):
    folder = folder_of(tmp_path, changes())
    text = text_of(folder)
    assert re.search(r"good \+ norm +3 of 3 +collapses", text) and re.search(r"bad - norm +0 of 8 +is healthy", text)
    assert "bad (all 3 changes)" in text and "1 failed, the first: nothing, seed 3" in text and "41 of 300 runs" in text

    report = build(folder)
    assert report.headline.statement == "`norm` brings the collapse." and report.headline.tone == "failure"
    found = report.bisection
    assert found is not None and found.accused == ("norm",)
    assert [test.accused for test in found.tests] == [False, False, True, True]
    page = to_html(report)
    assert page.count('class="accused"') == 2 and page.count('class="made guilty"') == 2
    assert 'aria-label="7 of 8 runs collapsed, interval 0.30 to 1.00"' in page and 'aria-label="made: norm"' in page
    assert "Make this bisection again" in page and "Findings</h2>" not in page


def test_revisions_are_shown_oldest_first_with_their_errors_and_limits(tmp_path: Path):
    folder = folder_of(tmp_path, revisions())
    text = " ".join(text_of(folder).split())
    assert "dddddddddd Drop the norm (Ada, 2026-01-02) 3 of 3 collapses" in text
    assert "Broken (Ada, 2026-01-02); SyntaxError: no no run cannot be built" in text and "more" not in text
    assert "changed: src/norm.py, src/new.py" in text and "packages that are installed now" in text

    page = to_html(build(folder))
    assert page.count('class="accused"') == 2 and "may be the first bad commit" in page
    assert page.index("aaaaaaaaaa") < page.index("Drop the norm (Ada") < page.index("eeeeeeeeee")
    assert 'aria-label="nothing was run"' in page and "What this does not mean" in page
    assert 'class="made' not in page


@pytest.mark.parametrize("content", [changes(), revisions()])
def test_json_is_strict_and_holds_every_test(tmp_path: Path, content: dict):
    def refuse(constant: str):
        raise AssertionError(constant)

    told = json.loads(to_json(build(folder_of(tmp_path, content))), parse_constant=refuse)["bisection"]
    assert told["kind"] == content["kind"] and told["statement"] == content["statement"]
    assert [t["runs"] for t in told["tests"]] == [
        s["runs"] if "runs" in s else len(s["seeds"]) for s in content.get("steps", content.get("tested"))
    ]
    assert told["ends"]["treated"] == [0.0, "nan"]


@pytest.mark.parametrize("content", [changes(HOSTILE), revisions(HOSTILE)])
def test_names_that_are_markup_stay_names(tmp_path: Path, content: dict):
    page = write(build(folder_of(tmp_path, content)), tmp_path / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; .ci installs one where it can")
def test_the_page_opens_in_a_browser_without_an_error(tmp_path: Path):
    dom = opened(to_html(build(folder_of(tmp_path, changes(HOSTILE)))), tmp_path)
    assert 'data-ready="true"' in root_of(dom) and "data-error" not in root_of(dom)


def test_nothing_found_is_no_alarm(tmp_path: Path):
    nothing = {"found": {"bringing": [], "curing": []}, "steps": [], "confirm": [], "failed": [], "cut": "nan"}
    folder = folder_of(tmp_path, changes() | nothing | {"statement": "Nothing to find."})
    report = build(folder)
    assert report.headline.tone == "clear" and "Tests of the search" not in to_html(report)
    assert "Nothing to find." in text_of(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "`the file` is"),
        ({k: v for k, v in changes().items() if k != "kind"}, "`kind` is missing"),
        (changes() | {"steps": [{"changes": [1]}]}, r"`changes\[0\]` is 1"),
        (changes() | {"cut": None}, "None stands where a number belongs"),
        (revisions() | {"candidates": [1]}, r"`candidates\[0\]` is 1"),
        (revisions() | {"tested": [{"commit": "f", "error": ""}]}, r"`tested\[0\].commit` is 'f', none of the commits"),
        (revisions() | {"commits": [{}]}, "`commits"),
        (revisions() | {"files": [["M"]]}, "`files"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_the_place(tmp_path: Path, content: object, message: str):
    with pytest.raises(PitpropError, match=message) as error:
        build(folder_of(tmp_path, content))
    assert "cannot be read as the result of a bisection" in str(error.value)


def test_a_torn_file_is_refused(tmp_path: Path):
    (tmp_path / "bisection.json").write_text('{"kind": ')
    with pytest.raises(PitpropError, match="Expecting value"):
        build(tmp_path)
