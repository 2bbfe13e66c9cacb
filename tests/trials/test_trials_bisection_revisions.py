"""Bisection of revisions, on repositories whose guilty commit is known: real git, real worktrees, processes by fork."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from git_history import IDENTITY, Forked, collapse, make_repository, note, run_git, search, write
from hypothesis import given, settings
from hypothesis import strategies as st
from trial_in_a_process import until

from pitprop import PitpropError
from pitprop.cli import main
from pitprop.trials import bisect
from pitprop.trials.bisection import drive
from pitprop.trials.bisection.drive_revisions import named_revisions
from pitprop.trials.bisection.halving import halve
from pitprop.trials.bisection.oracle import Oracle
from pitprop.trials.bisection.repository import changed_files, commit_at, commits_between, is_dirty
from pitprop.trials.bisection.worktrees import Worktrees

BROKEN = {"src/colours/__init__.py": "COLLAPSES_AT = \n"}


def footprint(repository):
    """Everything of the user's that a bisection must leave alone."""
    asked = (
        ["status", "--porcelain"],
        ["worktree", "list"],
        ["for-each-ref"],
        ["stash", "list"],
        ["rev-parse", "HEAD"],
    )
    return [run_git(repository, *arguments) for arguments in asked] + [(repository / ".git" / "index").read_bytes()]


def worktrees_in(out):
    return list(out.glob(".pitprop-worktrees*"))


@pytest.mark.slow
@pytest.mark.parametrize(("guilty", "rate"), [(7, 1.0), (7, 0.6), (1, 1.0), (12, 1.0)])
def test_the_guilty_commit_of_twelve_is_found(tmp_path, guilty, rate):
    commits = [collapse(rate) if n == guilty else note(n) for n in range(1, 13)]
    hashes = make_repository(tmp_path / "repository", commits)
    found = search(tmp_path / "repository", hashes[0], "main", tmp_path / "out")
    assert found.candidates == (hashes[guilty],) and found.healthy == hashes[guilty - 1]
    assert found.files == (("M", "src/colours/__init__.py"),)
    assert found.statement.startswith(
        f"`{hashes[guilty][:10]}` is the first bad commit: Commit {guilty} (Ada, 2026-01-02)"
    )
    assert found.confirm.verdict == "worse" and "Not confirmed" not in found.statement
    assert found.runs == len(list((tmp_path / "out" / "runs").glob("*.json"))) <= found.budget
    assert {t.outcome for t in found.tested} == {"healthy", "collapses"}
    for t in found.tested:
        assert t.collapsed == sum(value < found.cut for value in t.values) and t.failed == 0
        assert len(t.seeds) == len(t.values) >= 3
        assert (t.outcome == "collapses") == (hashes.index(t.commit) >= guilty)


def test_the_checkout_is_left_alone_and_nothing_of_it_runs(tmp_path):
    place = tmp_path / "repository"
    hashes = make_repository(place, [note(1), collapse(1.0), note(3)])
    write(place, {"src/colours/__init__.py": "raise RuntimeError('this is the checkout')\n", "new.txt": "untracked\n"})
    run_git(place, "stash", "push", "--quiet")
    write(place, {"src/colours/__init__.py": "raise RuntimeError('this is the checkout')\n"})
    run_git(place, "worktree", "add", "--quiet", "--detach", str(tmp_path / "mine"))
    before = footprint(place)
    found = search(place, hashes[0], "main", place / "runs")  # the folder lies in the checkout, as it does by default
    assert found.candidates == (hashes[2],)
    assert footprint(place) == before and (tmp_path / "mine" / "notes.txt").exists()
    assert not worktrees_in(place / "runs")
    assert any("not committed; they took no part" in limit for limit in found.limits)


