"""refine: from the Clips found in one Media to merged spans, each with the Moment that really matches.

All of it works on the stored frame vectors; neither the file nor the model is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import frame_ends_s, pool, span_of
from ivsearch.domain import Clip, FrameVectors, MediaId, Moment
from ivsearch.scoring.hubness import Hubness
from ivsearch.search.compose import Composed

# A frame alone may be a blend of two scenes, or blurred; two in a row are something that was shown.
PEAK_FRAMES = 2
# Of one Media, as many Clips are weighed for hubness, the best by cosine; the others are taken to be like them.
WEIGHED = 64


@dataclass(frozen=True, slots=True)
class Refinement:
    """The figures behind these are in benchmarks/LOG.md. ``background`` below is the Media's median frame score.

    ``frame_share``: what stands for a Clip is its best PEAK_FRAMES in a row to this share, for the rest all of it.
    ``merge_share``: a neighbour joins while it keeps this share of what the best Clip has above the background.
    ``moment_share``: frames with more than this share of it count for a Moment, those with less against it.
    """

    frame_share: float = 0.85
    merge_share: float = 0.6
    moment_share: float = 0.2


@dataclass(frozen=True, slots=True)
class FoundSpan:
    """Neighbouring Clips that match together. ``clip`` is the best of them. ``likely`` and ``steps``: as in Hit, the
    first once calibrated, the second of a sequence. ``taken_off``: hubness, gone from ``score`` already. ``copies``:
    near-duplicates in other Media. ``view`` (dim,) float32: the vector that stands for it."""

    clip: Clip
    start_s: float
    end_s: float
    score: float
    moment: Moment
    likely: float | None = None
    steps: tuple[Moment, ...] = ()
    taken_off: float = 0.0
    copies: tuple[tuple[MediaId, FoundSpan], ...] = ()
    view: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32), repr=False, compare=False)


def refine(
    query: Composed,
    clips: Sequence[Clip],
    frames: FrameVectors,
    duration_s: float,
    refinement: Refinement,
    hubness: Hubness | None,
) -> list[FoundSpan]:
    """The matching spans of one Media, best first. ``clips``: all its Clips, in time order. ``hubness`` is taken off
    the scores; None for what is not asked in words, as a picture is no nearer to the words than to what it shows."""
    vectors = frames.vectors.astype(np.float32)
    curve = query.scores(vectors)
    pooled = pool(frames.vectors, [span_of(clip) for clip in clips])
    clip_scores = query.scores(pooled)
    peaks = np.stack([_peak(curve, vectors, clip) for clip in clips])
    views = pooled + refinement.frame_share * (peaks - pooled)
    off = _taken_off(query.scores(views), views, hubness)
    scores = query.scores(views) - off
    background = float(np.median(curve))
    ends_s = frame_ends_s(frames.pts_s, duration_s)
    spans, free = [], np.ones(len(clips), bool)
    for best in np.argsort(-scores, kind="stable"):
        if not free[best]:
            continue
        first, last = _grow(int(best), clip_scores, free, background, refinement.merge_share)
        free[first : last + 1] = False
        threshold = background + refinement.moment_share * (clip_scores[best] - background)
        moment = _moment(curve, frames.pts_s, ends_s, clips[first], clips[last], threshold)
        score, taken_off = float(scores[best]), float(off[best])
        start_s, end_s = clips[first].start_s, clips[last].end_s
        spans.append(FoundSpan(clips[best], start_s, end_s, score, moment, taken_off=taken_off, view=views[best]))
    return spans


def _peak(curve: NDArray[np.float32], vectors: NDArray[np.float32], clip: Clip) -> NDArray[np.float32]:
    """The mean (dim,) of the Clip's best PEAK_FRAMES in a row; of all it has, if they are fewer."""
    first, last = clip.first_frame, clip.first_frame + clip.n_frames
    width = min(PEAK_FRAMES, clip.n_frames)
    sums = np.convolve(curve[first:last], np.ones(width, np.float32), "valid")
    best = first + int(np.argmax(sums))
    return np.asarray(vectors[best : best + width].mean(axis=0), np.float32)


def _taken_off(scores: NDArray[np.float32], views: NDArray[np.float32], hubness: Hubness | None) -> NDArray[np.float32]:
    """What hubness takes off each of ``scores`` (n,) of ``views`` (n, dim): (n,)."""
    if hubness is None:
        return np.zeros(len(scores), np.float32)
    if len(scores) <= WEIGHED:
        return hubness.taken_off(views)
    weighed = np.argsort(-scores, kind="stable")[:WEIGHED]
    known = hubness.taken_off(views[weighed])
    off = np.full(len(scores), known.mean(), np.float32)
    off[weighed] = known
    return off


def _grow(best: int, scores: NDArray, free: NDArray, background: float, share: float) -> tuple[int, int]:
    """Neighbours on both sides whose score stays above the threshold."""
    threshold = background + share * (scores[best] - background)
    first = last = best
    while first > 0 and free[first - 1] and scores[first - 1] >= threshold:
        first -= 1
    while last + 1 < len(scores) and free[last + 1] and scores[last + 1] >= threshold:
        last += 1
    return first, last


def _moment(curve: NDArray, pts_s: NDArray, ends_s: NDArray, first: Clip, last: Clip, threshold: float) -> Moment:
    """The frames in a row, from ``first`` to ``last`` Clip, that have most above the threshold in sum.

    A row may run through a weak frame when what follows makes up for it: one blurred frame does not end a Moment.
    """
    low, high = first.first_frame, last.first_frame + last.n_frames
    gains = np.concatenate([[0.0], np.cumsum(curve[low:high] - threshold)])
    # The best row ends where the running sum is highest above its lowest value before.
    lowest = np.minimum.accumulate(gains[:-1])
    stop = int(np.argmax(gains[1:] - lowest)) + 1
    start = int(np.argmin(gains[:stop]))
    score = float(curve[low + start : low + stop].mean())
    return Moment(float(pts_s[low + start]), float(ends_s[low + stop - 1]), score)
