"""What the engine of trials costs and saves: 8 arms x 8 seeds, against the same runs one after another as scripts.

    python bench/trials.py            # some minutes; prints tables, writes bench/results/trials.json
    python bench/trials.py --smoke    # a minute; proves that it runs, measures nothing

Each way of running makes the same 64 runs of `bench/small_recipe.py`, in a new folder and a new process pool, and the
metrics of all ways must be equal. Rounds repeat all ways in an order that rotates. The engine's overhead per run is
measured with one worker that is up already: wall time less the time spent in the recipe's own code, per run.
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
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from small_recipe import STEPS, WIDTHS, Knobs

from pitprop.trials import Arm, Plan, run_plan
from pitprop.trials.execute import Results
from pitprop.trials.executors import Task
from pitprop.trials.executors.place import open_executor
from pitprop.trials.interventions import Knob
from pitprop.trials.run import spec_source

SCRIPT = Path(__file__).with_name("small_recipe.py")
RESULTS = Path(__file__).parent / "results" / "trials.json"
RUN_S, TARGET = 30.0, 0.01
"""The overhead per run is to stay under this share of a run of so many seconds."""

Metrics = dict[tuple[str, int], dict[str, float]]


def plan(seeds: int, steps: int) -> Plan:
    """The control and seven arms."""
    reference = f"{SCRIPT.resolve()}:recipe"
    return Plan(
        recipe=reference,
        source=spec_source(reference),
        arms=tuple(Arm(f"width={width}", (Knob("width", width),)) for width in WIDTHS),
        seeds=tuple(range(seeds)),
        metric="accuracy",
        margin=0.01,
        horizon=steps,
    )


def as_scripts(what: Plan) -> tuple[float, Metrics]:
    """One python process per run, one after another."""
    start, found = time.perf_counter(), {}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, width in {"control": Knobs().width, **{f"width={width}": width for width in WIDTHS}}.items():
        for seed in what.seeds:
            options = ["--seed", seed, "--width", width, "--steps", what.horizon]
            done = subprocess.run(
                [sys.executable, str(SCRIPT), *map(str, options)],
                capture_output=True,
                text=True,
                env=environment,
                check=True,
            )
            found[name, seed] = json.loads(done.stdout)["metrics"]
    return time.perf_counter() - start, found


def engine(on: str, workers: int) -> Callable[[Plan], tuple[float, Metrics]]:
    """A trial, with the start and end of its workers."""

    def run(what: Plan) -> tuple[float, Metrics]:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            results = run_plan(what, folder, on=on, workers=workers)
            return time.perf_counter() - start, metrics_of(results)

    return run


def overhead(what: Plan, on: str) -> float:
    """Seconds per run that are not spent in the recipe, with one worker that has the recipe loaded."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_executor(on, 1, folder=Path(folder)) as executor,
    ):
        list(executor.run([Task(function=spec_source, arguments=(what.recipe,))]))  # the worker is up
        run_plan(plan(1, 1), Path(folder, "warm"), executor=executor)
        start = time.perf_counter()
        results = run_plan(what, Path(folder, "timed"), executor=executor)
        wall = time.perf_counter() - start
    return (wall - sum(record["training_s"] for record in results.values())) / len(results)


def metrics_of(results: Results) -> Metrics:
    return {key: record["metrics"] for key, record in results.items()}


WAYS = {
    "scripts, one after another": as_scripts,
    "local, 1 worker": engine("local", 1),
    "local, 2 workers": engine("local", 2),
    "ray, 2 workers": engine("ray", 2),
}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def show(values: dict[str, float], digits: int = 1) -> str:
    return f"{values['median']:.{digits}f} ({values['low']:.{digits}f} to {values['high']:.{digits}f})"


def measure(what: Plan, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall seconds of every way and overheads per run in milliseconds, round by round."""
    walls: dict[str, list[float]] = {name: [] for name in WAYS}
    overheads: dict[str, list[float]] = {"local": [], "ray": []}
    order = list(WAYS)
    for _ in range(rounds):
        seen: dict[str, Metrics] = {}
        for name in order:
            wall, seen[name] = WAYS[name](what)
            walls[name].append(wall)
        for name in order:
            if seen[name] != seen[order[0]]:
                raise SystemExit(f"`{name}` and `{order[0]}` disagree: nothing was measured")
        for on, values in overheads.items():
            values.append(1000 * overhead(what, on))
        order = order[1:] + order[:1]
    return walls, overheads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one round of one seed; write nothing")
    smoke = parser.parse_args().smoke
    torch.set_num_threads(1)
    what = plan(1, 5) if smoke else plan(8, STEPS)
    num_runs = (1 + len(what.arms)) * len(what.seeds)
    walls, overheads = measure(what, 1 if smoke else 3)

    scripts = walls["scripts, one after another"]
    ways, costs = {}, {on: spread(values) for on, values in overheads.items()}
    table = Table(
        title=f"{1 + len(what.arms)} arms x {len(what.seeds)} seeds = {num_runs} runs of {what.horizon} steps"
    )
    for column in ("way", "wall, s", "times as fast as scripts"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, seconds in walls.items():
        faster = spread([a / b for a, b in zip(scripts, seconds, strict=True)])
        ways[name] = {"wall_s": spread(seconds), "speedup": faster}
        table.add_row(name, show(ways[name]["wall_s"]), show(faster, 2))
    console = Console()
    console.print(table)
    for on, cost in costs.items():
        share = cost["median"] / 1000 / RUN_S
        console.print(f"overhead per run, {on}: {show(cost)} ms, {share:.2%} of a run of {RUN_S:g} s")
    if smoke:
        console.print("a smoke run: these numbers mean nothing and were not written")
        return
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count(), "load": os.getloadavg()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "num_runs": num_runs,
        "num_steps": what.horizon,
        "ways": ways,
        "overhead_ms_per_run": costs,
        "target": {"share": TARGET, "of_run_s": RUN_S},
        "rounds": {"wall_s": walls, "overhead_ms": overheads},
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    reached = costs["local"]["median"] / 1000 <= TARGET * RUN_S
    console.print(f"target {TARGET:.0%} of {RUN_S:g} s: {'reached' if reached else 'missed'}; written to {RESULTS}")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