@pytest.mark.slow
def test_commits_that_cannot_run_are_skipped_and_never_guilty(tmp_path):
    commits = [note(1), BROKEN, collapse(0.0), collapse(1.0), BROKEN, collapse(1.0), note(7)]
    hashes = make_repository(tmp_path / "repository", commits)
    found = search(tmp_path / "repository", hashes[0], hashes[-1], tmp_path / "out")
    assert found.candidates == (hashes[4],)

    commits = [note(1), note(2), BROKEN, {"work/recipe.py": ""}, {"src/colours/__init__.py": "COLLAPSES_AT = 1.0\n"}]
    recipe = (tmp_path / "repository" / "work" / "recipe.py").read_text()
    hashes = make_repository(tmp_path / "other", [*commits, {"work/recipe.py": recipe}, note(7)])
    found = search(tmp_path / "other", hashes[0], hashes[-1], tmp_path / "out2")
    assert found.candidates == tuple(hashes[3:7]) and found.healthy == hashes[2]
    assert "is one of 4" in found.statement and "cannot be tested" in found.statement
    errors = {hashes.index(t.commit): t.error for t in found.tested if t.outcome == "cannot be built"}
    assert "SyntaxError" in errors[3] and "has no attribute `recipe`" in errors[4]
    assert not any(str(tmp_path / "out2") in error for error in errors.values())


def test_a_commit_whose_runs_raise_is_unresolved_with_its_error(tmp_path):
    raising = {"src/colours/__init__.py": "COLLAPSES_AT = None\n"}
    hashes = make_repository(tmp_path / "repository", [raising, collapse(1.0)])
    found = search(tmp_path / "repository", hashes[0], hashes[-1], tmp_path / "out")
    assert found.candidates == tuple(hashes[1:])
    middle = found.tested[1]
    assert (middle.outcome, middle.failed, middle.seeds) == ("unresolved", 3, ())
    assert middle.error.startswith("TypeError") and "(at work/recipe.py:" in middle.error


def test_where_the_collapse_comes_and_goes_the_answer_is_a_true_step(tmp_path):
    rates = [0, 1, 1, 0, 0, 0, 1, 0, 1]
    hashes = make_repository(
        tmp_path / "repository", [collapse(float(rate)) | note(n) for n, rate in enumerate(rates, 1)]
    )
    found = search(tmp_path / "repository", hashes[0], hashes[-1], tmp_path / "out")
    step = hashes.index(found.candidates[0])
    assert rates[step - 1] == 1 and (step == 1 or rates[step - 2] == 0)
    assert "Where it comes and goes, there are other first bad commits" in found.limits[0]


@pytest.mark.slow
def test_ends_that_are_not_what_they_are_said_to_be_are_refused(tmp_path):
    hashes = make_repository(tmp_path / "repository", [note(1), collapse(0.45), collapse(1.0), note(4)])

    def refused(good, bad, message):
        with pytest.raises(PitpropError, match=message):
            search(tmp_path / "repository", hashes[good], hashes[bad], tmp_path / f"out{good}{bad}")

    refused(0, 1, r"Bad is not bad\. Nothing to find: bad and good do not differ by more than the margin, spread 1.0")
    refused(3, 4, r"Bad is not bad\. Nothing to find")
    refused(2, 4, r"Good is not good\. Good collapses as well")
    refused(1, 0, r"Bad \(.*\) is older than good")
    refused(1, 1, "same commit")


def test_an_end_without_the_recipe_is_refused(tmp_path):
    hashes = make_repository(tmp_path / "repository", [collapse(1.0), BROKEN])
    with pytest.raises(PitpropError, match=r"cannot be loaded at bad \(.*SyntaxError") as error:
        search(tmp_path / "repository", hashes[0], hashes[2], tmp_path / "out")
    assert "both ends must have it" in str(error.value) and str(tmp_path / "out") not in error.value.seen
    with pytest.raises(
        PitpropError, match=r"The good end failed at 8 of 8 seeds: `evaluate.*` returned no `sprad`: did you"
    ):
        search(tmp_path / "repository", hashes[0], hashes[1], tmp_path / "out", metric="sprad")


@pytest.mark.parametrize("budget", [16, 19, 30])
def test_the_budget_is_honoured(tmp_path, budget):
    hashes = make_repository(tmp_path / "repository", [collapse(1.0) if n == 6 else note(n) for n in range(1, 13)])
    found = search(tmp_path / "repository", hashes[0], hashes[-1], tmp_path / "out", budget=budget)
    assert found.runs == len(list((tmp_path / "out" / "runs").glob("*.json"))) <= budget
    assert hashes[6] in found.candidates
    assert "budget ended" in found.statement and "larger budget" in found.next


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_and_the_next_call_repeats_nothing(tmp_path):
    place, out = tmp_path / "repository", tmp_path / "out"
    hashes = make_repository(place, [collapse(1.0) if n == 6 else note(n) for n in range(1, 13)])
    before = footprint(place)

    def stop(progress):
        if progress.done == 22:
            assert len(run_git(place, "worktree", "list").splitlines()) > 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(place, hashes[0], hashes[-1], out, progress=stop)
    assert footprint(place) == before and not worktrees_in(out)
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}
    assert len(kept) == 22
    found = search(place, hashes[0], hashes[-1], out)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*.json")}
    assert found.candidates == (hashes[6],) and found.runs == len(after)
    assert {name: after[name] for name in kept} == kept
    written = json.loads((out / "bisection.json").read_text())
    assert written == json.loads(json.dumps(found.to_dict())) and written["kind"] == "revisions"


