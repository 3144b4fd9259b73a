from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.domain import Clip, FrameVectors
from ivsearch.search.compose import Composed
from ivsearch.search.refine import Refinement, refine

QUERY = Composed.of(np.array([1, 0], np.float32))


def frames_scoring(scores: list[float]) -> FrameVectors:
    """One frame a second whose cosine with QUERY is the score."""
    cosines = np.array(scores)
    vectors = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float16)
    n = len(scores)
    return FrameVectors(np.arange(n, dtype=np.float64), np.arange(n, dtype=np.int32), vectors)


def clips_of(*lengths: int) -> list[Clip]:
    starts = np.cumsum([0, *lengths])
    return [Clip(i, "m", float(starts[i]), float(starts[i + 1]), int(starts[i]), n) for i, n in enumerate(lengths)]


def best_row(values: NDArray) -> tuple[int, int]:
    """Slow truth: of all rows of neighbours the one with the largest sum."""
    rows = [(a, b) for a in range(len(values)) for b in range(a + 1, len(values) + 1)]
    return max(rows, key=lambda row: values[row[0] : row[1]].sum())


@pytest.mark.parametrize("seed", range(10))
def test_the_moment_is_the_row_of_frames_with_most_above_the_threshold(seed: int) -> None:
    curve = np.random.default_rng(seed).uniform(-0.2, 0.9, 14)
    frames, clips = frames_scoring(curve.tolist()), clips_of(14)
    (span,) = refine(QUERY, clips, frames, 14.0, Refinement())
    rounded = frames.vectors[:, 0].astype(np.float64)
    mean = frames.vectors.astype(np.float64).mean(0)
    background = np.median(rounded)
    threshold = background + 0.2 * (mean[0] / np.linalg.norm(mean) - background)
    start, stop = best_row(rounded - threshold)
    assert (span.moment.start_s, span.moment.end_s) == (start, stop)
    assert span.moment.score == pytest.approx(rounded[start:stop].mean(), abs=1e-4)


def test_one_weak_frame_does_not_end_a_moment() -> None:
    curve = [0.0] * 6 + [0.8, 0.8, 0.1, 0.8, 0.8] + [0.0] * 6
    (span,) = refine(QUERY, clips_of(17), frames_scoring(curve), 17.0, Refinement())
    assert (span.moment.start_s, span.moment.end_s) == (6, 11)


def test_neighbours_that_match_as_well_are_merged_and_others_not() -> None:
    curve = [0.0] * 10 + [0.8] * 5 + [0.7] * 5 + [0.1] * 5 + [0.75] * 5 + [0.0] * 10
    spans = refine(QUERY, clips_of(10, 5, 5, 5, 5, 10), frames_scoring(curve), 40.0, Refinement())
    assert [(s.start_s, s.end_s) for s in spans[:2]] == [(10, 20), (25, 30)]
    assert spans[0].clip.start_s == 10
    covered = sorted((s.start_s, s.end_s) for s in spans)
    assert covered[0][0] == 0 and covered[-1][1] == 40
    assert all(a[1] == b[0] for a, b in itertools.pairwise(covered))


def test_the_score_is_the_clips_cosine_and_half_of_what_its_best_frame_has_above_it() -> None:
    curve = [0.2, 0.9, 0.4]
    (span,) = refine(QUERY, clips_of(3), frames_scoring(curve), 3.0, Refinement())
    rows = frames_scoring(curve).vectors.astype(np.float64)
    mean = rows.mean(0)
    cosine = mean[0] / np.linalg.norm(mean)
    assert span.score == pytest.approx((cosine + rows[1, 0]) / 2, abs=1e-4)


def test_an_image_is_a_moment_of_no_length() -> None:
    (span,) = refine(QUERY, [Clip(1, "m", 0, 0, 0, 1)], frames_scoring([0.5]), 0.0, Refinement())
    assert (span.start_s, span.end_s, span.moment.start_s, span.moment.end_s) == (0, 0, 0, 0)
