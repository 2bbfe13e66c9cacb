"""`pitprop rescue`, as it is typed: one screen, exit codes, strict JSON."""

import json
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pitprop.watch
from pitprop.cli import main

TRIALS = Path(__file__).parents[1] / "trials"
RECIPES = TRIALS / "recipes_rescue.py"


@pytest.fixture(scope="module")
def recipes():
    sys.path.insert(0, str(TRIALS))
    import recipes_rescue

    sys.path.remove(str(TRIALS))
    return recipes_rescue


@pytest.fixture(scope="module")
def run(recipes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    training = recipes.Regression(0, recipes.Drifting())
    with pitprop.watch(
        training.model, training.optimizer, run=folder, every=1, budget=None, quiet=True, snapshots=1
    ) as watch:
        for batch in islice(training.batches(0), 150):
            watch.log(**training.step(batch))
    torch.set_num_threads(threads)
    return folder


@pytest.mark.slow
def test_a_run_is_rescued_on_one_screen(run, tmp_path, capsys):
    command = ["rescue", str(run), f"{RECIPES}:drifting", "--seeds", "2", "--workers", "2", "--out", str(tmp_path)]
    assert main(command) == 0
    out = capsys.readouterr().out
    (checkpoint,) = tmp_path.glob("rescued-*")
    assert "Rescued (output-duplication" in out and "neck.squash replaced by unit-rms" in out
    assert str(checkpoint) in out.replace("\n", "")
    assert "last good: " in out and "no difference: rolled back" in out
    assert f"The report: {tmp_path / 'report.html'}" in out and len(out.splitlines()) <= 60
    page = (tmp_path / "report.html").read_text()
    assert "last good, step 48" in page and "What was changed" in page
    (tmp_path / "report.html").unlink()
    assert main(["report", str(tmp_path)]) == 0  # from the folder alone
    assert (tmp_path / "report.html").read_text() == page
    capsys.readouterr()

    assert main([*command, "--json"]) == 0  # and the second call finds everything there
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["checkpoint"] == str(checkpoint) and told["collapsed"]
    assert told["started_from"]["last_good"].endswith("step-48")
    assert {c["verdict"] for c in told["confirm"]} <= {"better", "inconclusive"}


def test_where_nothing_is_confirmed_the_exit_code_is_1(recipes, tmp_path, capsys):
    training = recipes.Regression(0, recipes.Lost())
    save_file(training.model.state_dict(), tmp_path / "w.safetensors")
    command = ["rescue", str(tmp_path / "w.safetensors"), f"{RECIPES}:lost", "--seeds", "2", "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().out.startswith("Not rescued")
    assert not list((tmp_path / "out").glob("rescued-*"))


@pytest.mark.parametrize(
    ("checkpoint", "options", "message"),
    [
        ("nowhere.pt", (), "There is no checkpoint"),
        ("step-150", ("--knob", "width=5"), "does not fit the recipe's model"),
        ("step-150", ("--run", "nowhere"), "there is no run folder"),
    ],
)
def test_bad_input_is_2_and_explained(checkpoint, options, message, run, tmp_path, capsys):
    path = run / "snapshots" / checkpoint
    assert main(["rescue", str(path), f"{RECIPES}:drifting", *options, "--out", str(tmp_path), "--json"]) == 2
    assert message in json.loads(capsys.readouterr().out)["error"]["seen"]


def test_a_pickle_that_needs_more_is_refused(tmp_path, capsys):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    assert main(["rescue", str(tmp_path / "model.pt"), f"{RECIPES}:drifting", "--out", str(tmp_path / "out")]) == 2
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "more than tensors and plain values" in err and "Traceback" not in err