def test_with_the_checkout_as_its_folder_everything_of_the_user_stays(tmp_path):
    """A worktree of the user's with unsaved work, files and a .gitignore, all where a bisection might want to write."""
    place = tmp_path / "repository"
    hashes = make_repository(place, [note(1), collapse(1.0), {".gitignore": "*.pyc\n"}])
    run_git(place, "worktree", "add", "--quiet", "--detach", str(place / "worktrees" / "mine"))
    mine = {"worktrees/mine/unsaved.txt": "u", "worktrees/notes.txt": "n", "worktrees/mine/notes.txt": "changed"}
    write(place, mine)
    made = {"runs", "revisions", "plan.json", "bisection.json", "workers.log"}

    def status():
        return [
            line for line in run_git(place, "status", "--porcelain").splitlines() if line[3:].strip("/") not in made
        ]

    before, trees = status(), run_git(place, "worktree", "list")
    assert search(place, hashes[0], "main", place).candidates == (hashes[2],)
    assert {name: (place / name).read_text() for name in mine} == mine
    assert (place / ".gitignore").read_text() == "*.pyc\n"
    assert status() == before and run_git(place, "worktree", "list") == trees and not worktrees_in(place)


@pytest.mark.parametrize("name", ["plan.json", "runs/mine.json"])
def test_a_tracked_file_where_it_would_write_is_refused(tmp_path, name):
    place = tmp_path / "repository"
    hashes = make_repository(place, [collapse(1.0), {name: "{}", "a.toml": ""}])
    with pytest.raises(PitpropError, match=rf"{name}` is under version control[^$]*--out"):
        search(place, hashes[0], hashes[1], place)
    assert not run_git(place, "status", "--porcelain")


def test_the_answer_of_another_question_is_kept(tmp_path):
    place, out = tmp_path / "repository", tmp_path / "out"
    hashes = make_repository(place, [collapse(1.0), note(2)])
    first = search(place, hashes[0], hashes[1], out)
    search(place, hashes[0], hashes[1], out)
    assert not (out / "earlier").exists()
    second = search(place, hashes[0], hashes[2], out)
    kept = out / "earlier" / first.plan[:8]
    assert json.loads((kept / "bisection.json").read_text())["plan"] == first.plan
    assert json.loads((kept / "plan.json").read_text())["hash"] == first.plan
    assert json.loads((out / "bisection.json").read_text())["plan"] == second.plan != first.plan


def test_the_command_that_it_names_goes_on_in_the_same_folder(tmp_path, monkeypatch):
    place = tmp_path / "repository"
    hashes = make_repository(place, [collapse(1.0)])
    monkeypatch.setattr(drive, "open_executor", lambda *_, **__: Forked())
    monkeypatch.chdir(tmp_path)
    where = {"folder": "out", "on": "ray", "workers": 3, "timeout_s": 9.5}
    found = bisect(f"{place}/work/recipe.py:recipe", hashes[0], hashes[1], **where)
    options = ("--out", str(tmp_path / "out"), "--on", "ray", "--workers", "3", "--timeout-s", "9.5")
    assert found.command[-len(options) - 2 :] == ("--budget", "300", *options)


def test_what_a_killed_bisection_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    place = tmp_path / "repository"
    (first,) = make_repository(place, [])
    killed = Worktrees(place, tmp_path).__enter__()
    killed.at(commit_at(place, first))
    assert len(run_git(place, "worktree", "list").splitlines()) == 2
    with Worktrees(place, tmp_path):
        assert len(run_git(place, "worktree", "list").splitlines()) == 1
    assert not worktrees_in(tmp_path)

    Worktrees(place, tmp_path).__enter__().at(commit_at(place, first))
    (folder,) = worktrees_in(tmp_path)
    run_git(place, "worktree", "add", "--quiet", "--detach", str(folder / "mine"))
    write(folder, {"mine/unsaved.txt": "u", "notes.txt": "n"})
    with pytest.raises(PitpropError, match=r"worktrees-.*` holds what pitprop has not made[^$]*move it away"):
        Worktrees(place, tmp_path).__enter__()
    assert (folder / "mine" / "unsaved.txt").exists() and (folder / "notes.txt").exists()
    assert len(run_git(place, "worktree", "list").splitlines()) == 2


