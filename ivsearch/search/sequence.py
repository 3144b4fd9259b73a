"""sequence: the best places of a video where one thing is followed by another, found on the stored frame vectors.

A step matches a frame; the next step must match a later one that comes soon enough. Which frames are best together is
found by dynamic programming in time linear in the number of frames: for each frame the best choice before it lies in a
window that only moves forward, kept as a queue of falling maxima.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import frame_ends_s, pool, span_of
from ivsearch.domain import Clip, FrameVectors, Moment
from ivsearch.scoring.hubness import Hubness
from ivsearch.search.compose import Composed
from ivsearch.search.refine import FoundSpan

# A frame belongs to the Moment around the best one while it keeps this share of what that has above the video's median.
MOMENT_SHARE = 0.5
# Every step must stand out by so many standard deviations from its usual score in the library. Figures in
# benchmarks/LOG.md.
STANDS_OUT = 1.5
# Sequences of one video at most.
MOST = 5


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a sequence: what is looked for, and the mean and standard deviation of its score in the library.

    ``within_s``: how soon it must begin after the step before has ended; not looked at in the first one. ``hubness``:
    as in ``refine``.
    """

    composed: Composed
    usual: float
    spread: float
    within_s: float
    hubness: Hubness | None = None

    @classmethod
    def of(cls, composed: Composed, background: NDArray[np.float32], within_s: float, hubness: Hubness | None) -> Step:
        """``background`` (n, dim): Clips of the library; with none there is nothing to stand out of."""
        if not len(background):
            return cls(composed, 0.0, 1.0, within_s, hubness)
        scores = composed.scores(background)
        if hubness is not None:
            scores = scores - hubness.taken_off(background)
        return cls(composed, float(scores.mean()), max(float(scores.std()), 1e-6), within_s, hubness)


def sequences(steps: Sequence[Step], clips: Sequence[Clip], frames: FrameVectors, duration_s: float) -> list[FoundSpan]:
    """The places of one video where every step stands out, one after the other, without overlap; best first.

    ``clips``: all its Clips, in time order. A place's score is the mean score of its steps' Moments. Which frames are
    taken, their standing decides: standard deviations above the step's usual score.
    """
    starts_s, ends_s = frames.pts_s, frame_ends_s(frames.pts_s, duration_s)
    curves = [step.composed.scores(frames.vectors.astype(np.float32)) for step in steps]
    standing = np.stack([_standing(step, curve, clips, frames) for step, curve in zip(steps, curves, strict=True)])
    standing[standing < STANDS_OUT] = -np.inf
    found: list[FoundSpan] = []
    while len(found) < MOST:
        chosen = best_in_a_row(standing, starts_s, ends_s, [step.within_s for step in steps[1:]])
        if chosen is None:
            break
        moments = _moments(chosen, curves, starts_s, ends_s)
        start_s, end_s = moments[0].start_s, moments[-1].end_s
        first = next(clip for clip in reversed(clips) if clip.first_frame <= chosen[0])
        span = Moment(start_s, end_s, float(np.mean([moment.score for moment in moments])))
        found.append(FoundSpan(first, start_s, end_s, span.score, span, steps=tuple(moments)))
        standing[:, (starts_s < end_s) & (ends_s > start_s)] = -np.inf
        standing[:, list(chosen)] = -np.inf
    return sorted(found, key=lambda span: -span.score)


def best_in_a_row(
    values: NDArray[np.floating], starts_s: NDArray[np.float64], ends_s: NDArray[np.float64], within_s: Sequence[float]
) -> list[int] | None:
    """One frame a step with the largest sum of ``values`` (steps, n): each after the one before, and starting at most
    ``within_s[step - 1]`` after that one has ended. None when there is no choice of finite value.

    ``starts_s`` and ``ends_s`` (n,) ascend.
    """
    usable = np.flatnonzero(np.isfinite(values).any(axis=0))
    if not np.isfinite(values).any(axis=1).all():
        return None
    # In an hour of frames a few stand out: only those are gone through.
    chosen = _best_of_few(values[:, usable], starts_s[usable], ends_s[usable], within_s)
    return None if chosen is None else usable[chosen].tolist()


def _best_of_few(
    values: NDArray[np.floating], starts_s: NDArray[np.float64], ends_s: NDArray[np.float64], within_s: Sequence[float]
) -> list[int] | None:
    """As ``best_in_a_row``."""
    n_steps, n = values.shape
    total = np.array(values[0], np.float64)
    came_from = np.full((n_steps, n), -1)
    for step in range(1, n_steps):
        best = np.full(n, -np.inf)
        window: deque[int] = deque()  # frames before this one, soon enough, with falling totals
        for frame in range(1, n):
            while window and total[window[-1]] <= total[frame - 1]:
                window.pop()
            window.append(frame - 1)
            while window and ends_s[window[0]] < starts_s[frame] - within_s[step - 1]:
                window.popleft()
            if window:
                best[frame], came_from[step, frame] = total[window[0]], window[0]
        total = best + values[step]
    if not np.isfinite(total.max()):
        return None
    chosen = [int(np.argmax(total))]
    for step in range(n_steps - 1, 0, -1):
        chosen.append(int(came_from[step, chosen[-1]]))
    return chosen[::-1]


def _standing(step: Step, curve: NDArray, clips: Sequence[Clip], frames: FrameVectors) -> NDArray[np.float64]:
    """How far each frame, with the Clip around it, stands above what is usual: half from each, as in ``refine``."""
    pooled = pool(frames.vectors, [span_of(clip) for clip in clips])
    of_clips = step.composed.scores(pooled) / 2
    if step.hubness is not None:
        of_clips = of_clips - step.hubness.taken_off(pooled)
    around = np.repeat(of_clips, [clip.n_frames for clip in clips])
    return (curve / 2 + around - step.usual).astype(np.float64) / step.spread


def _moments(
    chosen: Sequence[int], curves: Sequence[NDArray], starts_s: NDArray[np.float64], ends_s: NDArray[np.float64]
) -> list[Moment]:
    """The frames in a row around each chosen one that match nearly as well; no Moment reaches into the next one."""
    moments: list[Moment] = []
    free = 0
    for step, (frame, curve) in enumerate(zip(chosen, curves, strict=True)):
        limit = chosen[step + 1] if step + 1 < len(chosen) else len(curve)
        background = float(np.median(curve))
        keeps = curve >= min(background + MOMENT_SHARE * (curve[frame] - background), curve[frame])
        first = last = frame
        while first > free and keeps[first - 1]:
            first -= 1
        while last + 1 < limit and keeps[last + 1]:
            last += 1
        moments.append(Moment(float(starts_s[first]), float(ends_s[last]), float(curve[first : last + 1].mean())))
        free = last + 1
    return moments
