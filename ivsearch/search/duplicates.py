"""fold: near-duplicates among what was found → one hit with copies.

The same footage encoded anew, scaled, cropped around its middle or brightened is cut into the same Clips, whose frames,
laid side by side in time, have vectors alike, and whose thumbnails are the same picture in every place. Vectors alone
do not tell: two takes of one scene are nearer to each other than a poor copy is to its original. Nor do whole
thumbnails: the same room with somebody else in it, or the next slide of one template, is nearly the same picture. Where
words on screen were read, they tell slides apart whose thumbnails are the same in every place. A copy that is missed
costs a place in the list, a hit that is hidden is lost: in doubt nothing is folded. How far all of them lie apart
stands in benchmarks/LOG.md. Without thumbnails nothing is folded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivsearch.domain import Clip, FrameVectors, MediaId
from ivsearch.search.refine import FoundSpan
from ivsearch.search.wording import differ
from ivsearch.store.thumbs import Thumbs

# Correlation of two thumbnails' grey values from which on they are the same picture.
SAME_PICTURE = 0.98
# The largest difference of any of their PLACES × PLACES places, in standard deviations of a picture's grey values.
SAME_PLACE = 0.25
PLACES = 16
# Mean cosine of frames side by side that a copy keeps.
SAME_SCENE = 0.85
# Cosine of what stands for two spans below which they are not looked at: each is another choice of its frames.
SAME_VIEW = 0.7
# Stored vectors are float16.
ROUNDING = 0.005
# Comparing takes the square of their number.
MOST_COMPARED = 1000
# Of the shorter Clip, this share must have a partner in the other one.
OVERLAP = 0.6
# Longer Clips are compared by their first rows, one a STEP_S.
MOST_ROWS = 120
STEP_S = 1.0
# Thumbnails are compared as squares of so many grey values, and with these shares cut off every side.
SIDE = 64
MARGINS = (0.0, 0.025, 0.05, 0.075)
# Standard deviation of grey values (of 255) below which a picture is empty, and like every empty one.
EMPTY = 4.0


@dataclass(frozen=True, slots=True)
class Copies:
    """Tells copies apart. ``frames`` gives a Media's vectors, or None where they cannot be read; ``words`` the rows of
    words that were read on screen during a Clip, where any were."""

    thumbs: Thumbs
    frames: Callable[[MediaId], FrameVectors | None]
    words: Callable[[Clip], Sequence[str]] = lambda clip: ()
    looks: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)
    rows: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)
    shown: dict[int, Sequence[str]] = field(default_factory=dict)

    def are(self, one: FoundSpan, other: FoundSpan) -> bool:
        """Whether two spans of different Media show the same footage. Of each its best Clip is looked at."""
        still = one.clip.start_s == one.clip.end_s
        if still != (other.clip.start_s == other.clip.end_s):
            return False
        # Vectors first: they are in memory, and few pairs are left whose thumbnails must be read.
        x, y = self._rows(one), self._rows(other)
        if x is None or y is None or agreement(x, y) < SAME_SCENE:
            return False
        a, b = self._look(one), self._look(other)
        if a is None or b is None or not same_picture(a, b):
            return False
        return not differ(self._shown(one), self._shown(other), still=still)

    def _look(self, span: FoundSpan) -> NDArray[np.float32] | None:
        clip = span.clip
        if clip.clip_id not in self.looks:
            self.looks[clip.clip_id] = look_of(self.thumbs.path(clip.media_id, clip.start_s))
        return self.looks[clip.clip_id]

    def _shown(self, span: FoundSpan) -> Sequence[str]:
        if span.clip.clip_id not in self.shown:
            self.shown[span.clip.clip_id] = self.words(span.clip)
        return self.shown[span.clip.clip_id]

    def _rows(self, span: FoundSpan) -> NDArray[np.float32] | None:
        clip = span.clip
        if clip.clip_id not in self.rows:
            frames = self.frames(clip.media_id)
            self.rows[clip.clip_id] = None if frames is None else _rows(span, frames)
        return self.rows[clip.clip_id]


def fold(ranked: Sequence[tuple[MediaId, FoundSpan]], copies: Copies | None) -> list[tuple[MediaId, FoundSpan]]:
    """What of ``ranked`` (best first) is no copy of a better one; the copies are in its ``copies``. Only the first
    MOST_COMPARED are looked at."""
    compared = ranked[:MOST_COMPARED]
    if copies is None or not compared:
        return list(ranked)
    views = np.stack([span.view for _, span in compared])
    views /= np.maximum(np.linalg.norm(views, axis=1, keepdims=True), 1e-12)
    # What stands for two copies is alike, too, and for a picture it is its only frame; nothing need be read of others.
    still = np.array([span.clip.start_s == span.clip.end_s for _, span in compared])
    least = np.where(np.logical_and.outer(still, still), SAME_SCENE - ROUNDING, SAME_VIEW)
    alike = views @ views.T >= least
    kept = np.zeros(len(compared), bool)
    folded: dict[int, list[tuple[MediaId, FoundSpan]]] = {}
    for i, (media_id, span) in enumerate(compared):
        originals = (j for j in np.flatnonzero(alike[i] & kept).tolist() if compared[j][0] != media_id)
        original = next((j for j in originals if copies.are(span, compared[j][1])), None)
        if original is None:
            kept[i] = True
        else:
            folded.setdefault(original, []).append((media_id, span))
    distinct = [
        (media_id, replace(span, copies=tuple(folded.get(i, ()))))
        for i, (media_id, span) in enumerate(compared)
        if kept[i]
    ]
    return [*distinct, *ranked[MOST_COMPARED:]]


def copied_in(listed: Sequence[tuple[MediaId, FoundSpan]]) -> set[MediaId]:
    """The Media that are folded into others and not listed themselves."""
    return {media_id for _, span in listed for media_id, _ in span.copies} - {media_id for media_id, _ in listed}


def look_of(thumbnail: Path) -> NDArray[np.float32] | None:
    """A thumbnail as grey squares, one for each of MARGINS, of mean 0 and length 1: (4, SIDE²) float32. None for an
    empty picture, and where there is no thumbnail that can be read: it is never needed."""
    try:
        with Image.open(thumbnail) as file:
            grey = file.convert("L")
    except OSError:
        return None
    squares = []
    for margin in MARGINS:
        left, top = round(grey.width * margin), round(grey.height * margin)
        part = grey.crop((left, top, max(grey.width - left, left + 1), max(grey.height - top, top + 1)))
        values = np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32).ravel()
        if values.std() < EMPTY:
            return None
        values = values - values.mean()
        squares.append(values / np.linalg.norm(values))
    return np.stack(squares)


def same_picture(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether one whole picture is the other one, whole or without its margins, in every place. ``a`` and ``b``: as
    ``look_of`` gives them."""
    pairs = [*((a[0], part) for part in b), *((b[0], part) for part in a)]
    likeness, one, other = max(((float(x @ y), x, y) for x, y in pairs), key=lambda each: each[0])
    if likeness < SAME_PICTURE:
        return False
    # Of length 1 they have a standard deviation of 1 / SIDE.
    apart = (one - likeness * other).reshape(PLACES, SIDE // PLACES, PLACES, SIDE // PLACES) * SIDE
    return float(np.abs(apart.mean(axis=(1, 3))).max()) < SAME_PLACE


def agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The highest mean cosine of unit rows of ``a`` (n, dim) and ``b`` (m, dim) side by side, over all shifts at which
    enough of the shorter one has a partner."""
    alike = a @ b.T
    needed = max(1, int(np.ceil(OVERLAP * min(len(a), len(b)))))
    return max(float(alike.diagonal(shift).mean()) for shift in range(needed - len(a), len(b) - needed + 1))


def _rows(span: FoundSpan, frames: FrameVectors) -> NDArray[np.float32]:
    """The frame standing at every STEP_S of the best Clip: (n, dim) float32 unit rows. The gate's gaps are filled."""
    clip = span.clip
    times_s = np.arange(clip.start_s, max(clip.end_s, clip.start_s + 1e-6), STEP_S)[:MOST_ROWS]
    standing = np.maximum(np.searchsorted(frames.pts_s, times_s + 1e-3, side="right") - 1, 0)
    return frames.vectors[standing].astype(np.float32)
