"""rank: what was found, weighed against each other and the library: best first, each with how likely it is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ivsearch.ask.evidence import Shown
from ivsearch.ask.support import SEEN
from ivsearch.domain import MediaId
from ivsearch.scoring.gallery import Gallery
from ivsearch.scoring.likelihood import chance_lead, lead, likelihood


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
    # A copy left out by filters may stand for a hit in ``others``: nothing stands out against itself.
    same: dict[MediaId, set[MediaId]] = {}
    for shown in others:
        media_id, fit = shown.evidence.hit.media_id, gallery.fit(float(vector @ shown.vector), shown.hub)
        rivals[media_id] = max(fit, rivals.get(media_id, fit))
        same.setdefault(media_id, {media_id}).update(copy.media_id for copy in shown.evidence.hit.copies)
    chance = gallery.scatter(vector) * chance_lead(gallery.n_clips)
    ranked = []
    for i in _spread(found, order, k):
        media_id = found[i].evidence.hit.media_id
        ahead = lead(fits[i], (fit for other, fit in rivals.items() if media_id not in same[other]), chance)
        ranked.append((found[i], support(found[i], fits[i], ahead, kind, len(rivals), gallery)))
    return ranked


def support(shown: Shown, fit: float, ahead: float, kind: str | None, n_files: int, gallery: Gallery) -> float:
    """Which animal? is answered by a clip that shows one, however little the question says of it."""
    likely = likelihood(fit, ahead, n_files, gallery)
    asked = shown.kinds[kind].weight if kind else 0.0
    return max(likely, asked) if asked >= SEEN else likely


def _spread(found: Sequence[Shown], order: Sequence[int], k: int) -> list[int]:
    """The k first of ``order``, with as few of one file as k allow, in that order."""
    seen: Counter[MediaId] = Counter()
    turns = []
    for place, i in enumerate(order):
        media_id = found[i].evidence.hit.media_id
        turns.append((seen[media_id], place))
        seen[media_id] += 1
    return [order[place] for place in sorted(place for _, place in sorted(turns)[:k])]
