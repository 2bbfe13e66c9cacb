"""Every file in examples/ runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from pitprop.trials import diagnose
from pitprop.trials.load import load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
COVERED = {"04_gated_attention_and_robust_metrics.ipynb", "jax_recipe.py", "my_recipe.py", "watch_two_lines.py"}


def test_no_example_is_left_out():
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == COVERED


@pytest.mark.slow
def test_the_two_line_watch_runs_and_finds_the_duplicates(tmp_path):
    command = [sys.executable, str(EXAMPLES / "watch_two_lines.py"), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "output-duplication" in done.stdout + done.stderr
    assert (tmp_path / "run" / "trace.sqlite").is_file()


@pytest.mark.slow
def test_the_cause_in_my_recipe_is_found(tmp_path):
    found = diagnose(f"{EXAMPLES / 'my_recipe.py'}:recipe", seeds=3, screen_seeds=2, workers=1, folder=tmp_path)
    assert any(finding.rule == "output-duplication" and finding.severity == "failure" for finding in found.findings)
    assert found.conclusion.cause == "the knob `optimizer` = 'adam'"
    assert found.conclusion.remedy == "knob optimizer = 'sgd'"
    unmoved = found.conclusion.statement.partition("Did not move the metric")[2]
    assert "activation=tanh" in unmoved and "dropout=True" in unmoved, "two seeds exonerate nobody"


def test_my_recipe_collapses_by_its_learning_rate():
    recipe = load_recipe(f"{EXAMPLES / 'my_recipe.py'}:recipe")

    def end(**knobs):
        training = recipe.build(0, recipe.knobs(**knobs))
        batches = training.batches(0)
        for _ in range(recipe.steps):
            training.step(next(batches))
        return training.evaluate()

    assert end()["output_spread"] < recipe.margin
    assert end(lr=0.05)["output_spread"] > 5 * recipe.margin
    assert end(optimizer="sgd")["output_spread"] > 5 * recipe.margin


@pytest.mark.slow
def test_the_jax_recipe_learns():
    recipe = load_recipe(f"{EXAMPLES / 'jax_recipe.py'}:recipe")
    training = recipe.build(0, recipe.knobs())
    batches = training.batches(0)
    before = float(training.evaluate()["accuracy"])
    for _ in range(recipe.steps):
        training.step(next(batches))
    assert before < 0.3 < 0.8 < float(training.evaluate()["accuracy"])


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PITPROP_NOTEBOOK_STEPS", "5")
    monkeypatch.setenv("PITPROP_NOTEBOOK_OUT", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / "04_gated_attention_and_robust_metrics.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # stored without outputs
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    images = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(images) == 4
    assert (tmp_path / "robustness_evaluation_results.json").is_file()
