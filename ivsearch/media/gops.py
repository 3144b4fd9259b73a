"""Which packets must be decoded at all: for each grid time the picture shown then, and the key frame to start from.

A group of pictures (GOP) that holds no wanted picture is never decoded. The plan looks only at packet times: a picture
with presentation time ≤ t cannot arrive once a packet with decoding time > t has (dts ≤ pts), so t is settled then.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from av.packet import Packet

from ivsearch.media.decode import Decoder, Picture, Video
from ivsearch.media.grid import MAX_HOLD_S

PLANNED_FORMATS = ("mov,", "matroska,", "avi")
"""Containers whose key-frame flags and times can be trusted. MPEG-TS and the rest are decoded from start to end."""

SKIPPING_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video")
"""Decoders that know which pictures no other one needs, and can leave them out."""

MAX_WAITING_BYTES = 128 << 20


class PlanBroken(Exception):
    """The file is not what the plan takes for granted; decode it from start to end instead."""


@dataclass(frozen=True, slots=True, order=True)
class _Shown:
    """A packet that shows a picture at ``pts``. ``number`` counts packets; decoding must start at packet ``start``."""

    pts: int
    number: int
    start: int


@dataclass(slots=True)
class _Target:
    """A wanted picture and the samples it stands for."""

    pts: int
    first: int
    count: int


class Times(Protocol):
    """The wanted times of one video, such as those of a Grid; number 0 is the first presented picture."""

    @property
    def fps(self) -> Fraction: ...
    @property
    def started(self) -> bool: ...
    @property
    def end_s(self) -> float: ...
    def start(self, pts: int) -> None: ...
    def limit(self, index: int) -> int: ...
    def ticks(self, seconds: float) -> int: ...
    def saw(self, pts: int, duration: int) -> None: ...


def can_plan(video: Video) -> bool:
    return video.format.startswith(PLANNED_FORMATS)


def planned(video: Video, grid: Times) -> Iterator[tuple[int, Picture]]:
    """(sample index, picture) in order. Raises PlanBroken, with all earlier samples given, when the file is odd."""
    return _Plan(video, grid).run()


class _Plan:
    def __init__(self, video: Video, grid: Times) -> None:
        self._video = video
        self._grid = grid
        self._decoder: Decoder = video.decoder()
        self._waiting: deque[tuple[int, Packet]] = deque()
        self._waiting_bytes = 0
        self._shown: list[_Shown] = []
        self._targets: deque[_Target] = deque()
        self._fed = -1
        self._keys: list[tuple[int, int]] = []
        self._latest: Picture | None = None
        self._next = 0
        self._done: list[tuple[int, Picture]] = []
        many = video.rate is not None and video.rate > 4 * grid.fps
        self._skips = many and video.codec in SKIPPING_CODECS

    def run(self) -> Iterator[tuple[int, Picture]]:
        last_dts: int | None = None
        for number, packet in enumerate(self._video.packets()):
            if packet.pts is None or (number == 0 and not packet.is_keyframe):
                raise PlanBroken
            if packet.pts != packet.dts and self._video.format == "avi":
                raise PlanBroken  # AVI has no presentation times: reordered ones are guesses
            if packet.dts is not None:
                if last_dts is not None and packet.dts < last_dts:
                    raise PlanBroken
                last_dts = packet.dts
            self._see(number, packet)
            if not self._grid.started:
                self._open(number, packet)
            else:
                self._waiting.append((number, packet))
                self._waiting_bytes += packet.size
            if self._grid.started and packet.dts is not None:
                self._settle(packet.dts)
                self._forget()
            yield from self._take()
        if self._video.truncated or self._video.stops_early(self._grid.end_s):
            raise PlanBroken  # which of the last pictures can be decoded, only decoding tells
        if not self._grid.started:
            self._first(self._decoder.drain())
        if self._grid.started and self._shown:
            self._settle(self._shown[-1].pts + 1)
        self._finish()
        yield from self._take()

    def _see(self, number: int, packet: Packet) -> None:
        pts = packet.pts
        assert pts is not None
        if packet.is_keyframe:
            self._keys = [*self._keys[-1:], (pts, number)]
        if packet.is_discard:
            return
        # Pictures shown before their key frame but stored after it lean on the GOP before (open GOP).
        start = self._keys[-1][1] if pts >= self._keys[-1][0] else self._keys[0][1]
        insort(self._shown, _Shown(pts, number, start))
        self._grid.saw(pts, packet.duration or 0)

    def _open(self, number: int, packet: Packet) -> None:
        """Decode from the start until the first picture comes out: its time is time 0."""
        pictures = self._decoder.feed(packet)
        self._fed = number
        if self._decoder.errors or len(pictures) > 1:
            raise PlanBroken
        self._first(pictures)

    def _first(self, pictures: list[Picture]) -> None:
        if not pictures:
            return
        self._grid.start(pictures[0].pts)
        self._targets.append(_Target(pictures[0].pts, 0, 1))
        self._next = 1
        self._out(pictures)

    def _settle(self, before: int) -> None:
        """Find the picture of every grid time earlier than ``before``; no new packet can change it any more."""
        while self._grid.limit(self._next) < before:
            limit = self._grid.limit(self._next)
            position = bisect_right(self._shown, limit, key=lambda shown: shown.pts) - 1
            if limit > self._shown[-1].pts:
                return  # only pictures that an edit list hides have come since
            if position < 0:
                raise PlanBroken
            if self._shown[position].pts + self._grid.ticks(MAX_HOLD_S) < limit:
                raise PlanBroken
            self._want(self._shown[position])
            self._next += 1

    def _want(self, shown: _Shown) -> None:
        if self._targets and self._targets[-1].pts == shown.pts:
            self._targets[-1].count += 1
            return
        if self._latest is not None and self._latest.pts == shown.pts and not self._targets:
            self._done.append((self._next, self._latest))
            return
        if shown.start > self._fed + 1:
            self._finish()
            self._decoder.restart()
            self._latest = None
            while self._waiting and self._waiting[0][0] < shown.start:
                self._drop()
            if not self._waiting or self._waiting[0][0] != shown.start:
                raise PlanBroken
        self._targets.append(_Target(shown.pts, self._next, 1))
        while self._fed < shown.number:
            self._feed(*self._drop(), wanted=shown.pts)

    def _feed(self, number: int, packet: Packet, *, wanted: int) -> None:
        self._fed = number
        if self._skips:
            self._decoder.skip("DEFAULT" if packet.pts == wanted else "NONREF")
        self._out(self._decoder.feed(packet))
        if self._decoder.errors:
            raise PlanBroken

    def _out(self, pictures: list[Picture]) -> None:
        for picture in pictures:
            while self._targets and picture.pts > self._targets[0].pts:
                self._hand_over()
            self._latest = picture
            if self._targets and picture.pts == self._targets[0].pts:
                self._hand_over()

    def _hand_over(self) -> None:
        """The latest picture is the one shown at the first target's time."""
        target = self._targets[0]
        latest = self._latest
        if latest is None or latest.pts > target.pts or latest.frame.is_corrupt:
            raise PlanBroken
        if self._skips and latest.pts != target.pts:
            raise PlanBroken
        self._targets.popleft()
        self._done.extend((target.first + step, latest) for step in range(target.count))

    def _finish(self) -> None:
        """Get the pictures out that the decoder still holds back."""
        if self._targets:
            self._out(self._decoder.drain())
            if self._decoder.errors:
                raise PlanBroken
        while self._targets:
            self._hand_over()

    def _drop(self) -> tuple[int, Packet]:
        number, packet = self._waiting.popleft()
        self._waiting_bytes -= packet.size
        return number, packet

    def _forget(self) -> None:
        """Let go of packets that no settled or future time can need."""
        limit = self._grid.limit(self._next)
        current = bisect_right(self._shown, limit, key=lambda shown: shown.pts) - 1
        if current > 0:
            del self._shown[:current]
        if not self._shown:
            return
        while self._waiting and self._waiting[0][0] < self._shown[0].start:
            self._drop()
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise PlanBroken

    def _take(self) -> list[tuple[int, Picture]]:
        done, self._done = self._done, []
        return done
