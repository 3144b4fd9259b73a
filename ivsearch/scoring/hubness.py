"""Some pictures are near any text: what is near to everything says nothing, and is taken off.

Hubs grow in spaces of many dimensions (Radovanović et al., "Hubs in Space", JMLR 2010). How near the nearest words of
the vocabulary are to a picture tells how much of one it is. A share of that is taken off its score, as in CSLS (Conneau
et al., "Word Translation Without Parallel Data", ICLR 2018, section 2.3) with the vocabulary in place of the queries.
Figures in benchmarks/LOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAREST = 10
HUB_SHARE = 0.4
EMPTY = 2.0
STEEP = 5.0


def hubness(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """``scores`` (words, …): cosine of every word with a picture. The mean of the nearest words: (…) float32."""
    nearest = np.partition(scores, -NEAREST, axis=0)[-NEAREST:]
    return np.asarray(nearest.mean(axis=0), np.float32)


@dataclass(frozen=True, slots=True)
class Usual:
    """How near the library's Clips are to their nearest words: ``level``, the median, and ``spread``, the standard
    deviation as the median distance from it tells (so that a few odd Clips do not move it)."""

    level: float
    spread: float

    @classmethod
    def of(cls, hubs: NDArray[np.float32]) -> Usual:
        """``hubs`` (n,): ``hubness`` of Clips."""
        level = float(np.median(hubs))
        return cls(level, 1.4826 * float(np.median(np.abs(hubs - level))))

    def taken_off(self, hubs: NDArray[np.float32]) -> NDArray[np.float32]:
        """What comes off a score of something with that hubness: (n,) float32, negative for what is near to little.

        But what is near to nothing shows nothing that words could say (blank, black), and must not gain by that: EMPTY
        spreads below the level it turns, and falls off STEEP times as fast.
        """
        above = hubs - np.float32(self.level)
        turn = np.float32(-EMPTY * self.spread)
        return np.asarray(HUB_SHARE * np.where(above < turn, turn + STEEP * (turn - above), above), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Hubness:
    """``words`` (n, dim) float32: the vocabulary in the Space; ``usual``: of the library."""

    words: NDArray[np.float32]
    usual: Usual

    def taken_off(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What comes off the score of each of ``rows`` (n, dim): (n,) float32."""
        if not len(rows):
            return np.empty(0, np.float32)
        return self.usual.taken_off(hubness(self.words @ rows.T))
