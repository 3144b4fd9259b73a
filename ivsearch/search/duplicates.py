"""fold: near-duplicates among what was found → one hit with copies.

The same footage encoded anew, scaled, cropped or brightened keeps its content second by second: two spans are copies
when their frames, laid side by side at the same distance in time, agree all along a row. Two takes of one scene agree
in some frames and not in a row. How far copies and other scenes lie apart: benchmarks/LOG.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import FrameVectors, MediaId
from ivsearch.search.refine import FoundSpan

Spans = list[tuple[MediaId, FoundSpan]]
Read = Callable[[MediaId], FrameVectors | None]

# Mean cosine of frames side by side from which on two spans are copies.
COPY = 0.9
# What stands for two copies is at least so alike; all others need not be laid side by side.
WORTH_A_LOOK = 0.75
# Of the shorter span, this share must have a partner in the other one.
OVERLAP = 0.6
# Longer spans are compared by their first rows. One row a second.
MOST_ROWS = 120
STEP_S = 1.0


def fold(ranked: Sequence[tuple[MediaId, FoundSpan]], k: int, read: Read) -> Spans:
    """The first k of ``ranked`` (best first) that are no copies of a better one; the copies are in ``copies`` of that.

    ``read`` gives a Media's frame vectors, or None where they cannot be read.
    """
    shown: Spans = []
    rows: dict[int, NDArray[np.float32]] = {}
    for place, (media_id, span) in enumerate(ranked):
        original = next((i for i, each in enumerate(shown) if _is_copy(ranked[place], each, read, rows)), None)
        if original is not None:
            owner, kept = shown[original]
            shown[original] = (owner, replace(kept, copies=(*kept.copies, (media_id, span))))
        elif len(shown) < k:
            shown.append((media_id, span))
        else:
            break  # what comes after the last one shown is no copy anybody would miss
    return shown


def _is_copy(
    one: tuple[MediaId, FoundSpan], other: tuple[MediaId, FoundSpan], read: Read, rows: dict[int, NDArray[np.float32]]
) -> bool:
    (media_id, span), (owner, kept) = one, other
    still = span.start_s == span.end_s
    if media_id == owner or still != (kept.start_s == kept.end_s) or _cosine(span.view, kept.view) < WORTH_A_LOOK:
        return False
    for each_id, each in (one, other):
        if each.clip.clip_id not in rows:
            frames = read(each_id)
            rows[each.clip.clip_id] = np.empty((0, 0), np.float32) if frames is None else _rows(each, frames)
    a, b = rows[span.clip.clip_id], rows[kept.clip.clip_id]
    return bool(len(a) and len(b)) and agreement(a, b) >= COPY


def agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The highest mean cosine of unit rows of ``a`` (n, dim) and ``b`` (m, dim) side by side, over all shifts at which
    enough of the shorter one has a partner."""
    alike = a @ b.T
    needed = max(1, int(np.ceil(OVERLAP * min(a.shape[0], b.shape[0]))))
    shifts = range(needed - a.shape[0], b.shape[0] - needed + 1)
    return max(float(alike.diagonal(shift).mean()) for shift in shifts)


def _rows(span: FoundSpan, frames: FrameVectors) -> NDArray[np.float32]:
    """The frame standing at every STEP_S of the best Clip: (n, dim) float32 unit rows. The gate's gaps are filled."""
    pts_s = frames.pts_s
    times_s = np.arange(span.clip.start_s, max(span.clip.end_s, span.clip.start_s + 1e-6), STEP_S)[:MOST_ROWS]
    standing = np.maximum(np.searchsorted(pts_s, times_s + 1e-3, side="right") - 1, 0)
    return frames.vectors[standing].astype(np.float32)


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
