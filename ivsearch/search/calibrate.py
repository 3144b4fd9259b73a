"""calibrate: what was found → how likely each is what was asked for, against the library it was found in.

Texts and pictures are told apart: a picture is near to any picture, a text to none. Each has its own zero and its own
unit, read off the library (``Gallery``), so that one curve serves every encoder and every library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import MediaId, Term
from ivsearch.scoring.gallery import Gallery
from ivsearch.scoring.likelihood import LOOKING, RIVALS, chance_lead, lead, likelihood
from ivsearch.search.refine import FoundSpan


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Of one query. ``best``: the best fit of each of the RIVALS + 1 best Media, of ``n_files``; ``chance``: the lead
    that the first of so many has by chance, as a fit. ``look``: the query is a picture."""

    gallery: Gallery
    best: tuple[tuple[float, MediaId], ...]
    n_files: int
    chance: float
    look: bool

    def likely(self, media_id: MediaId, score: float) -> float:
        """How likely a span with that score is what was asked for, in [0, 1]."""
        if self.look:
            return LOOKING(_fit(self.gallery, score, look=True))
        fit = _fit(self.gallery, score, look=False)
        ahead = lead(fit, (other for other, owner in self.best if owner != media_id), self.chance)
        return likelihood(fit, ahead, self.n_files, self.gallery)


def calibration_of(
    terms: Sequence[Term],
    wanted: NDArray[np.float32],
    found: Mapping[MediaId, Sequence[FoundSpan]],
    gallery: Gallery | None,
    among_all: bool,
) -> Calibration | None:
    """None where scores cannot be told apart: in an empty library, for texts composed with pictures, or for a picture
    among Clips of one file.

    ``wanted`` (dim,) unit; ``found``: the spans of each Media, best first. Not ``among_all``: filters left out
    what they must stand out against, so the library's sample stands in for it.
    """
    look = all(term.text is None for term in terms)
    mixed = not look and any(term.text is None for term in terms)
    if gallery is None or mixed or (look and gallery.near is None):
        return None
    fits = {media_id: _fit(gallery, spans[0].score, look) for media_id, spans in found.items() if spans}
    n_files = len(fits)
    if not among_all and not look:
        sampled = zip(gallery.owners.tolist(), gallery.fits(wanted).tolist(), strict=True)
        for owner, fit in sampled:
            if owner not in found:
                fits[owner] = max(fit, fits.get(owner, fit))
        n_files = len(fits)
    best = sorted(((fit, media_id) for media_id, fit in fits.items()), reverse=True)[: RIVALS + 1]
    return Calibration(gallery, tuple(best), n_files, gallery.scatter(wanted) * chance_lead(gallery.n_clips), look)


def calibrated(
    shown: Sequence[tuple[MediaId, FoundSpan]], calibration: Calibration | None
) -> list[tuple[MediaId, FoundSpan]]:
    """The same spans, each with how likely it is."""
    if calibration is None:
        return list(shown)
    return [(media_id, replace(span, likely=calibration.likely(media_id, span.score))) for media_id, span in shown]


def _fit(gallery: Gallery, score: float, look: bool) -> float:
    """0 as anything fits anything, 1 as well as what usually fits best."""
    if not look:
        return (score - gallery.floor) / gallery.unit
    assert gallery.near is not None
    return (score - gallery.apart) / max(gallery.near - gallery.apart, 1e-6)
