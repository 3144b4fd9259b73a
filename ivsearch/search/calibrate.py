"""calibrate: what was found → how likely each is what was asked for, against the library it was found in.

Texts and pictures are told apart: a picture is near to any picture, a text to none. Each has its own zero and its own
unit, read off the library (``Gallery``), so that one curve serves every encoder and every library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import MediaId
from ivsearch.scoring.gallery import Gallery, Sample
from ivsearch.scoring.likelihood import LOOKING, RIVALS, chance_lead, lead, likelihood
from ivsearch.search.refine import FoundSpan


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Of a query in words. ``best``: the best fit of each of the RIVALS + 1 best Media, of ``n_files``; ``chance``: the
    lead that the first of so many has by chance, as a fit."""

    gallery: Gallery
    best: tuple[tuple[float, MediaId], ...]
    n_files: int
    chance: float

    def likely(self, media_id: MediaId, score: float) -> float:
        """How likely a span of that Media with that score is what was asked for, in [0, 1]."""
        fit = _fit(self.gallery, score)
        ahead = lead(fit, (other for other, owner in self.best if owner != media_id), self.chance)
        return likelihood(fit, ahead, self.n_files, self.gallery)


@dataclass(frozen=True, slots=True)
class Shown:
    """Of a query by pictures. ``apart`` and ``near``: as in Sample."""

    apart: float
    near: float

    def likely(self, media_id: MediaId, score: float) -> float:
        """As of a query in words; which Media it is makes no difference."""
        return LOOKING((score - self.apart) / max(self.near - self.apart, 1e-6))


def by_words(
    wanted: NDArray[np.float32],
    found: Mapping[MediaId, Sequence[FoundSpan]],
    gallery: Gallery,
    among_all: bool,
    copied: Set[MediaId] = frozenset(),
) -> Told:
    """``wanted`` (dim,) unit; ``found``: the spans of each Media, best first. ``copied``: those that show
    what another one found shows, and are no rivals of it. Not ``among_all``: filters left out what they must stand out
    against, so the library's sample stands in for it."""
    fits = {
        media_id: _fit(gallery, spans[0].score) for media_id, spans in found.items() if spans and media_id not in copied
    }
    if not among_all:
        for owner, fit in zip(gallery.sample.owners.tolist(), gallery.fits(wanted).tolist(), strict=True):
            if owner not in found and owner not in copied:
                fits[owner] = max(fit, fits.get(owner, fit))
    best = sorted(((fit, media_id) for media_id, fit in fits.items()), reverse=True)[: RIVALS + 1]
    return Told(gallery, tuple(best), len(fits), gallery.scatter(wanted) * chance_lead(gallery.n_clips))


def by_pictures(sample: Sample | None) -> Shown | None:
    """None among Clips of one file, where there is nothing to compare with."""
    return None if sample is None or sample.near is None else Shown(sample.apart, sample.near)


def calibrated(
    shown: Sequence[tuple[MediaId, FoundSpan]], calibration: Told | Shown | None
) -> list[tuple[MediaId, FoundSpan]]:
    """The same spans, each with how likely it is."""
    if calibration is None:
        return list(shown)
    return [(media_id, replace(span, likely=calibration.likely(media_id, span.score))) for media_id, span in shown]


def _fit(gallery: Gallery, score: float) -> float:
    """0 as any word fits any Clip, 1 as the best word fits the typical Clip. Hubness is off the score already."""
    return (score - gallery.floor) / gallery.unit