def test_code_that_comes_from_the_checkout_is_refused(tmp_path, monkeypatch):
    """As where a script imports the package and then starts a bisection, or an editable installation is found first."""
    place = tmp_path / "repository"
    hashes = make_repository(place, [collapse(1.0)])
    shadow = types.ModuleType("colours")
    shadow.COLLAPSES_AT, shadow.__file__ = 0.0, str(place / "src" / "colours" / "__init__.py")
    monkeypatch.setitem(sys.modules, "colours", shadow)
    with pytest.raises(
        PitpropError, match=r"colours \(.*\) was loaded from your checkout, not from the worktree"
    ) as error:
        search(place, hashes[0], hashes[1], tmp_path / "out")
    assert "PYTHONPATH" in error.value.do and not worktrees_in(tmp_path / "out")


def test_a_folder_on_the_path_is_moved_to_the_worktree(tmp_path, monkeypatch):
    place = tmp_path / "repository"
    moved = [{f"libs/deep/{name.partition('/')[2]}": text} for name, text in collapse(0.0).items()]
    moved += [{f"libs/deep/{name.partition('/')[2]}": text} for name, text in collapse(1.0).items()]
    make_repository(place, [moved[0]])
    run_git(place, "rm", "--quiet", "-r", "src")
    run_git(place, "commit", "--quiet", "--message", "Move")
    good = run_git(place, "rev-parse", "HEAD")
    write(place, moved[1])
    run_git(place, "commit", "--quiet", "--all", "--message", "Collapse")
    monkeypatch.syspath_prepend(place / "libs" / "deep")
    found = search(place, good, "HEAD", tmp_path / "out")
    assert found.candidates == (run_git(place, "rev-parse", "HEAD"),)


def test_a_merge_is_one_change(tmp_path):
    place = tmp_path / "repository"
    hashes = make_repository(place, [note(1)])
    run_git(place, "switch", "--quiet", "--create", "side", hashes[0])
    write(place, BROKEN)
    run_git(place, "commit", "--quiet", "--all", "--message", "Broken on its side")
    write(place, collapse(1.0))
    run_git(place, "commit", "--quiet", "--all", "--message", "Guilty on its side")
    side = run_git(place, "rev-parse", "HEAD")
    run_git(place, "switch", "--quiet", "main")
    run_git(place, "merge", "--quiet", "--no-edit", "side")
    merge = run_git(place, "rev-parse", "HEAD")
    found = search(place, hashes[0], "main", tmp_path / "out")
    assert [c.hash for c in found.commits] == [hashes[1], merge] and found.candidates == (merge,)
    assert f"git merge-base {hashes[1][:10]} {side[:10]}" in found.next

    # From a good one on the side branch, the line leads through it: every commit is the child of the one before.
    line = commits_between(place, commit_at(place, f"{side}~1"), commit_at(place, merge))
    assert [c.hash for c in line] == [side, merge]
    with pytest.raises(PitpropError, match=f"different branches[^$]*as good: {hashes[0][:10]}"):
        commits_between(place, commit_at(place, hashes[1]), commit_at(place, side))


