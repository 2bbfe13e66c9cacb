"""What a user has allowed: `"rule"` everywhere, or `"rule@site"` at one site."""

from collections.abc import Iterable

from pitprop._errors import PitpropError, nearest
from pitprop.records import Finding

INTERNAL = "pitprop-internal"
"""The rule name of findings about pitprop itself."""


def read_allow(allow: Iterable[str], known: Iterable[str]) -> frozenset[str]:
    """`allow` as a set, after a look at every entry.

    Args:
        allow: Entries `"rule"` or `"rule@site"`; a lone string is one entry.
        known: Names that may be allowed, besides `INTERNAL`.

    Raises:
        PitpropError: An entry names nothing that is known.
    """
    entries = frozenset((allow,) if isinstance(allow, str) else allow)
    names = {*known, INTERNAL}
    for entry in sorted(entries):
        name, at, site = entry.partition("@")
        if name not in names or (at and not site):
            raise PitpropError(
                f"allow: `{entry}` is neither a name nor `name@site`",
                means="It would allow nothing, and the finding that it is meant for would still come.",
                do=nearest(name, names),
                read="pitprop list rules",
            )
    return entries


def is_allowed(finding: Finding, allow: frozenset[str]) -> bool:
    """Whether `finding` is not to be reported."""
    return finding.rule in allow or f"{finding.rule}@{finding.site}" in allow
