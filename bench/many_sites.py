"""What many sites, and prewhitening, do to false alarms and delays: the tables of docs/design/004-many-sites.md.

    python bench/many_sites.py            # about two minutes on one core; seeds are fixed

Sites are AR(1) series of unit variance. The shift detector of `rules/_online.py` is folded over all of them at once,
and compared with `follow` itself on a few before anything is printed.
"""

import math

import numpy as np

from pitprop.rules._online import PATIENCE, RUN_LENGTH, SMALLEST_MARGIN, WARM_UP, follow, new_shift

PHIS = (0.0, 0.9, 0.98)


def healthy(num_rows: int, num_sites: int, phi: float, rng: np.random.Generator) -> np.ndarray:
    """AR(1) of unit variance, `[row, site]`."""
    levels = rng.standard_normal((num_rows, num_sites))
    levels[1:] *= math.sqrt(1 - phi * phi)
    for t in range(1, num_rows):
        levels[t] += phi * levels[t - 1]
    return levels


def fold(levels: np.ndarray, span: float, spreads: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """ln M and rows in succession at the failed level, both `[row, site]`; a margin of `spreads` robust deviations."""
    centre = np.median(levels[:WARM_UP], axis=0)
    spread = 1.4826 * np.median(np.abs(levels[:WARM_UP] - centre), axis=0)
    margin = np.maximum(spreads * spread / span, SMALLEST_MARGIN)
    log_sum, at_level = np.full(levels.shape, -math.inf), np.zeros(levels.shape, dtype=int)
    for t in range(WARM_UP, len(levels)):
        excess = (levels[t] - centre) / span
        gain = np.log1p(0.5 * (np.clip(excess, 0, 1) - margin) / margin)
        log_sum[t] = np.logaddexp(log_sum[t - 1], 0.0) + gain
        at_level[t] = np.where(excess >= 1, at_level[t - 1] + 1, 0)
    return log_sum, at_level


def check_fold() -> None:
    """The fold is that of the rules."""
    levels = healthy(120, 6, 0.9, np.random.default_rng(9))
    levels[60:, :3] += 9
    log_sum, at_level = fold(levels, 8.0)
    for site in range(6):
        state = new_shift()
        for t, value in enumerate(levels[:, site]):
            state = follow(state, t, float(value), 8.0)
        if not math.isclose(state.evidence.log_sum, log_sum[-1, site]) or state.at_level.count != at_level[-1, site]:
            raise SystemExit("the fold of this file is not that of rules/_online.py")


def first(passed: np.ndarray) -> np.ndarray:
    """First row of `passed[row, site]` at each site; NaN where there is none."""
    return np.where(passed.any(axis=0), passed.argmax(axis=0), np.nan)


def selected(log_sum: np.ndarray) -> np.ndarray:
    """First row at which e-BH over all sites finds each; -inf in `log_sum` is "not persistent". NaN is never."""
    num_sites = log_sum.shape[1]
    found = np.full(num_sites, np.nan)
    needed = math.log(RUN_LENGTH * num_sites) - np.log(np.arange(1, num_sites + 1))
    for t in range(len(log_sum)):
        now = np.where(np.isnan(found), log_sum[t], math.inf)
        passing = np.nonzero(np.sort(now)[::-1] >= needed)[0]
        if passing.size:
            found[np.isnan(found) & (now >= needed[passing[-1]])] = t
    return found


def many_sites(num_sites: int = 10_000, num_rows: int = 500, num_faulty: int = 20, num_runs: int = 5) -> None:
    print(
        f"\n{num_sites} sites x {num_rows} rows, {num_runs} runs; false alarms of all runs: one by one, and with e-BH"
    )
    print("then faults (level 1.2 spans up, from row 300) at 20 sites: found, median delay one by one and with e-BH")
    print("| phi | span | evidence alone | with patience | delay, evidence alone | delay with patience |")
    for phi in PHIS:
        for span in (3.0, 6.0, 8.0, 12.0, 20.0):
            alarms, delays = np.zeros(4, dtype=int), [[], [], [], []]
            for seed in range(num_runs):
                levels = healthy(num_rows, num_sites, phi, np.random.default_rng(seed))
                levels[300:, :num_faulty] += 1.2 * span
                log_sum, at_level = fold(levels, span)
                lasting = np.where(at_level >= PATIENCE, log_sum, -math.inf)
                one = math.log(RUN_LENGTH)
                for i, rows in enumerate(
                    (first(log_sum >= one), selected(log_sum), first(lasting >= one), selected(lasting))
                ):
                    alarms[i] += np.isfinite(rows[num_faulty:]).sum() + (rows[:num_faulty] < 300).sum()
                    delays[i] += list(rows[:num_faulty] - 299)
            said = [f"{np.nanmedian(d):.0f} ({np.isfinite(d).sum()})" for d in delays]
            print(
                f"| {phi} | {span:.0f} sd | {alarms[0]}, {alarms[1]} | {alarms[2]}, {alarms[3]} "
                f"| {said[0]}, {said[1]} | {said[2]}, {said[3]} |",
                flush=True,
            )


def coins(num_sites: int = 10_000, num_rows: int = 500, num_faulty: int = 20, num_runs: int = 5) -> None:
    """The worst that is healthy: fair coins against "not more than half are heads"; then 20 sites with nothing else."""
    alarms, delays = [[], []], [[], []]
    for seed in range(num_runs):
        heads = np.random.default_rng(seed).integers(0, 2, (num_rows, num_sites)).astype(float)
        heads[300:, :num_faulty] = 1
        log_sum = np.full(heads.shape, -math.inf)
        for t in range(num_rows):
            before = log_sum[t - 1] if t else log_sum[0]
            log_sum[t] = np.logaddexp(before, 0.0) + np.log1p(0.5 * (heads[t] - 0.5) / 0.5)
        for i, rows in enumerate((first(log_sum >= math.log(RUN_LENGTH)), selected(log_sum))):
            alarms[i].append(int(np.isfinite(rows[num_faulty:]).sum() + (rows[:num_faulty] < 300).sum()))
            delays[i] += list(rows[:num_faulty] - 299)
    print(f"\nFair coins at {num_sites} sites x {num_rows} rows, {num_runs} runs: one by one, and with e-BH")
    print("false alarms", *alarms, "median delay", *(np.nanmedian(d) for d in delays), flush=True)


def whitened(levels: np.ndarray, phi: float | None) -> np.ndarray:
    """Innovations over 1 - phi, so that a lasting shift keeps its size; `phi` is fitted to the warm-up where None."""
    past, now = levels[: WARM_UP - 1], levels[1:WARM_UP]
    past, now = past - levels[:WARM_UP].mean(0), now - levels[:WARM_UP].mean(0)
    fitted = np.clip((past * now).sum(0) / (past * past).sum(0), 0, 0.98)
    known = fitted if phi is None else np.full_like(fitted, phi)
    return np.concatenate([levels[:1], (levels[1:] - known * levels[:-1]) / (1 - known)])


def prewhitening(num_sites: int = 4000, num_rows: int = 1000, onset: int = 500) -> None:
    print(
        f"\n{num_sites} series x {num_rows} rows; the smallest margin with at most 1 % false alarms in {num_rows} rows,"
    )
    print("and the median delay and the share found within 500 rows, of a shift of 1.2 spans; evidence alone")
    print("| phi | span | as it is: margin, delay, found | fitted phi | true phi |")
    grid = [0.25, 0.5, 0.75, *np.arange(1, 10, 0.5), *np.arange(10, 41, 2)]
    for phi in PHIS:
        calm = healthy(num_rows, num_sites, phi, np.random.default_rng(100))
        ill = healthy(num_rows, num_sites, phi, np.random.default_rng(200))
        for span in (8.0, 20.0):
            shifted = ill.copy()
            shifted[onset:] += 1.2 * span
            cells = []
            for way in (lambda x: x, lambda x: whitened(x, None), lambda x, phi=phi: whitened(x, phi)):
                for spreads in grid:
                    if (fold(way(calm), span, spreads)[0] >= math.log(RUN_LENGTH)).any(0).mean() <= 0.01:
                        rows = first(fold(way(shifted), span, spreads)[0] >= math.log(RUN_LENGTH))
                        delay = np.where(rows >= onset, rows - onset + 1, np.inf)
                        cells.append(f"{spreads:g} sd, {np.median(delay):.0f}, {np.isfinite(delay).mean():.1%}")
                        break
                else:
                    cells.append("none")
            print(f"| {phi} | {span:.0f} sd | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    check_fold()
    coins()
    many_sites()
    prewhitening()
