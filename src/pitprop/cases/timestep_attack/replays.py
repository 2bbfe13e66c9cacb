"""What replays of the fixed schedule's losses tell: the path, what decides on which timestep it ends, and the scale.

All networks are those of the experiment, by seed. `run_claims` calls `replays`; no denoiser runs.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from pitprop.cases.timestep_attack.detection import MOVED
from pitprop.cases.timestep_attack.experiment import Plan
from pitprop.cases.timestep_attack.replay import replay
from pitprop.cases.timestep_attack.weights import INITIAL, PILOT
from pitprop.indicators import total_variation

MARKS = (1, 10, 30, 100, 300, 1000)
"""Images after which weights are written down; the seed has 10 and 1000."""
SEED_SHARES = (0.039, 0.060, 0.125, 0.247, 0.529)
"""Loss shares of the timesteps that the original logged over 1000 images."""
GAMMAS, GAMMA_MARKS = (1.0, 100.0), (100, 400, 1000)
SEEDS = 10


def replays(losses: Float[np.ndarray, "iteration timestep"], plan: Plan) -> dict[str, Any]:
    """Weights of networks that learn from the losses of the fixed schedule, over up to 1000 images.

    Returns:
        `marks`, `path` (weights of the first network at the marks), `nearest` (image at which the path passes nearest
        to the pilot schedule, and the total variation there), `at_10` (total variation to the pilot schedule at 10
        images), `seed_shares` (the path and `at_10` under the loss shares that the original logged), `decides` (see
        `what_decides`) and `gamma` (see `scales` and `plain_descent`).
    """
    each, seeds = plan.attack.iterations, _seeds(plan)
    by_gamma = {
        gamma: replay(losses, images=MARKS[-1], seeds=seeds, gamma=gamma, lr=plan.lr, per_image=each)
        for gamma in GAMMAS
    }
    paths = by_gamma[plan.attack.gamma]
    far = _far(paths[0], PILOT)
    (shares,) = replay(np.array([SEED_SHARES]), images=MARKS[-1], seeds=[plan.first_seed])
    return {
        "marks": MARKS,
        "path": [paths[0, mark - 1].tolist() for mark in MARKS],
        "nearest": {"image": int(far.argmin()) + 1, "total_variation": float(far.min())},
        "at_10": float(far[9]),
        "seed_shares": {
            "path": [shares[mark - 1].tolist() for mark in MARKS],
            "at_10": float(_far(shares[9], PILOT)),
        },
        "decides": {"as measured": _ended(paths)} | what_decides(losses, plan),
        "gamma": {"adam": scales(by_gamma), "sgd": plain_descent(losses, plan)},
    }


def what_decides(losses: Float[np.ndarray, "iteration timestep"], plan: Plan) -> dict[str, Any]:
    """On which timestep networks end where one thing of the losses, or of Adam, is another.

    Returns:
        By arm: `images`, `ends` (networks by the timestep of the largest weight), `weights` (mean over the networks)
        and `moved` (image after which half of the weight has moved; by network, NaN if never).
    """
    each = plan.attack.iterations
    image = losses.reshape(-1, each, losses.shape[-1]).mean(0)
    arms: dict[str, tuple[np.ndarray, int, dict[str, Any]]] = {
        "mean image": (image, 300, {}),
        "mean image, eps 1e-20": (image, 300, {"eps": 1e-20}),
        "mean image, Adam kept": (image, 600, {"forgets": False}),
        "mean iteration": (image.mean(0, keepdims=True), 300, {}),
    }
    return {
        name: _ended(replay(rows, images=images, seeds=_seeds(plan), lr=plan.lr, per_image=each, **changes))
        for name, (rows, images, changes) in arms.items()
    }


def scales(by_gamma: dict[float, Float[np.ndarray, "seed image timestep"]]) -> dict[str, Any]:
    """What a hundredfold loss changes under Adam.

    Returns:
        By mark, network by network, `difference` (total variation between the weights at both factors) and `moved`
        (that to the initial schedule, at the larger factor); `ends` by factor, as in `what_decides`.
    """
    small, large = by_gamma.values()
    return {
        "marks": GAMMA_MARKS,
        "difference": [total_variation(small[:, mark - 1], large[:, mark - 1]).tolist() for mark in GAMMA_MARKS],
        "moved": [_far(large[:, mark - 1], INITIAL).tolist() for mark in GAMMA_MARKS],
        "ends": {f"{gamma:g}": _ended(paths)["ends"] for gamma, paths in by_gamma.items()},
    }


def plain_descent(losses: Float[np.ndarray, "iteration timestep"], plan: Plan) -> dict[str, float]:
    """Total variation to the initial schedule after the first mark, by factor, of descent with the rate of Adam."""
    images, each = GAMMA_MARKS[0], plan.attack.iterations
    return {
        f"{gamma:g}": float(
            _far(
                replay(losses, images=images, gamma=gamma, lr=plan.lr, per_image=each, optimizer="sgd")[0, -1], INITIAL
            )
        )
        for gamma in GAMMAS
    }


def _ended(paths: Float[np.ndarray, "seed image timestep"]) -> dict[str, Any]:
    far = _far(paths, INITIAL) > MOVED
    return {
        "images": paths.shape[1],
        "ends": np.bincount(paths[:, -1].argmax(-1), minlength=paths.shape[-1]).tolist(),
        "weights": paths[:, -1].mean(0).tolist(),
        "moved": np.where(far.any(-1), far.argmax(-1) + 1.0, np.nan).tolist(),
    }


def _far(weights: np.ndarray, start: tuple[float, ...]) -> np.ndarray:
    return total_variation(weights, np.broadcast_to(np.array(start), weights.shape))


def _seeds(plan: Plan) -> range:
    return range(plan.first_seed, plan.first_seed + SEEDS)
