"""How likely a Clip is what was asked for, in [0, 1]: how often one that scored like this turned out to be.

The curves were measured with ``mini`` (benchmarks/calibration.py and ask_quality.py; figures in benchmarks/LOG.md), on
one half of the files, so that the other half tells how they hold. Scores enter relative to the library's Gallery, never
as bare cosines: another Space is not far off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

from ivsearch.scoring.gallery import DOUBT, Gallery


@dataclass(frozen=True, slots=True)
class Curve:
    """A logistic curve of one quantity."""

    slope: float
    offset: float

    def __call__(self, x: float) -> float:
        return logistic(self.slope * x + self.offset)


@dataclass(frozen=True, slots=True)
class Slope:
    """A logistic curve of two: how well a text fits a Clip, and how far that stands out against other Clips."""

    fit: float
    lead: float
    offset: float

    def __call__(self, fit: float, lead: float) -> float:
        return logistic(self.fit * fit + self.lead * lead + self.offset)


# Of a Clip found for a text. ``lead``: its fit less the mean fit of the RIVALS best Clips of other files, beyond what
# chance gives the best of so many.
FINDING = Slope(fit=2.4, lead=6.9, offset=-2.5)
RIVALS = 5
# With fewer than DOUBT Clips of a single short file none can stand out: the fit alone decides. Fitted on random
# libraries of one to seven Clips of the even files; on the odd ones .83 is clear when it is there, .10 when not.
FINDING_ALONE = Curve(slope=7.2, offset=-3.2)
# Of a Clip found for a picture: 1 is as near as a Clip usually is to the nearest one of another file. Fitted on photos
# made worse, with the photo itself there and gone.
LOOKING = Curve(slope=16.7, offset=-19.6)


def likelihood(fit: float, lead: float, n_files: int, gallery: Gallery) -> float:
    """Of a Clip, by its fit (``Gallery.fit``) and its lead among ``n_files``."""
    return FINDING_ALONE(fit) if n_files < 2 and few(gallery) else FINDING(fit, lead)


def lead(fit: float, rivals: Iterable[float], chance: float) -> float:
    """How far ahead of the best of other files it is, on average, beyond ``chance``; 0 where there are no others: a
    library of one file says nothing either way. ``rivals``: the best fit of each other file."""
    best = sorted(rivals, reverse=True)[:RIVALS]
    return sum(fit - x for x in best) / len(best) - chance if best else 0.0


@cache
def chance_lead(n: int) -> float:
    """How far the best of ``n`` is ahead of the next RIVALS when nothing but chance tells them apart: in standard
    deviations, of a normal distribution (Blom, "Statistical Estimates and Transformed Beta-Variables", 1958)."""
    n = max(n, 2)
    best, *others = (NormalDist().inv_cdf(1 - (i - 0.375) / (n + 0.25)) for i in range(1, min(n, RIVALS + 1) + 1))
    return best - sum(others) / len(others)


def few(gallery: Gallery) -> bool:
    """Whether there are too few Clips for any to stand out."""
    return len(gallery.clips) < DOUBT


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, x))))
