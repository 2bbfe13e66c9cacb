"""Hooks that stay behind when what they hang on is copied or saved."""

import contextlib
from collections.abc import Callable


class Hook:
    """A module hook whose copy does nothing.

    In a deep copy, a pickle or a saved model there is a no-op of the standard library in its place, so that neither
    walks into the watch, nor needs pitprop to be loaded.
    """

    def __init__(self, call: Callable[..., None]):
        self.call = call

    def __call__(self, *args) -> None:
        self.call(*args)

    def __reduce__(self):
        return getattr, (contextlib.nullcontext(), "__exit__")
