"""The command that a report names makes the same call again: the command line can say whatever the functions take."""

import dataclasses
from pathlib import Path

import pytest

from pitprop.cli import main
from pitprop.trials import diagnosis, recovery
from pitprop.trials.command import command
from pitprop.trials.interventions import Ablate, Freeze, Knob, Scale, Stage

SUSPECTS = [Ablate("x"), Scale("y", "unit", side="input"), Knob("sizes", [1, 2]), Stage("z", 3, 4)]


class Called(Exception):
    pass


def calls(monkeypatch, module, name, arguments):
    """What `main(arguments)` calls `module.name` with."""
    seen = []

    def note(*args, **options):
        seen.append((args, options))
        raise Called

    monkeypatch.setattr(module, name, note)
    assert main(arguments) == 70  # nobody catches it
    return seen[0]


KNOBS = {"rate": 0.5, "on": True, "sizes": (3, 4), "name": "a=b"}
AS_TEXT = {"rate": "0.5", "on": "True", "sizes": "[3, 4]", "name": "a=b"}


def test_a_diagnosis(monkeypatch, tmp_path):
    options = {"--seeds": 4, "--screen-seeds": 2, "--out": tmp_path}
    line = command("diagnose", "a.py:r", knobs=KNOBS, suspects=SUSPECTS, options=options)
    args, said = calls(monkeypatch, diagnosis, "diagnose", line[1:])
    assert args == ("a.py:r",) and said["knobs"] == AS_TEXT
    assert (said["seeds"], said["screen_seeds"], said["folder"]) == (4, 2, tmp_path)
    assert said["suspects"] == SUSPECTS


def test_a_rescue(monkeypatch, tmp_path):
    options = {"--run": tmp_path / "run", "--seeds": 4, "--screen-seeds": 2, "--budget": 70, "--out": tmp_path}
    line = command("rescue", "w.pt", "a.py:r", knobs={}, suspects=SUSPECTS, options=options)
    args, said = calls(monkeypatch, recovery, "rescue", line[1:])
    assert args == (Path("w.pt"), "a.py:r") and said["run"] == tmp_path / "run"
    assert (said["seeds"], said["screen_seeds"], said["budget"], said["folder"]) == (4, 2, 70, tmp_path)
    assert said["suspects"] == SUSPECTS


def test_a_person_names_suspects_as_in_a_trial(monkeypatch):
    line = ["diagnose", "a.py:r", "--freeze", "x", "--ablate", "y"]
    _, said = calls(monkeypatch, diagnosis, "diagnose", line)
    assert set(said["suspects"]) == {Freeze("x"), Ablate("y")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"kind": "Frieze", "path": "x"}', "did you mean `Freeze`"),
        ('{"kind": "Freeze"}', "missing 1 required"),
        ('{"kind": "Freeze", "paht": "x"}', "did you mean `path`"),
    ],
)
def test_json_that_is_no_intervention(text, message, capsys):
    assert main(["diagnose", "a.py:r", "--change", text]) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_every_option_of_the_functions_is_on_the_command_line():
    """`executor` and `progress` are for programs; `folder` is `--out`, `suspects` are the changes."""
    import inspect

    from pitprop.cli import diagnose as diagnose_verb
    from pitprop.cli import rescue as rescue_verb
    from pitprop.cli._changes import Changes

    assert {"ablate", "change"} <= {field.name for field in dataclasses.fields(Changes)}
    names = {"knobs": "knob", "folder": "out", "suspects": "changes", "reference": "recipe"}
    for function, verb in ((diagnosis.diagnose, diagnose_verb.diagnose), (recovery.rescue, rescue_verb.rescue)):
        taken = {names.get(name, name) for name in inspect.signature(function).parameters}
        assert taken - {"executor", "progress"} <= set(inspect.signature(verb).parameters)
