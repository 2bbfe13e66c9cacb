"""What all cases share of their claims: every README is its stored numbers, and strict JSON holds them."""

import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.cases import CASES
from pitprop.cases._claims import ClaimsOf, exit_with, load_results, main, plain, store, write_up


def claims_of(name: str) -> ClaimsOf:
    module = import_module(f"pitprop.cases.{name}.claims")
    (found,) = (value for value in vars(module).values() if isinstance(value, ClaimsOf))
    return found


@pytest.fixture(params=[case.name for case in CASES])
def of(request):
    return claims_of(request.param)


def test_the_readme_is_the_stored_numbers_and_check_notices_when_it_is_not(of, tmp_path, capsys):
    assert main(of, ["--check"]) == 0
    moved = replace(of, folder=tmp_path)
    store(load_results(of), moved.stored)
    page = Path(shutil.copy(of.folder / "README.md", tmp_path))
    right = page.read_text()
    page.write_text(re.sub("REFUTED", "CONFIRMED", right, count=1))
    assert main(moved, ["--check"]) == 1
    assert "run --write" in capsys.readouterr().out
    assert main(moved, ["--write"]) == 0 and page.read_text() == right


def test_what_is_measured_on_the_users_data_is_stored_beside_the_claims(tmp_path, capsys):
    of = replace(claims_of("grid_solver"), folder=tmp_path, measure_on=lambda folder, progress: {"of": str(folder)})
    assert main(of, ["--run", "--data", "mine"]) == 0
    assert json.loads(of.stored_on_data.read_text()) == {"of": "mine"} and not of.stored.exists()
    with pytest.raises(SystemExit):
        main(replace(of, measure_on=None), ["--run", "--data", "mine"])
    assert "unrecognized arguments: --data" in capsys.readouterr().err


def test_every_claim_has_a_verdict_and_numbers(of):
    results = load_results(of)
    assert len({claim.name for claim in of.claims}) == len(of.claims)
    for claim in of.claims:
        assert claim.judge(results).evidence, claim.name


def test_the_front_page_counts_the_verdicts_of_all_cases():
    every = [(of, claim) for of in map(claims_of, (case.name for case in CASES)) for claim in of.claims]
    words = Counter(claim.judge(load_results(of)).verdict for of, claim in every)
    front = (Path(__file__).parents[2] / "README.md").read_text()
    said = f"{len(every)} testable claims in five such post-mortems, {words['CONFIRMED']} held as they stood"
    assert said in " ".join(front.split())
    assert f"{words['REFUTED'] + words['VACUOUS']} were false or empty" in " ".join(front.split())
    assert f"{words['HALF']} were half true and {words['OPEN']} are open" in " ".join(front.split())


def test_a_run_of_its_own_is_judged_by_its_own_numbers(of, tmp_path):
    rows, files = write_up(of, load_results(of), tmp_path)
    assert len(rows) == len(of.claims) and all(path.is_file() for path in files)


def test_missing_numbers_are_explained(tmp_path):
    of = replace(claims_of("model_merging"), folder=tmp_path)
    with pytest.raises(PitpropError, match=r"can't be read.*\n.*\nDo: run them: python -m pitprop"):
        load_results(of)


def test_a_script_says_what_is_wrong_without_a_traceback(tmp_path, capsys):
    of = replace(claims_of("model_merging"), folder=tmp_path)
    (tmp_path / "README.md").write_text("")
    with pytest.raises(SystemExit, match="2"):
        exit_with(lambda: main(of, ["--check"]))
    said = capsys.readouterr().err
    assert "can't be read" in said and "Traceback" not in said


def test_undefined_numbers_become_null():
    found = plain({"a": (math.nan, 1.0, 2), "b": "x", "c": np.float32(0.5), "d": np.array([1, 2]), "e": True})
    assert json.dumps(found, allow_nan=False) == '{"a": [null, 1.0, 2], "b": "x", "c": 0.5, "d": [1, 2], "e": true}'
