"""A tiny repository with a known guilty commit: a recipe of a millisecond, and a package that commits change."""

import multiprocessing
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pitprop.trials.bisection.drive_revisions import bisect_revisions
from pitprop.trials.executors._attempts import call

IDENTITY = {
    f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"), ("DATE", "2026-01-02T03:04:05+00:00"))
}  # fmt: skip

RECIPE = """
import random
from dataclasses import dataclass

from colours import COLLAPSES_AT

from pitprop.trials import Recipe


@dataclass(frozen=True)
class Knobs:
    lr: float = 0.1


class Training:
    def __init__(self, seed, knobs):
        self.seed = seed

    def state(self):
        return {"seed": self.seed}

    def load_state(self, state):
        self.seed = state["seed"]

    def batches(self, cursor):
        while True:
            yield 0

    def step(self, batch):
        return {"loss": 0.0}

    def evaluate(self):
        chance = random.Random(self.seed)
        collapsed = chance.random() < COLLAPSES_AT
        return {"spread": (0.0 if collapsed else 1.0) + chance.gauss(0, 0.02)}


recipe = Recipe(build=Training, knobs=Knobs, metric="spread", margin=0.05, steps=1)
"""


def run_git(place: Path, *arguments: str) -> str:
    """What git prints in `place`, under a configuration that is nobody's."""
    environment = os.environ | IDENTITY | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *arguments], cwd=place, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(place: Path, files: Mapping[str, str]) -> None:
    """Write `files`, by relative path."""
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def make_repository(place: Path, commits: Sequence[Mapping[str, str]]) -> list[str]:
    """A repository at `place` with a healthy first commit and then `commits`, each the files that it writes; hashes."""
    place.mkdir(parents=True)
    run_git(place, "init", "--quiet", "--initial-branch=main")
    hashes = []
    first = {"work/recipe.py": RECIPE, "src/colours/__init__.py": "COLLAPSES_AT = 0.0\n", "notes.txt": "0\n"}
    for number, files in enumerate([first, *commits]):
        write(place, files)
        run_git(place, "add", "--all")
        run_git(place, "commit", "--quiet", "--message", f"Commit {number}")
        hashes.append(run_git(place, "rev-parse", "HEAD"))
    return hashes


def note(number: int) -> dict[str, str]:
    """A commit that plays no part."""
    return {"notes.txt": f"{number}\n"}


def collapse(rate: float) -> dict[str, str]:
    """A commit from which on a run collapses at `rate` of the seeds."""
    return {"src/colours/__init__.py": f"COLLAPSES_AT = {rate}\n"}


class Forked:
    """One worker, forked: like a spawned one it has none of the user's modules, and it starts at once."""

    workers = 1

    def __enter__(self):
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def run(self, tasks):
        for index, task in enumerate(tasks):
            self.pipe.send(task)
            yield index, self.pipe.recv()


def serve(pipe):
    while True:
        pipe.send(call(pipe.recv()))


def search(repository, good, bad, out, **options):
    given = {"metric": None, "budget": 300, "pools": 2, "timeout_s": None, "progress": None}
    return bisect_revisions(
        f"{repository}/work/recipe.py:recipe",
        good,
        bad,
        open_pool=lambda limit: Forked(),
        folder=out,
        **given | options,
    )
