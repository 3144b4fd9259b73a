from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.domain import Clip, Moment
from ivsearch.search.diversity import diversify
from ivsearch.search.refine import FoundSpan


def spans(scores: NDArray[np.float64], views: NDArray[np.float64]) -> list[tuple[str, FoundSpan]]:
    found = []
    for i, (score, view) in enumerate(zip(scores.tolist(), views, strict=True)):
        clip, moment = Clip(i, str(i), 0, 1, 0, 1), Moment(0, 1, 0)
        found.append((str(i), FoundSpan(clip, 0, 1, score, moment, view=view.astype(np.float32))))
    return found


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_maximal_marginal_relevance(seed: int, strength: float) -> None:
    """Against the formula of Carbonell and Goldstein, one candidate after another."""
    random = np.random.default_rng(seed)
    scores, views = np.sort(random.random(12))[::-1], random.normal(size=(12, 5))
    units = [view / np.linalg.norm(view) for view in views]
    fits = [(score - min(scores)) / (max(scores) - min(scores)) for score in scores]
    chosen = [0]
    while len(chosen) < 6:
        left = [i for i in range(12) if i not in chosen]
        worth = {i: (1 - strength) * fits[i] - strength * max(units[i] @ units[j] for j in chosen) for i in left}
        chosen.append(max(left, key=lambda i: worth[i]))
    assert [int(name) for name, _ in diversify(spans(scores, views), 6, strength)] == chosen


def test_none_of_it_keeps_the_order() -> None:
    found = spans(np.array([0.9, 0.8, 0.7, 0.6]), np.ones((4, 3)))
    assert diversify(found, 3, 0.0) == found[:3]
