"""Cost of the trace: time per append (one transaction), bytes per value (also as a line per value), time per series.

    .venv/bin/python bench/trace_store.py [--steps 2000] [--sites 200] [--indicators 6] [--repeats 5]

The values are float32 noise, which does not compress; the folder is temporary, on the disk of `--folder`.
"""

import argparse
import contextlib
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from pitprop.trace import Reader, Writer, collect


def measure(folder: Path, steps: int, sites: int, indicators: int) -> dict[str, float]:
    values = np.random.default_rng(0).normal(size=(indicators, sites)).tolist()
    names = [f"model.layers.{i}.attention" for i in range(sites)]
    step_values = {f"indicator_{i}": dict(zip(names, row, strict=True)) for i, row in enumerate(values)}
    wall, cpu = [], time.process_time_ns()
    with Writer(folder, collect("bench")) as writer:
        for step in range(steps):
            start = time.perf_counter_ns()
            writer.append(step, step_values)
            wall.append((time.perf_counter_ns() - start) / 1e3)
    cpu = time.process_time_ns() - cpu
    size = (folder / "trace.sqlite").stat().st_size
    with Reader(folder) as reader:
        start = time.perf_counter_ns()
        reader.series("indicator_0", names[sites // 2])
        series = time.perf_counter_ns() - start
    return {
        "append, wall median (us)": statistics.median(wall),
        "append, wall 99th percentile (us)": float(np.percentile(wall, 99)),
        "append, CPU mean with opening and closing (us)": cpu / 1e3 / steps,
        "size (bytes per value)": size / (steps * sites * indicators),
        "size of a line per value (bytes per value)": line_per_value(folder, steps, sites, indicators),
        "read one series (ms)": series / 1e6,
    }


def line_per_value(folder: Path, steps: int, sites: int, indicators: int) -> float:
    """Bytes per value of the plain alternative: a table with a row (step, indicator, site, value) for each."""
    noise = np.random.default_rng(0).normal(size=(indicators, sites)).astype(np.float32)
    path = folder / "lines.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE lines (step INTEGER, indicator INTEGER, site INTEGER, value REAL)")
        for step in range(steps):
            rows = ((step, i, j, float(noise[i, j])) for i in range(indicators) for j in range(sites))
            database.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows)
    return path.stat().st_size / (steps * sites * indicators)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--sites", type=int, default=200)
    parser.add_argument("--indicators", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where to make the temporary folder")
    options = parser.parse_args()
    runs = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            runs.append(measure(Path(folder), options.steps, options.sites, options.indicators))
    print(f"{options.steps} steps x {options.sites} sites x {options.indicators} indicators, {options.repeats} repeats")
    for name in runs[0]:
        found = sorted(run[name] for run in runs)
        print(f"{name:50} median {statistics.median(found):8.2f}   {found[0]:8.2f} to {found[-1]:8.2f}")


if __name__ == "__main__":
    main()
