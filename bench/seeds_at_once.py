"""Several seeds of a jax recipe in one call (`lax.map`, `vmap`) against the same seeds one by one, side by side.

    python bench/seeds_at_once.py [--seeds 8] [--steps 100] [--rounds 7] [--width 16 256]

For each width of a small MLP on scikit-learn's digits: seconds per seed and step of the three ways, all compiled
before; the ratio to one by one as median and range over the rounds; and whether the parameters at the end are those of
one by one, bit for bit, or else by how much they differ. Writes nothing.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
BATCH, LR = 32, 0.1


def build(seed, width):
    """State of one training: parameters, momentum and a key for dropout."""
    first, second, key = jax.random.split(jax.random.key(seed), 3)
    params = {
        "hidden": jax.random.normal(first, (64, width)) / 8,
        "head": jax.random.normal(second, (width, 10)) / width**0.5,
    }
    return {"params": params, "momentum": jax.tree.map(jnp.zeros_like, params), "key": key}


def step(state, batch):
    """The pure step: SGD with momentum and dropout."""
    x, y = batch
    key, drop = jax.random.split(state["key"])

    def loss_of(params):
        hidden = jnp.tanh(x @ params["hidden"])
        hidden = hidden * jax.random.bernoulli(drop, 0.8, hidden.shape)
        return -jnp.take_along_axis(jax.nn.log_softmax(hidden @ params["head"]), y[:, None], 1).mean()

    loss, gradients = jax.value_and_grad(loss_of)(state["params"])
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, state["momentum"], gradients)
    params = jax.tree.map(lambda p, m: p - LR * m, state["params"], momentum)
    return {"params": params, "momentum": momentum, "key": key}, {"loss": loss}


def batches(seed, steps):
    """The batches of one seed, as a recipe yields them: one by one, from the host."""
    for cursor in range(steps):
        rows = np.random.default_rng([seed, cursor]).integers(0, len(X), BATCH)
        yield X[rows], Y[rows]


def one_by_one(compiled, states, given, steps):
    """Every seed for itself; each loss is looked at, as a trial does."""
    ends = []
    for state, own in zip(states, given, strict=True):
        for batch in own:
            state, metrics = compiled(state, batch)
            float(metrics["loss"])
        ends.append(state["params"])
    return jax.tree.map(lambda *leaves: np.stack(leaves), *ends)


def at_once(compiled, states, given, steps):
    """All seeds in each call; stacking the batches is part of the price."""
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    for index in range(steps):
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *(own[index] for own in given))
        state, metrics = compiled(state, batch)
        np.asarray(metrics["loss"])
    return jax.tree.map(np.asarray, state["params"])


WAYS = {
    "one by one": (one_by_one, lambda: jax.jit(step)),
    "lax.map": (
        at_once,
        lambda: jax.jit(lambda states, batch: jax.lax.map(lambda given: step(*given), (states, batch))),
    ),
    "vmap": (at_once, lambda: jax.jit(jax.vmap(step))),
}


def measure(width, seeds, steps, rounds):
    """Print one width."""
    states = [build(seed, width) for seed in range(seeds)]
    given = [list(batches(seed, steps)) for seed in range(seeds)]
    runs = {name: partial(way, make(), states, given, steps) for name, (way, make) in WAYS.items()}
    ends = {name: run() for name, run in runs.items()}  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():  # in turn, so that a slow minute slows all three
            start = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - start) / seeds / steps)
    print(f"width {width}, {seeds} seeds, {steps} steps, {rounds} rounds")
    for name, took in seconds.items():
        ratios = [a / b for a, b in zip(took, seconds["one by one"], strict=True)]
        pairs = list(zip(jax.tree.leaves(ends[name]), jax.tree.leaves(ends["one by one"]), strict=True))
        largest = max(float(np.abs(a - b).max()) for a, b in pairs)
        same = "bit for bit" if all(np.array_equal(a, b) for a, b in pairs) else f"differs by up to {largest:.1e}"
        print(
            f"  {name:<10} {1e6 * statistics.median(took):8.1f} us per seed and step, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {same}"
        )


def main():
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, nargs="+", default=[16, 256, 1024])
    options = parser.parse_args()
    for width in options.width:
        measure(width, options.seeds, options.steps, options.rounds)


if __name__ == "__main__":
    main()
