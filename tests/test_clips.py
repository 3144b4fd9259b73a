from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from ivsearch.clips import Cutting, Span, cut, frame_ends_s, pool
from ivsearch.domain import FrameVectors


def shots(lengths: list[int], noise: float, seed: int = 0, dim: int = 32) -> FrameVectors:
    """One frame a second; each shot has its own direction, each frame some noise around it."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.standard_normal(dim) + noise * rng.standard_normal((length, dim)) for length in lengths])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    n = len(rows)
    return FrameVectors(np.arange(n, dtype=np.float64), np.arange(n, dtype=np.int32), rows.astype(np.float16))


def starts(spans: list[Span]) -> list[float]:
    return [span.start_s for span in spans]


@pytest.mark.parametrize("seed", range(5))
def test_hard_cuts_are_found(seed: int) -> None:
    spans = cut(shots([12, 7, 20, 3, 9], noise=0.5, seed=seed), 51.0, Cutting())
    assert starts(spans) == [0, 12, 19, 39, 42]
    assert spans[-1].end_s == 51.0


def brute_force_cost(frames: FrameVectors, edges: tuple[int, ...], cutting: Cutting, duration_s: float) -> float:
    ends_s = frame_ends_s(frames.pts_s, duration_s)
    total = 0.0
    for start, stop in pairwise(edges):
        rows = frames.vectors[start:stop].astype(np.float64)
        length_s = ends_s[stop - 1] - frames.pts_s[start]
        if length_s > cutting.max_s + 1e-3 and stop - start > 1:
            return np.inf
        total += float((1 - rows @ rows.mean(0)).sum())
        total += cutting.penalty * (1 + 3 * (length_s < cutting.min_s))
    return total


@pytest.mark.parametrize("seed", range(8))
def test_no_other_segmentation_is_better(seed: int) -> None:
    frames = shots([3, 2, 4, 2], noise=1.5, seed=seed)
    cutting = Cutting(penalty=0.7, min_s=2, max_s=5)
    n, best = 11, (np.inf, ())
    for count in range(n):
        for inner in combinations(range(1, n), count):
            edges = (0, *inner, n)
            best = min(best, (brute_force_cost(frames, edges, cutting, 11.0), edges))
    spans = cut(frames, 11.0, cutting)
    assert (0, *(span.first_frame + span.n_frames for span in spans)) == best[1]


def test_clips_cover_every_frame_once_and_none_is_too_long() -> None:
    frames = shots([100], noise=0.1)
    spans = cut(frames, 100.0, Cutting(max_s=30))
    assert [span.first_frame for span in spans] == list(np.cumsum([0, *(s.n_frames for s in spans)])[:-1])
    assert sum(span.n_frames for span in spans) == 100
    assert max(span.end_s - span.start_s for span in spans) <= 30.001


def test_a_still_frame_is_not_split() -> None:
    vectors = shots([2], noise=0).vectors
    frames = FrameVectors(np.arange(200.0), np.array([0, 100], np.int32), vectors)
    spans = cut(frames, 200.0, Cutting(max_s=30))
    assert [(s.start_s, s.end_s) for s in spans] == [(0, 100), (100, 200)]


def test_an_image_is_one_clip_of_length_zero_and_nothing_gives_nothing() -> None:
    frames = FrameVectors(np.zeros(1), np.zeros(1, np.int32), shots([1], noise=0).vectors)
    assert cut(frames, 0.0, Cutting()) == [Span(0, 1, 0.0, 0.0)]
    empty = FrameVectors(np.zeros(0), np.zeros(0, np.int32), np.zeros((0, 4), np.float16))
    assert cut(empty, 0.0, Cutting()) == []


def test_pool_is_the_normalised_mean() -> None:
    frames = shots([6, 5], noise=0.3)
    spans = [Span(0, 6, 0, 6), Span(6, 5, 6, 11)]
    for row, part in zip(pool(frames.vectors, spans), (frames.vectors[:6], frames.vectors[6:]), strict=True):
        mean = part.astype(np.float64).mean(0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
