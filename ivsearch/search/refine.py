"""refine: from the Clips found in one Media to merged spans, each with the Moment that really matches.

All of it works on the stored frame vectors; neither the file nor the model is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import frame_ends_s
from ivsearch.domain import Clip, FrameVectors, Moment


@dataclass(frozen=True, slots=True)
class Refinement:
    """The figures behind these are in benchmarks/LOG.md.

    A span's score is the cosine of its best Clip plus ``frame_share`` of what its best frame has above that.
    A neighbour joins a span, and a frame a Moment, while it keeps that share of what the best has above the
    Media's own background (the median of its frames).
    """

    frame_share: float = 0.5
    merge_share: float = 0.6
    moment_share: float = 0.5


@dataclass(frozen=True, slots=True)
class FoundSpan:
    """Neighbouring Clips that match together. ``clip`` is the best of them."""

    clip: Clip
    start_s: float
    end_s: float
    score: float
    moment: Moment


def refine(
    query: NDArray[np.float32],
    clips: Sequence[Clip],
    frames: FrameVectors,
    duration_s: float,
    refinement: Refinement,
) -> list[FoundSpan]:
    """The matching spans of one Media, best first. ``query`` (dim,) unit; ``clips`` all its Clips, in time order."""
    curve = frames.vectors.astype(np.float32) @ query
    clip_scores = np.array([_clip_score(query, clip, frames) for clip in clips])
    peaks = np.array([curve[clip.first_frame : clip.first_frame + clip.n_frames].max() for clip in clips])
    scores = clip_scores + refinement.frame_share * (peaks - clip_scores)
    background = float(np.median(curve))
    spans, free = [], np.ones(len(clips), bool)
    for best in np.argsort(-scores, kind="stable"):
        if not free[best]:
            continue
        first, last = _grow(int(best), clip_scores, free, background, refinement.merge_share)
        free[first : last + 1] = False
        clip = clips[best]
        moment = _moment(
            curve, frames.pts_s, duration_s, clips[first], clips[last], clip, background, refinement.moment_share
        )
        spans.append(FoundSpan(clip, clips[first].start_s, clips[last].end_s, float(scores[best]), moment))
    return spans


def _clip_score(query: NDArray[np.float32], clip: Clip, frames: FrameVectors) -> float:
    mean = frames.vectors[clip.first_frame : clip.first_frame + clip.n_frames].astype(np.float32).mean(0)
    return float(mean @ query / max(float(np.linalg.norm(mean)), 1e-12))


def _grow(best: int, scores: NDArray, free: NDArray, background: float, share: float) -> tuple[int, int]:
    """Neighbours on both sides whose score stays above the threshold."""
    threshold = background + share * (scores[best] - background)
    first = last = best
    while first > 0 and free[first - 1] and scores[first - 1] >= threshold:
        first -= 1
    while last + 1 < len(scores) and free[last + 1] and scores[last + 1] >= threshold:
        last += 1
    return first, last


def _moment(
    curve: NDArray,
    pts_s: NDArray,
    duration_s: float,
    first: Clip,
    last: Clip,
    best: Clip,
    background: float,
    share: float,
) -> Moment:
    """The frames around the best frame of the best Clip that stay above the threshold."""
    low, high = first.first_frame, last.first_frame + last.n_frames - 1
    peak = best.first_frame + int(np.argmax(curve[best.first_frame : best.first_frame + best.n_frames]))
    threshold = background + share * (curve[peak] - background)
    start = stop = peak
    while start > low and curve[start - 1] >= threshold:
        start -= 1
    while stop < high and curve[stop + 1] >= threshold:
        stop += 1
    ends_s = frame_ends_s(pts_s, duration_s)
    return Moment(float(pts_s[start]), float(ends_s[stop]), float(curve[start : stop + 1].mean()))
