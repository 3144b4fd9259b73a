from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.domain import Clip, FrameVectors
from ivsearch.scoring.hubness import Hubness, Usual
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
    (span,) = refine(QUERY, clips, frames, 14.0, Refinement(), None)
    rounded = frames.vectors[:, 0].astype(np.float64)
    mean = frames.vectors.astype(np.float64).mean(0)
    background = np.median(rounded)
    threshold = background + 0.2 * (mean[0] / np.linalg.norm(mean) - background)
    start, stop = best_row(rounded - threshold)
    assert (span.moment.start_s, span.moment.end_s) == (start, stop)
    assert span.moment.score == pytest.approx(rounded[start:stop].mean(), abs=1e-4)


def test_one_weak_frame_does_not_end_a_moment() -> None:
    curve = [0.0] * 6 + [0.8, 0.8, 0.1, 0.8, 0.8] + [0.0] * 6
    (span,) = refine(QUERY, clips_of(17), frames_scoring(curve), 17.0, Refinement(), None)
    assert (span.moment.start_s, span.moment.end_s) == (6, 11)


def test_neighbours_that_match_as_well_are_merged_and_others_not() -> None:
    curve = [0.0] * 10 + [0.8] * 5 + [0.7] * 5 + [0.1] * 5 + [0.75] * 5 + [0.0] * 10
    spans = refine(QUERY, clips_of(10, 5, 5, 5, 5, 10), frames_scoring(curve), 40.0, Refinement(), None)
    assert [(s.start_s, s.end_s) for s in spans[:2]] == [(10, 20), (25, 30)]
    assert spans[0].clip.start_s == 10
    covered = sorted((s.start_s, s.end_s) for s in spans)
    assert covered[0][0] == 0 and covered[-1][1] == 40
    assert all(a[1] == b[0] for a, b in itertools.pairwise(covered))


def test_the_score_is_mostly_that_of_the_best_two_frames_in_a_row() -> None:
    curve = [0.2, 0.9, 0.4, 0.6, 0.5]
    (span,) = refine(QUERY, clips_of(5), frames_scoring(curve), 5.0, Refinement(), None)
    rows = frames_scoring(curve).vectors.astype(np.float64)
    mean = rows.mean(0)
    best = max(rows[i : i + 2, 0].mean() for i in range(4))
    assert span.score == pytest.approx(0.15 * mean[0] / np.linalg.norm(mean) + 0.85 * best, abs=1e-4)
    assert span.taken_off == 0


@pytest.mark.parametrize("seed", range(5))
def test_what_is_near_to_all_words_loses_by_it(seed: int) -> None:
    """Against a loop over frames, Clips and words."""
    random = np.random.default_rng(seed)
    vectors, words, query = (random.normal(size=(n, 16)) for n in (12, 30, 1))
    vectors, words, query = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, words, query))
    frames = FrameVectors(np.arange(12.0), np.arange(12, dtype=np.int32), vectors.astype(np.float16))
    clips = clips_of(4, 1, 7)
    found = refine(
        Composed.of(query[0].astype(np.float32)),
        clips,
        frames,
        12.0,
        Refinement(merge_share=9),
        Hubness(words.astype(np.float32), Usual(0.1, 1.0)),
    )
    assert [span.score for span in found] == sorted((span.score for span in found), reverse=True)
    for span in found:
        first = span.clip.first_frame
        rows = frames.vectors[first : first + span.clip.n_frames].astype(np.float64)
        width = min(2, len(rows))
        peak = max((rows[i : i + width].mean(0) for i in range(len(rows) - width + 1)), key=lambda row: row @ query[0])
        mean = rows.mean(0) / np.linalg.norm(rows.mean(0))
        view = 0.15 * mean + 0.85 * peak
        off = 0.4 * (np.mean(sorted(float(word @ view) for word in words)[-10:]) - 0.1)
        assert span.taken_off == pytest.approx(off, abs=1e-4)
        assert span.score == pytest.approx(float(view @ query[0]) - off, abs=1e-4)


def test_an_image_is_a_moment_of_no_length() -> None:
    (span,) = refine(QUERY, [Clip(1, "m", 0, 0, 0, 1)], frames_scoring([0.5]), 0.0, Refinement(), None)
    assert (span.start_s, span.end_s, span.moment.start_s, span.moment.end_s) == (0, 0, 0, 0)
