"""Cutting a video into Clips from the vectors of its frames, and pooling a Clip's frames into one vector.

Both need only what the VectorStore holds, so Clips can be cut anew without touching video or model.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import FrameVectors


@dataclass(frozen=True, slots=True)
class Cutting:
    """How Clips are cut. The figures behind the defaults are in benchmarks/LOG.md.

    ``shot_similarity``: two neighbouring frames whose cosine is below it belong to different Clips.
    ``min_s``/``max_s``: no Clip shorter (unless the video is), none longer.
    """

    shot_similarity: float = 0.5
    min_s: float = 2.0
    max_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """Frames ``[first_frame, first_frame + n_frames)``, shown during ``[start_s, end_s)``."""

    first_frame: int
    n_frames: int
    start_s: float
    end_s: float


def frame_ends_s(pts_s: NDArray[np.float64], duration_s: float) -> NDArray[np.float64]:
    """Until when each embedded frame stands: the next one's time, at last the end of the video. (n,) float64."""
    return np.append(pts_s[1:], max(duration_s, pts_s[-1] if len(pts_s) else 0.0))


def cut(frames: FrameVectors, duration_s: float, cutting: Cutting) -> list[Span]:
    """Cuts at shot changes, then splits what is too long into equal parts, then joins what is too short.

    A frame that stands for a long still time (the gate dropped its repeats) is never split.
    """
    pts_s = frames.pts_s
    n = len(pts_s)
    if n == 0:
        return []
    ends_s = frame_ends_s(pts_s, duration_s)
    edges = [0, *_shot_changes(frames.vectors, cutting.shot_similarity), n]
    edges = _join_short(edges, pts_s, ends_s, cutting.min_s)
    spans = []
    for first, last in pairwise(edges):
        for start, stop in _split_long(first, last, pts_s, ends_s, cutting.max_s):
            spans.append(Span(start, stop - start, float(pts_s[start]), float(ends_s[stop - 1])))
    return spans


def _shot_changes(vectors: NDArray[np.float16], similarity: float) -> list[int]:
    units = vectors.astype(np.float32)
    cosines = np.einsum("ij,ij->i", units[:-1], units[1:])
    return [int(i) + 1 for i in np.flatnonzero(cosines < similarity)]


def _join_short(edges: list[int], pts_s: NDArray, ends_s: NDArray, min_s: float) -> list[int]:
    joined = [0]
    for edge in edges[1:-1]:
        if pts_s[edge] - pts_s[joined[-1]] >= min_s:
            joined.append(edge)
    # A short rest at the end goes to the Clip before it.
    if len(joined) > 1 and ends_s[-1] - pts_s[joined[-1]] < min_s:
        joined.pop()
    return [*joined, edges[-1]]


def _split_long(first: int, last: int, pts_s: NDArray, ends_s: NDArray, max_s: float) -> list[tuple[int, int]]:
    length_s = ends_s[last - 1] - pts_s[first]
    parts = int(np.ceil(length_s / max_s - 1e-6))
    if parts <= 1:
        return [(first, last)]
    targets = pts_s[first] + length_s * np.arange(1, parts) / parts
    # The tolerance keeps 29.97 fps times, a hair late, on their side of the target.
    inner = np.unique(first + np.searchsorted(pts_s[first:last], targets - 1e-3))
    edges = [first, *(int(i) for i in inner if first < i < last), last]
    return list(pairwise(edges))


def pool(vectors: NDArray[np.float16], spans: list[Span]) -> NDArray[np.float32]:
    """Mean of each span's unit vectors, normalised again (the InternVL-C video protocol). (n_spans, dim) float32."""
    means = np.stack([vectors[s.first_frame : s.first_frame + s.n_frames].astype(np.float32).mean(0) for s in spans])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    return means / np.maximum(norms, 1e-12)
