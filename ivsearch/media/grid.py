"""The sampling grid: t = 0, 1/fps, 2/fps, … counted from the first presented picture, in exact ticks."""

from __future__ import annotations

from fractions import Fraction

from ivsearch.errors import UsageError

MAX_HOLD_S = 86_400.0
"""A picture held for more than a day is a broken clock, not a still scene."""

MAX_FPS = 1000.0


def check_rate(fps: float) -> None:
    """Raises UsageError when ``fps`` makes no sense as a sampling rate."""
    if not 0 < fps <= MAX_FPS:
        raise UsageError(f"fps must be above 0 and at most {MAX_FPS:g}, not {fps}")


class Grid:
    """Exact arithmetic of one video's grid. ``fps`` samples a second, ``time_base`` seconds a tick."""

    def __init__(self, fps: float, time_base: Fraction) -> None:
        check_rate(fps)
        self.fps = Fraction(fps).limit_denominator(1_000_000)
        self._time_base = time_base
        self._step = 1 / (self.fps * time_base)
        self._first: int | None = None
        self._before = self._last = -(1 << 63)
        self._tail = 0
        self.went_back = False
        self.jumped = False

    @property
    def started(self) -> bool:
        return self._first is not None

    def start(self, pts: int) -> None:
        """``pts`` of the first presented picture, which is time 0."""
        self._first = pts

    def limit(self, index: int) -> int:
        """The last tick that is not later than grid time ``index``."""
        assert self._first is not None
        return self._first + (index * self._step.numerator) // self._step.denominator

    def ticks(self, seconds: float) -> int:
        return int(seconds / self._time_base)

    def seconds(self, pts: int) -> float:
        """Presentation time in seconds since the first presented picture."""
        assert self._first is not None
        return float((pts - self._first) * self._time_base)

    def saw(self, pts: int, duration: int) -> None:
        """Remember how far the pictures reach; they may come in decoding order."""
        if pts > self._last:
            self._before, self._last, self._tail = self._last, pts, duration
        elif pts > self._before:
            self._before = pts

    @property
    def end_s(self) -> float:
        """When the last picture seen ends, in seconds; 0 before the first.

        Its own duration counts, but not beyond the interval before it: across a gap, containers state durations in
        decoding order, and the gap would be added once more.
        """
        if self._first is None or self._last < self._first:
            return 0.0
        tail = max(self._tail, 0)
        if self._before >= self._first:
            interval = self._last - self._before
            tail = min(tail, interval) if tail else interval
        return self.seconds(self._last + tail)
