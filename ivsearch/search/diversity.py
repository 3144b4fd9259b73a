"""diversify: the same hits in an order that shows less of the same.

Maximal marginal relevance (Carbonell and Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998): what
comes next fits the query well and is unlike what was shown already.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ivsearch.domain import MediaId
from ivsearch.search.refine import FoundSpan


def diversify(ranked: Sequence[tuple[MediaId, FoundSpan]], k: int, strength: float) -> list[tuple[MediaId, FoundSpan]]:
    """k of ``ranked`` (best first). ``strength`` in [0, 1]: 0 keeps the order, 1 looks only at unlikeness after the
    first. Scores count from the worst to the best of ``ranked``, likeness is the cosine of what stands for each."""
    if strength == 0 or len(ranked) < 3:
        return list(ranked[:k])
    scores = np.array([span.score for _, span in ranked])
    fits = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-9)
    views = np.stack([span.view for _, span in ranked])
    views /= np.maximum(np.linalg.norm(views, axis=1, keepdims=True), 1e-12)
    alike = views @ views.T
    nearest = np.full(len(ranked), -np.inf)
    left, order = list(range(len(ranked))), list[int]()
    while left and len(order) < k:
        worth = [fits[i] if not order else (1 - strength) * fits[i] - strength * nearest[i] for i in left]
        best = left.pop(int(np.argmax(worth)))
        order.append(best)
        nearest = np.maximum(nearest, alike[best])
    return [ranked[i] for i in order]
