"""What the engine of trials costs and saves: 8 arms x 8 seeds, against the same runs one after another as scripts.

    python bench/trials.py            # about six minutes on two quiet cores; writes bench/results/trials.json
    python bench/trials.py --smoke    # a minute; proves that it runs, measures nothing

Every way of running makes the same 64 runs of `bench/small_recipe.py`, about a second of training each, in four blocks
of two seeds; no arm is stopped early, or the ways would not make the same runs. The ways take turns block by block, in
an order that rotates, and the metrics of all must be equal. In each block a way starts anew, in a new folder; its start
(processes that import torch and the recipe) and its end are timed apart, for a trial pays them once. A ratio is that of
two ways in one block. The engine's overhead per run is the wall time of one worker that is up, less what its runs spent
in the recipe's own code, per run.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from small_recipe import STEPS, WIDTHS, Knobs

from pitprop.trials import Arm, Plan, run_plan
from pitprop.trials.executors import Task
from pitprop.trials.executors.place import open_executor
from pitprop.trials.interventions import Knob
from pitprop.trials.run import cached_recipe, spec_source

SCRIPT = Path(__file__).with_name("small_recipe.py")
REFERENCE = f"{SCRIPT.resolve()}:recipe"
RESULTS = Path(__file__).parent / "results" / "trials.json"
RUN_S, TARGET = 30.0, 0.01
"""The overhead per run is to stay under this share of a run of so many seconds."""


@dataclass(frozen=True)
class Block:
    """One way through one block of runs; seconds."""

    start_s: float
    """Start and end of the workers; 0 for scripts, which start for each run."""
    runs_s: float
    """Wall time of the runs."""
    training_s: float
    """Of all runs together, in the recipe's own code."""
    metrics: dict[tuple[str, int], dict[str, float]]


def plan(seeds: range, steps: int) -> Plan:
    """The control and seven arms."""
    return Plan(
        recipe=REFERENCE,
        source=spec_source(REFERENCE),
        arms=tuple(Arm(f"width={width}", (Knob("width", width),)) for width in WIDTHS),
        seeds=tuple(seeds),
        metric="accuracy",
        margin=0.01,
        horizon=steps,
        early_stop=False,
    )


def as_scripts(what: Plan) -> Block:
    """One python process per run, one after another."""
    start, training, found = time.perf_counter(), 0.0, {}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, width in {"control": Knobs().width, **{f"width={width}": width for width in WIDTHS}}.items():
        for seed in what.seeds:
            options = ["--seed", seed, "--width", width, "--steps", what.horizon]
            command = [sys.executable, str(SCRIPT), *map(str, options)]
            done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True).stdout)
            found[name, seed] = done["metrics"]
            training += done["training_s"]
    return Block(0.0, time.perf_counter() - start, training, found)


def engine(on: str, workers: int) -> Callable[[Plan], Block]:
    """A trial."""

    def run(what: Plan) -> Block:
        with tempfile.TemporaryDirectory() as folder:
            times = [time.perf_counter()]
            with open_executor(on, workers, folder=Path(folder), timeout_s=600) as executor:
                list(executor.run([Task(function=warm_up, arguments=(folder, workers))] * workers))
                times.append(time.perf_counter())
                results = run_plan(what, folder, executor=executor)
                times.append(time.perf_counter())
            times.append(time.perf_counter())
        a, b, c, d = times
        training = sum(record["training_s"] for record in results.values())
        return Block(b - a + d - c, c - b, training, {key: record["metrics"] for key, record in results.items()})

    return run


def warm_up(folder: str, workers: int) -> None:
    """Load the recipe, and wait for the other workers, so that none takes two of these."""
    cached_recipe(REFERENCE)
    Path(folder, f"up-{os.getpid()}").touch()
    while len(list(Path(folder).glob("up-*"))) < workers:
        time.sleep(0.01)


SCRIPTS, ONE, TWO, RAY = "scripts, one after another", "local, 1 worker", "local, 2 workers", "ray, 2 workers"
WAYS = {SCRIPTS: as_scripts, ONE: engine("local", 1), TWO: engine("local", 2), RAY: engine("ray", 2)}
RATIOS = {
    "local, 1 worker, as fast as scripts": (SCRIPTS, ONE),
    "local, 2 workers, as fast as scripts": (SCRIPTS, TWO),
    "2 workers as fast as 1": (ONE, TWO),
    "ray as fast as local": (TWO, RAY),
}
"""Name -> (numerator, denominator) of wall times of the runs."""


