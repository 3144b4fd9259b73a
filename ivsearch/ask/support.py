"""What a score is worth, in [0, 1]: how often something scored like this turned out to be right.

Measured with ``mini`` on 1,408 queries in eight languages (`benchmarks/ask_quality.py --calibrate`; figures in
benchmarks/LOG.md). Scores enter relative to the library's Gallery, never as bare cosines, so the curves carry over to
another Space without being far off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ivsearch.ask.gallery import Gallery


@dataclass(frozen=True, slots=True)
class Curve:
    """A logistic curve."""

    slope: float
    offset: float

    def __call__(self, x: float) -> float:
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.slope * x + self.offset))))


# x: the share of everyday words whose best Clip in this library scores less than the text does on this one.
AGREEMENT = Curve(slope=4.4, offset=-1.8)
# x: how many spreads a word's score on the Clip lies above what is usual for the word.
SEEING = Curve(slope=0.9, offset=-3.7)

# Below this share a text is not found in the library at all: 4 in 100 right first hits lie there.
FOUND = 0.03
# A best match is called one from here on; below, it is only the nearest there is.
CLEAR = 0.5
# A cited Clip must agree with its sentence at least this much.
VERIFIED = AGREEMENT(FOUND)
# A word is said to be seen from here on.
SEEN = 0.3


def standing(cosine: float, gallery: Gallery) -> float:
    """The share of everyday words whose best Clip in the library scores less than this, in [0, 1]."""
    return float(np.searchsorted(gallery.best, cosine) / len(gallery.best))


def agreement(cosine: float, gallery: Gallery) -> float:
    """How likely a text with this score on a Clip describes it."""
    return AGREEMENT(standing(cosine, gallery))
