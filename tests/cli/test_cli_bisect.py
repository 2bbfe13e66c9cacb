"""`pitprop bisect`, end to end: what is typed, seen and returned."""

import json
from pathlib import Path

import pytest

from pitprop.cli import main

RECIPES = Path(__file__).parents[1] / "trials" / "recipes_bisect.py"


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('norm = "none"\nlr = 1.0\ngate = true\nwidth = 16\n')
    return path


def test_guilty_changes_exit_1_and_fit_a_screen(bad, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    arguments = ["bisect", f"{RECIPES}:together", "--bad", str(bad), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "`lr` together with `norm` brings the collapse" in " ".join(out.split())
    assert "good + lr + norm " in out and "3 of 3" in out and "0 of 8" in out
    assert "lr: 0.1 -> 1.0; norm: 'layer' -> 'none'" in out
    assert "Innocent, even all together: gate, width." in " ".join(out.split())
    assert f"again: pitprop bisect {RECIPES}:together" in out
    assert "The report:" in out and "Bisection</p>" in (tmp_path / "out" / "report.html").read_text()
    assert len(out.splitlines()) <= 45 and all(len(line) <= 100 for line in out.splitlines())

    # Nothing runs again, and the machine-readable form says the same.
    assert main([*arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [c["changes"] for c in found["found"]["bringing"]] == [["lr", "norm"]]
    assert [c["changes"] for c in found["found"]["curing"]] == [["lr"], ["norm"]]
    assert found["runs"] == len(list((tmp_path / "out" / "runs").glob("*.json")))
    # What it names goes on in the same folder, in the same way.
    where = ["--out", str(tmp_path / "out"), "--workers", "1"]
    assert found["command"][3:] == ["--bad", str(bad), "--budget", "300", *where]


def test_no_collapse_exits_0(bad, tmp_path, capsys):
    assert main(["bisect", f"{RECIPES}:none", "--bad", str(bad), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "Nothing to find" in capsys.readouterr().out


def test_the_folder_is_enough_for_a_report(bad, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["bisect", f"{RECIPES}:one", "--bad", str(bad), "--out", str(folder), "--workers", "1"]) == 1
    capsys.readouterr()
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 0
    assert "`norm` brings the collapse" in capsys.readouterr().out and (folder / "report.html").exists()
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bisection"]["sets"][0] == ["brings the collapse", "norm"]


def test_bad_input_exits_2(bad, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["bisect", f"{RECIPES}:one", "--bad", str(bad.with_name("abd.toml")), *out]) == 2
    assert "no TOML file that exists" in " ".join(capsys.readouterr().err.replace("│", "").split())
    bad.write_text('nrom = "none"')
    assert main(["bisect", f"{RECIPES}:one", "--bad", str(bad), *out]) == 2
    assert "did you mean `norm`" in capsys.readouterr().err
    assert main(["bisect", f"{RECIPES}:one", *out]) == 2
    assert "no knob differs" in capsys.readouterr().err
    assert main(["bisect", f"{RECIPES}:one", "--bad", str(bad), "--budget", "3", *out, "--json"]) == 2
    assert "does not hold the end points" in json.loads(capsys.readouterr().out)["error"]["seen"]


def test_swapped_ends_exit_2(bad, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--workers", "1"]
    good = tmp_path / "good.toml"
    good.write_text("")
    assert main(["bisect", f"{RECIPES}:one", "--good", str(bad), "--bad", str(good), *out]) == 2
    assert "Exchange the two" in " ".join(capsys.readouterr().out.split())
