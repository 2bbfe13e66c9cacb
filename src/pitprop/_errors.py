"""The one error that pitprop raises on purpose, and its one form.

It says what was seen, what that means, what to do, how to allow it where that is possible, and where to read on. The
command line prints it without a traceback and exits with `exit_code`.
"""

USAGE = 2
"""Exit code for input that cannot be worked with (findings use 1)."""


class PitpropError(Exception):
    """Bad input or an impossible request, explained.

    Args:
        seen: What was seen, with the value.
        means: What it means for the user.
        do: What to do about it.
        allow: How to allow exactly this, where it can be allowed.
        read: Where to read on (a `pitprop explain` name or a page of the docs).
    """

    exit_code = USAGE

    def __init__(self, seen: str, *, means: str = "", do: str = "", allow: str = "", read: str = ""):
        self.seen, self.means, self.do, self.allow, self.read = seen, means, do, allow, read
        super().__init__(str(self))

    def __reduce__(self):
        # Errors travel from worker processes; Exception's own pickling would lose the keyword arguments.
        return _rebuild, (type(self), self.seen, self.means, self.do, self.allow, self.read)

    def __str__(self) -> str:
        parts = [
            self.seen,
            self.means,
            f"Do: {self.do}" if self.do else "",
            f"To allow: {self.allow}" if self.allow else "",
            f"Read: {self.read}" if self.read else "",
        ]
        return "\n".join(part for part in parts if part)


def _rebuild(cls, seen, means, do, allow, read):
    return cls(seen, means=means, do=do, allow=allow, read=read)


def nearest(name: str, known) -> str:
    """A hint with the known names closest to `name`, in whatever order its words are."""
    import heapq
    import re
    from difflib import SequenceMatcher

    def words(text: str) -> str:
        return "-".join(sorted(re.split(r"[-_. ]", text)))

    def alike(other: str) -> float:
        pairs = ((name, other), (words(name), words(other)))
        return max(SequenceMatcher(None, *pair).ratio() for pair in pairs)

    known = list(known)
    close = heapq.nlargest(3, (k for k in known if alike(k) >= 0.4), key=alike) or sorted(known)[:5]
    return "did you mean " + ", ".join(f"`{k}`" for k in close) + "?" if close else "there are none"
