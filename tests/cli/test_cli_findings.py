"""Findings for a program, for code scanning and for a GitHub workflow; and the exit code of each."""

import json
import textwrap
from pathlib import Path

import pytest

from pitprop.cli import main
from pitprop.cli._findings import show
from pitprop.records import RUN, Finding, RunInfo
from pitprop.trace import Writer

RECIPE = """
    import torch
    from dataclasses import dataclass
    from torch import nn
    from pitprop import Recipe

    @dataclass(frozen=True)
    class Knobs:
        dead: bool = True

    class Adapter(nn.Module):
        def __init__(self, dead):
            super().__init__()
            self.A = nn.Parameter(torch.zeros(4, 2) if dead else torch.randn(4, 2))
            self.B = nn.Parameter(torch.zeros(2, 4))

        def forward(self, x):
            return x + x @ self.A @ self.B

    class Training:
        def __init__(self, seed, knobs):
            torch.manual_seed(seed)
            self.model = nn.Sequential(nn.Linear(4, 4), Adapter(knobs.dead))
            self.optimizer = torch.optim.AdamW(self.model.parameters())

        def batches(self, cursor):
            while True:
                yield torch.randn(8, 4, generator=torch.Generator().manual_seed(cursor))
                cursor += 1

        def step(self, x):
            print("stepping on")
            loss = (self.model(x) - 1).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return {"loss": loss.detach()}

        @torch.no_grad()
        def evaluate(self):
            x = torch.randn(16, 4, generator=torch.Generator().manual_seed(99))
            return {"error": float((self.model(x) - x).square().mean())}

    recipe = Recipe(build=Training, knobs=Knobs, metric="error")
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a recipe.py").write_text(textwrap.dedent(RECIPE))
    return "a recipe.py:recipe"


@pytest.fixture
def collapsed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Writer(tmp_path / "run", RunInfo(name="run", started="2026-01-01T00:00:00Z")) as trace:
        for step in range(80):
            trace.append(step, {"output_uniqueness": {RUN: 1 / 64}, "output_spread": {RUN: 1e-7}})
    return "run"


@pytest.fixture
def thin(tmp_path, monkeypatch):
    """A run of 120 steps whose loss is there on every step and whose modules were looked at on 20."""
    monkeypatch.chdir(tmp_path)
    with Writer(tmp_path / "run", RunInfo(name="run", started="2026-01-01T00:00:00Z")) as trace:
        for step in range(120):
            looked = {} if step % 6 else {"gradient_norm": {"head": 1.0}, "output_uniqueness": {RUN: 1 / 64}}
            trace.append(step, {"loss": {RUN: 0.5 + 0.01 * (step % 3)}, **looked})
        trace.set_meta("coverage", {"notes": ["No forward pass was seen."]})
        trace.set_meta("schedule", {"num_steps": 120})
    return "run"


# Of the SARIF 2.1.0 schema: what each object that we write must have and may have (it allows nothing else).
SARIF = {
    "log": ({"version", "runs"}, {"$schema", "version", "runs", "inlineExternalProperties", "properties"}),
    "run": ({"tool"}, {"tool", "results", "invocations", "artifacts", "columnKind", "properties"}),
    "driver": ({"name"}, {"name", "version", "semanticVersion", "informationUri", "rules", "properties"}),
    "rule": ({"id"}, {"id", "name", "shortDescription", "fullDescription", "help", "helpUri", "properties"}),
    "result": (
        {"message"},
        {"ruleId", "ruleIndex", "level", "message", "locations", "relatedLocations", "partialFingerprints"}
        | {"properties", "kind"},
    ),
    "location": (set(), {"physicalLocation", "logicalLocations", "message", "properties"}),
    "physical": (set(), {"artifactLocation", "region"}),
    "logical": (set(), {"name", "fullyQualifiedName", "kind"}),
}


def conforms(kind, value):
    required, allowed = SARIF[kind]
    assert required <= value.keys() <= allowed, (kind, value.keys())


def check_sarif(text):
    log = json.loads(text)
    conforms("log", log)
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    conforms("run", run)
    driver = run["tool"]["driver"]
    conforms("driver", driver)
    for rule in driver["rules"]:
        conforms("rule", rule)
        assert set(rule.get("help", {"text": ""})) <= {"text", "markdown"}
    for result in run["results"]:
        conforms("result", result)
        assert result["level"] in ("none", "note", "warning", "error")
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert set(result["message"]) == {"text"} and result["message"]["text"]
        assert all(isinstance(v, str) for v in result["partialFingerprints"].values())
        assert len(result["locations"]) == 1
        related = result.get("relatedLocations", [])
        assert len({json.dumps(location) for location in related}) == len(related)  # the schema wants them unique
        for location in [*result["locations"], *related]:
            conforms("location", location)
            assert set(location.get("message", {"text": ""})) == {"text"}
            conforms("physical", location["physicalLocation"])
            conforms("logical", location["logicalLocations"][0])
            assert location["physicalLocation"].get("region", {"startLine": 1})["startLine"] >= 1
    return run["results"]


def test_silence_about_a_thin_run_is_no_all_clear(thin, capsys):
    told = "Too few rows to tell: 20 of 120 steps measured, most rules need 40; watch with a smaller `every=`"
    command = ["detect", thin, "--fail-on", "failure"]
    assert main(command) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert told in out and "No forward pass was seen." in out and "Nothing wrong" not in out
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 20 and document["findings"] == []
    assert document["notes"][0] == "No forward pass was seen." and document["notes"][1].startswith(told)
    assert main([*command, "--format", "sarif"]) == 0
    text = capsys.readouterr().out
    assert check_sarif(text) == []
    [invocation] = json.loads(text)["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is True
    [_, notification] = invocation["toolExecutionNotifications"]
    assert notification["message"]["text"].startswith(told) and notification["level"] == "note"
    assert main([*command, "--format", "github"]) == 0
    [_, notice] = capsys.readouterr().out.splitlines()
    assert notice.startswith(f"::notice title=pitprop::{told}")
    assert main(["report", thin]) == 0
    assert capsys.readouterr().out.startswith("Too few rows to tell: 20 of 120")


def line_of(text):
    return 1 + Path("a recipe.py").read_text().splitlines().index(text)


def test_sarif_of_a_check_points_at_the_class(recipe, capsys):
    assert main(["check", recipe, "--format", "sarif"]) == 1
    results = check_sarif(capsys.readouterr().out)
    [dead] = [r for r in results if r["ruleId"] == "dead-zero-chain"]
    assert dead["level"] == "error"
    [location] = dead["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20recipe.py"},
        "region": {"startLine": line_of("class Adapter(nn.Module):")},
    }
    assert location["logicalLocations"] == [{"fullyQualifiedName": "1", "kind": "module"}]
    assert results == sorted(results, key=lambda r: ["error", "warning", "note"].index(r["level"]))


def test_github_annotations(recipe, capsys):
    assert main(["check", recipe, "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)
    start = f"::error file=a recipe.py,line={line_of('class Adapter(nn.Module):')},title=dead-zero-chain at 1::2 zero"
    assert lines[0].startswith(start)


def test_github_escapes(tmp_path, capsys):
    finding = Finding(
        rule="r", severity="warning", site="a,b:c", onset=0, detected=0, message="100 %\nand more: yes", evidence={}
    )
    show([finding], "github", {}, {}, (tmp_path / "x.py", 3))
    assert capsys.readouterr().out == (
        f"::warning file={tmp_path}/x.py,line=3,title=r at a%2Cb%3Ac::100 %25%0Aand more: yes\n"
    )


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_the_exit_code_is_that_of_the_findings(recipe, form, capsys):
    alive = ["check", recipe, "--knob", "dead=false", "--format", form]
    assert main(alive) == 0
    assert main([*alive, "--fail-on", "note"]) == 1  # A wakes up behind B
    assert main(["check", recipe, "--format", form, "--allow", "dead-zero-chain@1", "--fail-on", "failure"]) == 0
    assert "stepping on" not in capsys.readouterr().out


def test_json_by_either_name_and_errors_in_it(recipe, capsys):
    main(["check", recipe, "--json"])
    first = json.loads(capsys.readouterr().out)
    main(["check", recipe, "--format", "json"])
    assert json.loads(capsys.readouterr().out) == first
    assert main(["check", "nowhere.py:recipe", "--format", "json"]) == 2
    assert "nowhere.py" in json.loads(capsys.readouterr().out)["error"]["seen"]
    assert main(["check", recipe, "--allow", "dead-zero-chian"]) == 2
    assert "dead-zero-chain" in capsys.readouterr().err
    assert main(["check", recipe, "--format", "xml"]) == 2


def test_detect_has_the_same_formats(collapsed, capsys):
    assert main(["detect", collapsed, "--format", "sarif"]) == 1
    [result] = check_sarif(capsys.readouterr().out)
    assert (result["ruleId"], result["level"]) == ("output-duplication", "error")
    assert result["locations"][0]["physicalLocation"] == {"artifactLocation": {"uri": "run/trace.sqlite"}}
    assert main(["detect", collapsed, "--format", "github", "--fail-on", "failure"]) == 1
    assert capsys.readouterr().out.startswith("::error file=run/trace.sqlite,title=output-duplication at <run>::")
    assert main(["detect", collapsed, "--format", "sarif", "--allow", "output-duplication"]) == 0
    assert check_sarif(capsys.readouterr().out) == []


def test_detect_says_a_group_once_and_gives_programs_every_site(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Writer(tmp_path / "run", RunInfo(name="run", started="2026-01-01T00:00:00Z")) as trace:
        for step in range(60):
            trace.append(step, {"saturated_share": {f"blocks.{i}": 0.9 for i in range(12)}})
    assert main(["detect", "run", "--fail-on", "warning"]) == 1
    said = capsys.readouterr().out
    assert said.count("saturated-units at") == 1
    assert "In all 12 sites, all from step 0 on, blocks.0 to blocks.11." in " ".join(said.split())
    main(["detect", "run", "--format", "github"])
    assert len(capsys.readouterr().out.splitlines()) == 1
    main(["detect", "run", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert len(document["findings"]) == 12
    assert [(one["rule"], one["num_sites"]) for one in document["groups"]] == [("saturated-units", 12)]
    main(["detect", "run", "--format", "sarif"])
    [result] = check_sarif(capsys.readouterr().out)
    assert result["message"]["text"].endswith("In all 12 sites, all from step 0 on, blocks.0 to blocks.11.")
    places = [*result["locations"], *result["relatedLocations"]]
    assert [one["logicalLocations"][0]["fullyQualifiedName"] for one in places] == [f"blocks.{i}" for i in range(12)]
    assert {one["message"]["text"] for one in result["relatedLocations"]} == {"onset 0"}
