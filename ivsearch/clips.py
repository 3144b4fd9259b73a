"""Cutting a video into Clips from the vectors of its frames, and pooling a Clip's frames into one vector.

Both need only what the VectorStore holds, so Clips can be cut anew without touching video or model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Clip, FrameVectors


@dataclass(frozen=True, slots=True)
class Cutting:
    """How Clips are cut. The figures behind the defaults are in benchmarks/LOG.md.

    ``penalty``: what one more Clip costs, in the unit of ``cut``: a frame orthogonal to its Clip's mean costs 1.
    ``min_s``: a shorter Clip costs three penalties more. ``max_s``: no Clip is longer, unless one still frame is.
    """

    penalty: float = 2.0
    min_s: float = 2.0
    max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Span:
    """Frames ``[first_frame, first_frame + n_frames)``, shown during ``[start_s, end_s)``."""

    first_frame: int
    n_frames: int
    start_s: float
    end_s: float


def span_of(clip: Clip) -> Span:
    return Span(clip.first_frame, clip.n_frames, clip.start_s, clip.end_s)


def middle_frame(span: Span) -> int:
    """The frame that is shown for a Clip."""
    return span.first_frame + span.n_frames // 2


def frame_ends_s(pts_s: NDArray[np.float64], duration_s: float) -> NDArray[np.float64]:
    """Until when each embedded frame stands: the next one's time, at last the end of the video. (n,) float64."""
    return np.append(pts_s[1:], max(duration_s, pts_s[-1] if len(pts_s) else 0.0))


def cut(frames: FrameVectors, duration_s: float, cutting: Cutting) -> list[Span]:
    """Cuts where the frames' content changes: the segmentation with the least scatter inside Clips plus penalties.

    The scatter of a Clip of n unit vectors with sum s is n - |s|²/n. The optimum over all segmentations is found by
    dynamic programming, as in kernel temporal segmentation (Potapov et al., "Category-specific video
    summarization", ECCV 2014, section 3.1) but with a linear penalty, so that the number of Clips need not be known
    and the time is linear in the length of the video.
    """
    pts_s = frames.pts_s
    n = len(pts_s)
    ends_s = frame_ends_s(pts_s, duration_s)
    sums = np.zeros((n + 1, frames.vectors.shape[1]))
    np.cumsum(frames.vectors, axis=0, dtype=np.float64, out=sums[1:])
    cost = np.zeros(n + 1)  # of the best segmentation of the first i frames
    start_of = np.zeros(n + 1, np.int64)  # where its last Clip starts
    earliest = np.minimum(np.searchsorted(pts_s, ends_s - cutting.max_s - 1e-3), np.arange(n))
    for stop in range(1, n + 1):
        starts = np.arange(earliest[stop - 1], stop)
        counts = stop - starts
        within = sums[stop] - sums[starts]
        scatter = counts - np.einsum("ij,ij->i", within, within) / counts
        short = ends_s[stop - 1] - pts_s[starts] < cutting.min_s
        total = cost[starts] + scatter + cutting.penalty * (1 + 3 * short)
        best = int(np.argmin(total))
        cost[stop], start_of[stop] = total[best], starts[best]
    spans: list[Span] = []
    stop = n
    while stop > 0:
        start = int(start_of[stop])
        spans.append(Span(start, stop - start, float(pts_s[start]), float(ends_s[stop - 1])))
        stop = start
    return spans[::-1]


def pool(vectors: NDArray[np.float16], spans: list[Span]) -> NDArray[np.float32]:
    """Mean of each span's unit vectors, normalised again (the InternVL-C video protocol). (n_spans, dim) float32."""
    means = np.stack([vectors[s.first_frame : s.first_frame + s.n_frames].astype(np.float32).mean(0) for s in spans])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    return means / np.maximum(norms, 1e-12)
