"""Symptoms: findings that go along with a collapse and do not bring it, for intervening on them changed nothing."""

from collections.abc import Mapping, Sequence

from pitprop.records import Comparison, Finding
from pitprop.trials.interventions._targets import matches
from pitprop.trials.plan import Arm


def symptoms(
    findings: Sequence[Finding], arms: Mapping[str, Arm], comparisons: Sequence[Comparison]
) -> tuple[str, ...]:
    """Findings at a site where every intervention made no difference within the margin: `rule at site`.

    An intervention that is inconclusive, or that did nothing, clears nobody; a finding of the whole run has no site to
    intervene on.

    Args:
        findings: Of the control run.
        arms: The arms by name.
        comparisons: The last one of each arm that acted.
    """
    tried = [(getattr(change, "path", ""), c.verdict) for c in comparisons for change in arms[c.arm].interventions]

    def cleared(site: str) -> bool:
        # A change of everything (`*`) is none of this site.
        verdicts = {verdict for path, verdict in tried if path != "*" and matches(site, path)}
        return verdicts == {"no difference within margin"}

    return tuple(dict.fromkeys(f"{f.rule} at {f.site}" for f in findings if cleared(f.site)))
