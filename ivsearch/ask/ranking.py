"""rank: what was found, weighed against each other and the library: best first, each with how likely it is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ivsearch.ask.evidence import Shown
from ivsearch.ask.gallery import Gallery
from ivsearch.ask.support import RIVALS, SEEN, likelihood
from ivsearch.domain import MediaId


def rank(
    found: Sequence[Shown],
    others: Sequence[Shown],
    vector: NDArray[np.float32],
    kind: str | None,
    gallery: Gallery,
    k: int,
) -> list[tuple[Shown, float]]:
    """The k best of ``found`` by how well they fit the text with unit ``vector`` (dim,), each with its support.

    ``others``: what the same text finds in the whole library. ``kind`` of vocabulary word that is asked for, if any.
    """
    fits = [gallery.fit(float(vector @ shown.vector), shown.hub) for shown in found]
    order = sorted(range(len(found)), key=lambda i: -fits[i])
    rivals: dict[MediaId, float] = {}
    for shown in others:
        media_id, fit = shown.evidence.hit.media_id, gallery.fit(float(vector @ shown.vector), shown.hub)
        rivals[media_id] = max(fit, rivals.get(media_id, fit))
    chance = gallery.scatter(vector) * chance_lead(gallery.n_clips)
    return [
        (found[i], support(found[i], fits[i], lead(found[i], fits[i], rivals, chance), kind, len(rivals), gallery))
        for i in _spread(found, order, k)
    ]


def support(shown: Shown, fit: float, ahead: float, kind: str | None, n_files: int, gallery: Gallery) -> float:
    """Which animal? is answered by a clip that shows one, however little the question says of it."""
    likely = likelihood(fit, ahead, n_files, gallery)
    asked = shown.kinds[kind].weight if kind else 0.0
    return max(likely, asked) if asked >= SEEN else likely


def lead(shown: Shown, fit: float, rivals: Mapping[MediaId, float], chance: float) -> float:
    """How far ahead of the best of other files it is, on average, beyond ``chance``; 0 where there are no others: a
    library of one file says nothing either way."""
    others = (x for media_id, x in rivals.items() if media_id != shown.evidence.hit.media_id)
    best = sorted(others, reverse=True)[:RIVALS]
    return sum(fit - x for x in best) / len(best) - chance if best else 0.0


@cache
def chance_lead(n: int) -> float:
    """How far the best of ``n`` is ahead of the next RIVALS when nothing but chance tells them apart: in standard
    deviations, of a normal distribution (Blom, "Statistical Estimates and Transformed Beta-Variables", 1958)."""
    n = max(n, 2)
    best, *others = (NormalDist().inv_cdf(1 - (i - 0.375) / (n + 0.25)) for i in range(1, min(n, RIVALS + 1) + 1))
    return best - sum(others) / len(others)


def _spread(found: Sequence[Shown], order: Sequence[int], k: int) -> list[int]:
    """The k first of ``order``, with as few of one file as k allow, in that order."""
    seen: Counter[MediaId] = Counter()
    turns = []
    for place, i in enumerate(order):
        media_id = found[i].evidence.hit.media_id
        turns.append((seen[media_id], place))
        seen[media_id] += 1
    return [order[place] for place in sorted(place for _, place in sorted(turns)[:k])]
