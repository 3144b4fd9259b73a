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


def hubness(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """``scores`` (words, …): cosine of every word with a picture. The mean of the nearest words: (…) float32."""
    nearest = np.partition(scores, -NEAREST, axis=0)[-NEAREST:]
    return np.asarray(nearest.mean(axis=0), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Hubness:
    """``words`` (n, dim) float32: the vocabulary in the Space. ``usual``: the mean hubness of the library's Clips, so
    that what is no more of a hub than others keeps its score."""

    words: NDArray[np.float32]
    usual: float

    def taken_off(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What comes off the score of each of ``rows`` (n, dim): (n,) float32, negative for what is near to little."""
        if not len(rows):
            return np.empty(0, np.float32)
        return HUB_SHARE * (hubness(self.words @ rows.T) - np.float32(self.usual))
