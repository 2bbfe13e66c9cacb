"""The application that the verbs register with, and the options that they share."""

from typing import Annotated

from cyclopts import App, Parameter

import pitprop
from pitprop.records import Severity

FOUND, INTERRUPTED = 1, 130
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "failure")

app = App(
    name="pitprop",
    help="Find out why a network's training collapsed, by controlled experiment, and prove the fix.",
    version=lambda: pitprop.__version__,
    suppress_keyboard_interrupt=False,  # `main` says what an interrupted trial leaves
)

Json = Annotated[bool, Parameter(negative=(), help="Print one JSON document instead of text.")]
Allow = Annotated[tuple[str, ...], Parameter(negative=(), help="Findings to leave out: RULE or RULE@SITE; repeatable.")]
Knobs = Annotated[tuple[str, ...], Parameter(negative=(), help="NAME=VALUE: a knob of the recipe; repeatable.")]
On = Annotated[
    str,
    Parameter(
        help="local, ray (the cluster that RAY_ADDRESS names, else one started here), HOST:PORT (a cluster that this "
        "machine is a part of) or ray://HOST:PORT (any other)."
    ),
]
Timeout = Annotated[
    float | None,
    Parameter(
        help="Seconds after which a run is taken to hang; by default when none of its steps ends for ten times the "
        "median run before it, at least a minute and at most an hour."
    ),
]
Rules = Annotated[tuple[str, ...], Parameter(negative=(), help="Only these rules; repeatable.")]
