"""The arms: what the seed wants changed, one by one and together, and what it doesn't mention."""

from dataclasses import replace
from typing import Any

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion.knobs import Knobs

STEPS, EVERY = 800, 50
"""Steps of a training, and between two looks at held-out images."""
WARMUP = STEPS // 60
"""The same part of the training as the seed's 5000 of 300 000 steps."""
ORIGINAL, SYNCHRONISED = "original", "synchronised"
LONG = "original, four times as long"
"""A replica that learns alone then has seen as many sets as a training on all of them."""


def changed(**changes: Any) -> Knobs:
    """The original, at this length of training, with something changed."""
    return replace(Knobs(horizon=STEPS), **changes)


LISTED: dict[str, dict[str, Any]] = {
    "gradient clipping": dict(clip=1.0),
    "adaLN normal": dict(adaln="normal"),
    "LayerNorm scale": dict(layer_norm_scale=True),
    "warm-up and cosine": dict(warmup=WARMUP),
    "learnable null context": dict(null_context="learnable"),
    "weight decay": dict(weight_decay=0.01),
    "two thirds of the depth": dict(depth=2, encoder_depth=2),
}
"""The seed's list in its order, URGENT, HIGH and RECOMMENDED, but for monitoring and the accumulation "if needed"."""
URGENT = {key: value for change in list(LISTED.values())[:3] for key, value in change.items()}
WHOLE_LIST = {key: value for change in LISTED.values() for key, value in change.items()}
AGAIN = ("warm-up and cosine",)
"""Of the list, what is tried where gradients are averaged, too, beside all of it and the initialisation."""
DOUBLED: dict[str, dict[str, Any]] = {"LSA temperature doubled": dict(temperature=2.0)}
FACTORS: dict[str, dict[str, Any]] = {
    "depth 1": dict(depth=1, encoder_depth=1),
    "context dropout": dict(context_dropout=0.1),
    "real shifts": dict(shifts=True),
}
"""What else the system could be: a third of its depth, training without context now and then, another way in for it.

Tried where gradients are averaged: the original doesn't use its context at this length, whatever it is.
"""
APART: dict[str, Knobs] = {
    ORIGINAL: changed(),
    **{name: changed(**change) for name, change in LISTED.items()},
    "all urgent": changed(**URGENT),
    "the whole list": changed(**WHOLE_LIST),
    "apply_every before Adam": changed(accumulation="apply_every"),
    "MultiSteps": changed(accumulation="multi_steps"),
    "adaLN scaled": changed(adaln="scaled"),
    **{name: changed(**change) for name, change in DOUBLED.items()},
    "SPT variance doubled": changed(spt_scale=2.0),
}
"""Replicas don't hear of each other."""
TOGETHER: dict[str, Knobs] = {
    SYNCHRONISED: changed(synchronised=True),
    "synchronised, adaLN normal": changed(synchronised=True, adaln="normal"),
    "synchronised, the whole list": changed(synchronised=True, **WHOLE_LIST),
    **{
        f"{SYNCHRONISED}, {name}": changed(synchronised=True, **change)
        for name, change in {**{name: LISTED[name] for name in AGAIN}, **DOUBLED, **FACTORS}.items()
    },
}
"""Gradients are averaged."""
DESCENT: dict[str, Knobs] = {
    f"SGD, adaLN {adaln}": changed(optimizer="sgd", lr=0.1, adaln=adaln) for adaln in ("zero", "normal", "scaled")
}
"""Plain descent, for the encoder's gradient of the first steps."""
ALL = {**APART, LONG: changed(), **TOGETHER, **DESCENT}
PAIRS: dict[str, list[str]] = {
    ORIGINAL: [*list(APART)[1:], SYNCHRONISED],
    SYNCHRONISED: [*list(TOGETHER)[1:], LONG],
}
"""Control -> arms that are compared with it."""


def check_sizes(seeds: int, steps: int, *, least: int = 1) -> None:
    """Raises `PitpropError` under `least` seeds, or where a training isn't a whole number of looks."""
    if seeds < least:
        raise PitpropError(
            f"`seeds` is {seeds}.",
            means="an interval needs two seeds at least." if least > 1 else "",
            do=f"choose {least} or more.",
        )
    if steps < EVERY or steps % EVERY:
        raise PitpropError(f"`steps` is {steps}.", do=f"choose a multiple of {EVERY}, the steps between two looks.")
