"""From a plan to results on disk: each run once, written as it comes, under its content address."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pitprop._errors import PitpropError
from pitprop.trials.executors import Executor, Outcome, Task
from pitprop.trials.executors.place import open_executor
from pitprop.trials.foreign import refuse_foreign
from pitprop.trials.plan import CONTROL, Arm, Plan
from pitprop.trials.progress import OnRun
from pitprop.trials.run import RunSpec, train_run

Results = dict[tuple[str, int], dict[str, Any]]
"""(arm, seed) -> the run's record, as it lies in `runs/`."""

SINCE: dict[str, Any] = {"state": None, "diverged": None, "acted": [], "restarts": 0}
"""What was added to a record since its first form, so that older folders stay readable."""

RUN_IT = "make it run to its end; `workers.log` in the folder has the whole error."
"""What to do about an error that says nothing itself."""


def run_plan(
    plan: Plan,
    folder: str | Path,
    *,
    on: str = "local",
    workers: int | None = None,
    timeout_s: float | None = None,
    executor: Executor | None = None,
    on_run: OnRun | None = None,
) -> Results:
    """Write down `plan`, then run the control and every arm on its seeds.

    Args:
        plan: What to run; it is in `folder/plan.json` before the first run starts.
        folder: Gets `plan.json`, `runs/<address>.json`, `forks/` and `workers.log`.
        on, workers, timeout_s: Where to run, how many at a time, and when a run hangs; see `open_executor`.
        executor: An executor that is open already, instead.
        on_run: Called after each run that is new or known.

    Returns:
        See `run_arms`.
    """
    folder = make_folder(folder)
    write_plan(plan, folder)
    with contextlib.ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(open_executor(on, workers, folder=folder, timeout_s=timeout_s))
        return run_arms(plan, plan.arms, plan.seeds, folder, executor, on_run)


def run_arms(
    plan: Plan,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    executor: Executor,
    on_run: OnRun | None = None,
) -> Results:
    """Run the control and `arms` on `seeds`; what `folder/runs` already holds is not run again.

    Returns:
        A record for each (arm, seed). A run that raised, hung, or whose process died has status "failed" and its
        error; it is tried again when the plan is run again.
    """
    specs = {(arm.name, seed): spec_of(plan, arm, seed) for arm in (Arm(CONTROL), *arms) for seed in seeds}
    records = run_specs(list(specs.values()), folder, executor, on_run)
    return {key: records[spec.address] | {"arm": key[0]} for key, spec in specs.items()}


def spec_of(plan: Plan, arm: Arm, seed: int) -> RunSpec:
    """The run of `arm` at `seed`."""
    return RunSpec(
        recipe=plan.recipe,
        source=plan.source,
        knobs=plan.knobs,
        interventions=arm.interventions,
        seed=seed,
        horizon=plan.horizon,
        fork_step=plan.fork_step,
    )


def run_specs(
    specs: Sequence[RunSpec], folder: Path, executor: Executor, on_run: OnRun | None = None
) -> dict[str, dict[str, Any]]:
    """Run each distinct specification that `folder/runs` lacks; returns all records by address."""
    records: dict[str, dict[str, Any]] = {}
    missing: dict[str, RunSpec] = {}
    for spec in specs:
        known = read_json(folder / "runs" / f"{spec.address}.json")
        if known is not None and known.get("status") == "done":
            records[spec.address] = SINCE | known
            if on_run:
                on_run(known=True)
        else:
            missing[spec.address] = spec
    order = list(missing.values())
    tasks = [Task(function=train_run, arguments=(spec, str(folder / "forks"))) for spec in order]
    for index, outcome in executor.run(tasks):
        record = _record(order[index], outcome)
        write_json(folder / "runs" / f"{order[index].address}.json", record)
        records[order[index].address] = record
        if on_run:
            on_run(known=False)
    return records


def _record(spec: RunSpec, outcome: Outcome) -> dict[str, Any]:
    head = {"address": spec.address, "seed": spec.seed, "changes": Arm("", spec.interventions).describe()}
    head |= {"restarts": outcome.restarts}
    if outcome.error is not None:
        return head | {"status": "failed", "error": outcome.error}
    return head | {"status": "done", "error": None} | outcome.value


def metric_of(record: Mapping[str, Any], metric: str) -> float:
    """The metric of a run's record; NaN where the run failed."""
    return float(record["metrics"][metric]) if record["status"] == "done" else float("nan")


def make_folder(folder: str | Path) -> Path:
    """`folder` with its `runs`, made where missing; absolute, since workers may live in another one.

    Raises:
        PitpropError: It can't be written, or holds a file that pitprop did not write by a name that it would write to.
    """
    folder = Path(folder).resolve()
    refuse_foreign(folder)
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder / "runs").close()  # a folder that is there may still be read-only
    except OSError as error:
        raise PitpropError(
            f"The folder `{folder}` cannot be written: {error.strerror}.", do="give another folder, or make room there."
        ) from error
    return folder


def write_plan(plan: Plan, folder: Path) -> None:
    """Write `plan` and its hash down, before its first run."""
    write_json(folder / "plan.json", plan.to_dict() | {"hash": plan.hash})


def write_json(path: Path, data: Any) -> None:
    """Write `data` whole or not at all; once this has returned, it survives the death of process and machine.

    Raises:
        PitpropError: The disk is full, or refuses otherwise.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w") as file:
            json.dump(data, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise PitpropError(
            f"`{path}` cannot be written: {error.strerror}.",
            means="What was written before is whole and kept; nothing is half-written.",
            do="make room there and start the same again; it goes on from what is kept.",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None where there is nothing, or something torn.

    Raises:
        PitpropError: There is something that may not be read.
    """
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):  # ValueError: no JSON, or bytes that are no text
        return None
    except OSError as error:
        raise PitpropError(
            f"`{path}` cannot be read: {error.strerror}.",
            means="What it holds would be made anew, and overwritten.",
            do="make it readable, or give another folder.",
        ) from error
    return data if isinstance(data, dict) else None