def test_a_configuration_and_a_revision_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").touch()
    (tmp_path / "good.yaml").touch()
    assert named_revisions("good.toml", None) is None
    assert named_revisions({}, tmp_path / "missing.toml") is None
    assert named_revisions("v1.0", "missing.toml") == ("v1.0", "missing.toml")
    with pytest.raises(PitpropError, match=r"`HEAD` \(bad\) is no TOML file that exists, and good is a configuration"):
        named_revisions("good.toml", "HEAD")
    with pytest.raises(PitpropError, match=r"`HEAD` \(bad\) is no TOML file that exists, and good is not given"):
        named_revisions(None, "HEAD")

    make_repository(tmp_path / "repository", [])
    with pytest.raises(
        PitpropError, match=r"`missing.toml` is neither .*: there is no file `.*missing.toml`, and in `"
    ):
        commit_at(tmp_path / "repository", "missing.toml")
    with pytest.raises(PitpropError, match=r"it is a file that does not end in .toml"):
        commit_at(tmp_path / "repository", "good.yaml")
    with pytest.raises(PitpropError, match="does not begin with a dash"):
        commit_at(tmp_path / "repository", "--all")
    (tmp_path / "recipe.py").touch()
    with pytest.raises(PitpropError, match="lies in no checkout of a git repository"):
        bisect(f"{tmp_path}/recipe.py:recipe", "HEAD~1", "HEAD", folder=tmp_path / "out")
    with pytest.raises(PitpropError, match="An open executor was given for revisions"):
        bisect(f"{tmp_path}/recipe.py:recipe", "HEAD~1", "HEAD", folder=tmp_path / "out", executor=Forked())
    assert not (tmp_path / "out").exists()


def test_what_git_says_is_read_whatever_the_names(tmp_path):
    place = tmp_path / "repository"
    make_repository(place, [])
    write(place, {"a file\n": "", 'quoted "ä"': ""})
    run_git(place, "rm", "--quiet", "notes.txt")
    run_git(place, "add", "--all")
    run_git(place, "commit", "--quiet", "--message", "Überschrift: \t`x`\n\nText")
    before, after = commit_at(place, "HEAD~1"), commit_at(place, "HEAD")
    assert after.subject == "Überschrift: \t`x`" and after.author == IDENTITY["GIT_AUTHOR_NAME"]
    assert after.parents == (before.hash,) and not is_dirty(place)
    assert set(changed_files(place, before, after)) == {("A", "a file\n"), ("A", 'quoted "ä"'), ("D", "notes.txt")}


@pytest.mark.slow
def test_the_command_line_end_to_end(tmp_path, capsys, monkeypatch):
    place = tmp_path / "repository"
    hashes = make_repository(place, [note(1), collapse(1.0), note(3)])
    before = footprint(place)
    monkeypatch.chdir(place / "work")
    monkeypatch.setenv("COLUMNS", "100")
    arguments = ["bisect", "recipe.py:recipe", "--good", hashes[0], "--bad", "main", "--workers", "1"]
    assert main(arguments) == 1
    assert footprint(place) == before
    out = capsys.readouterr().out
    assert f"`{hashes[2][:10]}` is the first bad commit: Commit 2" in out and "changed: src/colours/__init__.py" in out
    assert len(out.splitlines()) <= 45 and all(len(line) <= 100 for line in out.splitlines() if "again:" not in line)
    assert (place / "work" / "runs" / "recipe-bisect" / "report.html").exists()
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["candidates"] == [hashes[2]]


@pytest.mark.slow
def test_ctrl_c_leaves_no_worktree_and_no_process(tmp_path):
    place = tmp_path / "repository"
    hashes = make_repository(place, [note(1), collapse(1.0), note(3)])
    before = footprint(place)
    # The child of a shell's background job ignores Ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    call_main = f"{heed}; import sys; from pitprop.cli import main; sys.exit(main())"
    arguments = ["bisect", f"{place}/work/recipe.py:recipe", "--good", hashes[0], "--bad", "main", "--out", "out"]
    process = subprocess.Popen([sys.executable, "-c", call_main, *arguments], cwd=tmp_path, start_new_session=True)
    while len(run_git(place, "worktree", "list").splitlines()) == 1:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert footprint(place) == before and not worktrees_in(tmp_path / "out")
    until(lambda: not group_is_alive(process.pid))


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_halving_brackets_the_guilty_commit_and_only_what_cannot_run_stays_between(data):
    count = data.draw(st.integers(1, 40))
    guilty = data.draw(st.integers(1, count))
    broken = data.draw(st.sets(st.integers(1, count - 1))) if count > 1 else set()
    names = [str(n) for n in range(count)]
    asked = []

    def runs(subset, seeds):
        asked.append(len(subset))
        return [len(subset) >= guilty for _ in seeds]

    bracket = halve(Oracle(runs, names, budget=10**6), lambda middle: middle not in broken)
    assert bracket.ends == "apart" and not bracket.spent and not broken & set(asked)
    assert bracket.healthy < guilty <= bracket.collapsing
    assert set(range(bracket.healthy + 1, bracket.collapsing)) <= broken
    if not broken:
        assert len(set(asked)) <= 2 + count.bit_length()
