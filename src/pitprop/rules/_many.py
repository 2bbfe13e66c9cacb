"""How much evidence a rule needs that looks at many sites: the e-Benjamini-Hochberg procedure, row by row.

A run length of 10 000 rows at one site is one false alarm per row at 10 000 sites. So of S sites, k are found together
once each has S/k times the evidence that a single site needs. Each evidence is an e-detector, stopped when its site is
found, and has mean n at most after n rows without a fault; so the expected share of false ones among the sites found
in n rows is n / `RUN_LENGTH` at most, whatever the sites have to do with each other, as long as healthy sites stay
under their margins on average. Where every site is healthy that is the chance of any alarm at all.

Sources: Wang and Ramdas, "False discovery rate control with e-values", JRSS B 2022, arXiv 2009.02824 (e-BH);
Dandapanthula and Ramdas, "Multiple testing in multi-stream sequential change detection", arXiv 2501.04130 (on
e-detectors; what they call error over patience). What it costs: docs/design/004-many-sites.md.
"""

import dataclasses
import math

from pitprop.records import Finding
from pitprop.rules._online import LOG_EVIDENCE, RUN_LENGTH


class Selection:
    """Which findings of one rule have evidence enough, given at how many sites the rule looks.

    A finding that has not is held back, and its site is asked again with every row. It comes once its own evidence has
    grown, or once enough other sites have evidence too. The order of a step's rows can matter; traces keep it.
    """

    def __init__(self):
        self.num_sites = 0
        """Sites whose rows the rule has seen."""
        self._found: set[str] = set()
        self._held: dict[str, Finding] = {}

    def judge(self, site: str, finding: Finding | None) -> list[Finding]:
        """Findings that are certain now that the rule has said `finding` (or nothing) of the newest row of `site`."""
        self._held.pop(site, None)
        if finding is None:
            return []
        if math.isnan(_log(finding)):  # not a matter of chance
            return [finding]
        self._held[site] = finding
        self._found.discard(site)  # found before, it has something graver to say; it counts once
        if self._needs(finding) > math.log(len(self._found) + len(self._held)):
            return []  # nothing else has changed since the last row
        best = sorted(self._held.values(), key=_log, reverse=True)
        enough = [k for k, held in enumerate(best, 1) if self._needs(held) <= math.log(len(self._found) + k)]
        certain = best[: enough[-1]] if enough else []
        for one in certain:
            del self._held[one.site]
            self._found.add(one.site)
        return [dataclasses.replace(one, detected=finding.detected) for one in certain]

    def _needs(self, finding: Finding) -> float:
        """ln of the number of sites that must be found together, this one among them, for this one to be found."""
        return math.log(RUN_LENGTH) + math.log(self.num_sites) - _log(finding)


def _log(finding: Finding) -> float:
    return finding.evidence.get(LOG_EVIDENCE, math.nan)
