"""The command behind `make bench-rules`; see the package."""

import argparse
import statistics
import sys

from pitprop.rules import by_name
from score_cards import card
from score_cards.run import Run, run_all, runs

CARD_SEEDS, DEVELOPMENT = 6, 100
"""Seeds 0 to 5 make the card and are never looked at while rules are made; development has those from 100 up."""

QUICK = ("mlp", "vae", "fusion")
UNKNOWN_S = 6.0
"""CPU seconds that a run is taken for while none like it has been measured."""


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="score_cards", description="Score cards of the rules.")
    parser.add_argument("--only", metavar="RULE", nargs="+", help="these rules: their fault runs, and all healthy ones")
    parser.add_argument("--quick", action="store_true", help="three models and one seed; writes no card")
    parser.add_argument("--development", action="store_true", help="seeds from 100 up; writes no card")
    parser.add_argument("--seeds", type=int, default=CARD_SEEDS, help="number of seeds (a card needs 6 or more)")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    for name in options.only or ():
        by_name(name)
    if options.seeds < 1 or options.workers < 1:
        parser.error("--seeds and --workers are 1 or more")
    if not (options.development or options.quick) and not CARD_SEEDS <= options.seeds <= DEVELOPMENT:
        parser.error(f"a card needs {CARD_SEEDS} to {DEVELOPMENT} seeds; --development may have fewer, and writes none")
    return options


def select(options: argparse.Namespace) -> list[Run]:
    """The runs that `options` ask for. Only `--development` reaches seeds from 100 up, and it reaches no other."""
    first = DEVELOPMENT if options.development or options.quick else 0
    number = 1 if options.quick else options.seeds
    chosen = runs(range(first, first + number), options.only)
    return [run for run in chosen if run.variant.model in QUICK] if options.quick else chosen


def estimate(wanted: list[Run], workers: int) -> str:
    """How long it will take, from runs that are known already."""
    known = {run: run.result for run in wanted}
    seconds = [result["seconds"] for result in known.values() if result]
    missing = [run for run, result in known.items() if result is None]
    each = statistics.mean(seconds) if seconds else UNKNOWN_S
    source = f"as measured on {len(seconds)} runs" if seconds else "a guess: nothing is measured yet"
    return (
        f"{len(wanted)} runs, {len(missing)} to train: about {len(missing) * each / workers / 60:.0f} minutes on "
        f"{workers} processes ({each:.1f} CPU seconds each, {source}). What is done is kept: start it again any time."
    )


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    wanted = select(options)
    print(estimate(wanted, options.workers))
    done, failed = [], []
    for run, judged in run_all(wanted, options.workers, card.judge):
        if isinstance(judged, BaseException):
            failed.append(f"{run.name}: {type(judged).__name__}: {judged}")
        else:
            done.append(card.Labelled(run, *judged))
    command = " ".join(["python -m score_cards", *arguments])
    found = card.cards(done, options.only, command)
    for one in found:
        print(f"{one.rule}: {one.line()}" + (f"; alarms on {one.alarmed_on}" if one.alarmed_on else ""))
    for one in done:
        if not one.took:
            print(f"the fault did not take: {one.run.name}")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    if failed:
        print("No card is written while runs fail.", file=sys.stderr)
        return 1
    if not (options.development or options.quick):
        card.write(found)
        print(f"Written to {card.FILE}. `python docs/generate.py` brings it into the pages.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