def measure(blocks: list[Plan], console: Console) -> dict[str, list[Block]]:
    """Every way through every block."""
    found: dict[str, list[Block]] = {name: [] for name in WAYS}
    order = list(WAYS)
    for number, what in enumerate(blocks, 1):
        for name in order:
            block = WAYS[name](what)
            found[name].append(block)
            console.print(f"block {number} of {len(blocks)}: {name}, {block.start_s + block.runs_s:.1f} s", style="dim")
        for name in order:
            if found[name][-1].metrics != found[order[0]][-1].metrics:
                raise SystemExit(f"`{name}` and `{order[0]}` disagree: nothing was measured")
        order = order[1:] + order[:1]
    return found


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def show(values: dict[str, float], digits: int = 2) -> str:
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to {values['high']:.{digits}f})"


def summarise(found: dict[str, list[Block]]) -> dict:
    """What the blocks say: per way, ratios block by block, and what is not training."""
    ways = {}
    for name, blocks in found.items():
        start, runs = spread([b.start_s for b in blocks]), sum(b.runs_s for b in blocks)
        ways[name] = {"start_s": start, "runs_s": runs, "trial_s": start["median"] + runs}
    for way in ways.values():
        way["as_fast_as_scripts"] = ways[SCRIPTS]["trial_s"] / way["trial_s"]
    ratios = {
        name: spread([a.runs_s / b.runs_s for a, b in zip(found[over], found[under], strict=True)])
        for name, (over, under) in RATIOS.items()
    }
    apart = {name: spread([(b.runs_s - b.training_s) / len(b.metrics) for b in found[name]]) for name in (SCRIPTS, ONE)}
    training = spread([b.training_s / len(b.metrics) for b in found[ONE]])
    return {"ways": ways, "ratios": ratios, "training_s_per_run": training, "not_training_s_per_run": apart}


def report(summary: dict, num_runs: int, blocks: int, console: Console) -> None:
    table = Table(title=f"8 arms x {num_runs // 8} seeds = {num_runs} runs")
    for column in ("way", "start and end, s", "the runs, s", "a whole trial, s", "as fast as scripts"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, way in summary["ways"].items():
        seconds = (f"{way['runs_s']:.1f}", f"{way['trial_s']:.1f}", f"{way['as_fast_as_scripts']:.2f}")
        table.add_row(name, show(way["start_s"], 1) if way["start_s"]["high"] else "in each run", *seconds)
    console.print(table)
    console.print(f"The runs alone, median (lowest to highest) of {blocks} blocks:")
    for name, ratio in summary["ratios"].items():
        console.print(f"  {name}: {show(ratio)}")
    apart = summary["not_training_s_per_run"]
    overhead = {name: 1000 * seconds for name, seconds in apart[ONE].items()}
    share = apart[ONE]["median"] / RUN_S
    console.print(f"One run: training {show(summary['training_s_per_run'])} s;")
    console.print(f"  a script's start, imports and end: {show(apart[SCRIPTS])} s;")
    console.print(f"  the engine's overhead: {show(overhead, 1)} ms, {share:.2%} of a run of {RUN_S:g} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one block of one seed; write nothing")
    smoke = parser.parse_args().smoke
    torch.set_num_threads(1)
    console = Console(soft_wrap=True, highlight=False)
    blocks = [plan(range(1), 5)] if smoke else [plan(range(first, first + 2), STEPS) for first in range(0, 8, 2)]
    num_runs = sum((1 + len(what.arms)) * len(what.seeds) for what in blocks)
    load = os.getloadavg()  # before: afterwards it is our own
    if load[0] > 0.5 and not smoke:
        console.print(
            f"the load is {load[0]:.1f}: this machine is not quiet, and its times will say little", style="red"
        )
    found = measure(blocks, console)
    summary = summarise(found)
    report(summary, num_runs, len(blocks), console)
    if smoke:
        console.print("a smoke run: these numbers mean nothing and were not written")
        return
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count(), "load": load},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "num_runs": num_runs,
        "num_steps": STEPS,
        "target": {"share": TARGET, "of_run_s": RUN_S},
        **summary,
        "blocks": {
            name: [{"start_s": b.start_s, "runs_s": b.runs_s, "training_s": b.training_s} for b in blocks]
            for name, blocks in found.items()
        },
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    reached = summary["not_training_s_per_run"][ONE]["median"] <= TARGET * RUN_S
    console.print(f"target {TARGET:.0%} of {RUN_S:g} s: {'reached' if reached else 'missed'}; written to {RESULTS}")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
