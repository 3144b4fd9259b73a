"""What a score is worth, in [0, 1]: how often something scored like this turned out to be right.

Measured with ``mini`` (`benchmarks/ask_quality.py --calibrate`; figures in benchmarks/LOG.md): the curves are fitted on
one half of the files, so that the other half tells how they hold. Scores enter relative to the library's Gallery, never
as bare cosines: another Space is not far off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ivsearch.scoring.gallery import Gallery
from ivsearch.scoring.likelihood import Curve, Slope, few

# Of a sentence said of a Clip. ``lead``: Gallery.standing.
SAYING = Slope(fit=0.9, lead=1.0, offset=-3.25)
# With fewer than DOUBT Clips no sentence can stand out: the fit alone decides. Fitted on random libraries of one to
# seven of the even files; on the odd ones .96 of true sentences are VERIFIED, and .15 of those on the wrong Clip.
SAYING_ALONE = Curve(slope=9.1, offset=-2.7)
# x: how many spreads a word's score on the Clip is above what is usual for the word. Right: a person's caption has the
# word, too. No caption names all there is to see, so this errs on the low side.
SEEING = Curve(slope=0.54, offset=-3.18)

# What fits no Clip better than this is not in the library at all.
FOUND = 0.15
# The footage is said to show it from here on; below, that it does not, and what comes nearest.
CLEAR = 0.4
# A Clip must agree with a sentence that cites it at least this much.
VERIFIED = 0.3
# A word is said to be seen from here on.
SEEN = 0.25


def agreement(text: NDArray[np.float32], vector: NDArray[np.float32], hub: float, gallery: Gallery) -> float:
    """How likely a sentence describes a Clip rather than another one. Both (dim,) float32 unit; ``hub`` the Clip's."""
    cosine = float(text @ vector)
    fit = gallery.fit(cosine, hub)
    return SAYING_ALONE(fit) if few(gallery) else SAYING(fit, gallery.standing(text, cosine, hub))
