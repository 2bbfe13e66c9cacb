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
    Parameter(help="local, ray (the cluster that RAY_ADDRESS names, else one started here) or ray://HOST:PORT."),
]
Timeout = Annotated[
    float | None,
    Parameter(help="Seconds after which a run is taken to hang; by default from the pace of the runs before it."),
]
Rules = Annotated[tuple[str, ...], Parameter(negative=(), help="Only these rules; repeatable.")]
