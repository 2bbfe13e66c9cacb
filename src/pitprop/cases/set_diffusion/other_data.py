"""Omniglot or CIFAR-100 in the digits' place: the archive that the knob `data` names, split as the digits are."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy import ndarray

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion.archives import cifar100, omniglot
from pitprop.cases.set_diffusion.data import VALIDATION_SHARE, Split, balanced_sets, digits
from pitprop.cases.set_diffusion.knobs import Knobs, of_the_model
from pitprop.cases.set_diffusion.metrics import REPEATS, context_losses, measured
from pitprop.cases.set_diffusion.training import Params

NOVEL_SHARE = 0.2
"""Of the classes, which are never trained on."""
LOOKED_AT = 8
"""Classes of each kind in an evaluation, at most."""


def images(knobs: Knobs) -> Split:
    """The digits, or what `data` names.

    Raises:
        PitpropError: `data` can't be read, has too few classes or images, or images of another size than the knobs say.
    """
    found = _read(knobs.data, knobs.sample_size + 1) if knobs.data else digits()
    channels, *sides = next(iter(found.train.values())).shape[1:]
    if (channels, sides) != (knobs.channels, [knobs.image_size] * 2):
        raise PitpropError(
            f"`channels` is {knobs.channels} and `image_size` {knobs.image_size}; the images of "
            f"{knobs.data or 'the digits'} have {channels} and {sides[0]}.",
            do=f"choose `channels` {channels} and `image_size` {sides[0]}, or another `data`: an archive of Omniglot "
            "(28 pixels a side, 1 channel), or CIFAR-100's `train` or `train.bin` (32 pixels, 3 channels).",
        )
    return found


@cache
def _read(data: str, set_size: int) -> Split:
    path = Path(data)
    return split(omniglot(path) if path.suffix == ".zip" else cifar100(path), set_size)


def split(by_class: dict[Any, Float[ndarray, "image channel height width"]], set_size: int) -> Split:
    """A fifth of the classes is never trained on; of the others a quarter of the images, or a set, is held out.

    Raises:
        PitpropError: There are fewer than two classes of a kind, or a class doesn't have two sets.
    """
    names = sorted(by_class)
    few = [name for name in names if len(by_class[name]) < 2 * set_size]
    num_novel = max(2, int(len(names) * NOVEL_SHARE))
    if len(names) < num_novel + 2 or few:
        raise PitpropError(
            f"There are {len(names)} classes, {len(few)} of them with fewer than {2 * set_size} images.",
            do="give four classes or more, each with twice the images of a set (`sample_size` and one).",
        )
    order = np.random.default_rng(0).permutation(len(names))
    novel, trained = ([names[k] for k in sorted(part)] for part in (order[:num_novel], order[num_novel:]))
    held_out = {name: max(set_size, int(len(by_class[name]) * VALIDATION_SHARE)) for name in trained}
    return Split(
        {name: by_class[name][held_out[name] :] for name in trained},
        {name: by_class[name][: held_out[name]] for name in trained},
        {name: by_class[name] for name in novel},
    )


def evaluator(knobs: Knobs) -> Callable[[Params], dict[str, Array]]:
    """As `metrics.evaluator`, on what `data` names; compiled once for all knobs of one model."""
    return _evaluator(of_the_model(knobs))


@cache
def _evaluator(knobs: Knobs) -> Callable[[Params], dict[str, Array]]:
    found = images(knobs)
    parts = [dict(list(part.items())[:LOOKED_AT]) for part in (found.validation, found.novel)]
    sets = [balanced_sets(part, repeats=REPEATS, set_size=knobs.sample_size + 1) for part in parts]

    def measure(params: Params) -> dict[str, Array]:
        seen, novel = (
            context_losses(knobs, params, jnp.asarray(several), len(part))
            for several, part in zip(sets, parts, strict=True)
        )
        return measured(seen, novel)

    return jax.jit(measure)
