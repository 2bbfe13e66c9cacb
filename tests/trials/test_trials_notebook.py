"""In a real notebook the result of a trial draws itself, and at a prompt it prints as a table."""

import pytest


@pytest.mark.slow
def test_a_trial_draws_itself(tmp_path, reference):
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    source = (
        "import pitprop\n"
        "from pitprop.trials.interventions import Knob\n"
        f"found = pitprop.trial({reference('recipes_tiny', 'guilty')!r}, [Knob('pool', 'none')], seeds=2, horizon=20, "
        f"workers=1, folder={str(tmp_path)!r})\n"
        "found"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [out for out in notebook.cells[0].outputs if out.output_type != "stream"]
    assert [out.output_type for out in outputs] == ["execute_result"]  # once
    shown = outputs[0].data
    assert shown["text/html"].startswith('<div class="pitprop">') and "<svg" in shown["text/html"]
    assert "pool=none" in shown["text/plain"] and "treated" in shown["text/plain"]
