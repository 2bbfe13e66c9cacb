"""Seconds of `pitprop.check` on five small models, with what it says of each; and of `pitprop check` on recipes given.

    .venv/bin/python bench/checks.py [--threads 2] [RECIPE ...]

The numbers go to `bench/results/checks.json`.

Wall time is of a whole call in a process that has torch loaded, once to warm up and then the median of `--repeats`.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import pitprop
from pitprop.records import Finding

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "checks"))
from check_models import ACCEPTANCE

RESULTS = Path(__file__).parent / "results" / "checks.json"


def ask(name: str) -> list[Finding]:
    torch.manual_seed(0)
    make, batch, loss_fn = ACCEPTANCE[name]
    model = make()
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    x = batch()

    def step(x):
        optimizer.zero_grad()
        loss_fn(model, x).backward()
        optimizer.step()

    return pitprop.check(model, x, loss_fn, optimizer=optimizer, step=step, allow=["not-run"])


def report(name: str, call: Callable[[], list[Finding]], repeats: int) -> dict[str, Any]:
    findings = call()
    walls, cpu = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        findings = call()
        walls.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    print(f"{name}: {statistics.median(walls):.2f} s (median of {repeats})")
    for finding in findings:
        print(f"  {finding.severity:8} {finding.rule} at {finding.site}: {finding.message}")
    said = [f"{finding.severity} {finding.rule} at {finding.site}" for finding in findings]
    return {"wall_s": walls, "cpu_s": cpu, "findings": said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measured = {name: report(name, lambda name=name: ask(name), options.repeats) for name in ACCEPTANCE}
    if options.recipes:
        from pitprop.trials.preflight import check_recipe

        for recipe in options.recipes:
            measured[recipe] = report(
                recipe, lambda recipe=recipe: check_recipe(recipe, {}, 0).findings, options.repeats
            )
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pitprop": pitprop.__version__,
        "threads": options.threads,
    }
    RESULTS.write_text(json.dumps(facts | {"checks": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
