"""What a score is worth, in [0, 1]: how often something scored like this turned out to be right.

Measured with ``mini`` on where-questions in eight languages (`benchmarks/ask_quality.py --calibrate`; figures in
benchmarks/LOG.md). Scores enter relative to the library's Gallery, never as bare cosines: another Space is not far off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ivsearch.ask.gallery import Gallery


@dataclass(frozen=True, slots=True)
class Curve:
    """A logistic curve."""

    slope: float
    offset: float

    def __call__(self, x: float) -> float:
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.slope * x + self.offset))))


# x: Gallery.fit of a text on a Clip.
AGREEMENT = Curve(slope=4.2, offset=-3.7)
# x: how many spreads a word's score on the Clip is above what is usual for the word. Right: a person's caption has the
# word, too. No caption names all there is to see, so this errs on the low side.
SEEING = Curve(slope=0.54, offset=-3.18)

# A text that fits no Clip better than this is not in the library at all.
FOUND = 0.45
# A best match is called one from here on; below, it is only the nearest there is.
CLEAR = 0.5
# A cited Clip must agree with its sentence at least this much.
VERIFIED = AGREEMENT(FOUND)
# A word is said to be seen from here on.
SEEN = 0.25


def agreement(cosine: float, gallery: Gallery) -> float:
    """How likely a text with this score on a Clip describes it."""
    return AGREEMENT(gallery.fit(cosine))
