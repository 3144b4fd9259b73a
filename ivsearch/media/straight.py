"""Sampling without a plan: every picture is decoded, in order. Slow, and right for any file that decodes at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from ivsearch.media.decode import Picture, Video
from ivsearch.media.gops import Times
from ivsearch.media.grid import MAX_HOLD_S

MAX_HEADLESS_PACKETS = 600
"""Packets passed over while waiting for a key frame; a stream without any (intra refresh) is then decoded as it is."""

MIN_JUMP_BACK_S = 1.0
"""Smaller steps back are the seams of joined recordings, which overlap by a few pictures."""


class Timed(Protocol):
    @property
    def pts(self) -> int: ...
    @property
    def duration(self) -> int: ...


class Clock(Times, Protocol):
    """Wanted times that learn what is wrong with the file's clock."""

    went_back: bool
    jumped: bool


T = TypeVar("T", bound=Timed)


def held(pictures: Iterable[T], grid: Clock) -> Iterator[tuple[int, T]]:
    """(sample index, picture): at every grid time the last picture that had come.

    Pictures that do not move the clock on are left out; a jump of more than a day ends the video.
    ``grid`` learns of both.
    """
    index = 0
    shown: T | None = None
    for picture in pictures:
        if shown is None:
            grid.start(picture.pts)
        elif picture.pts <= shown.pts:
            grid.went_back = grid.went_back or shown.pts - picture.pts > grid.ticks(MIN_JUMP_BACK_S)
            continue
        elif picture.pts - shown.pts > grid.ticks(MAX_HOLD_S):
            grid.jumped = True
            break
        while shown is not None and grid.limit(index) < picture.pts:
            yield index, shown
            index += 1
        shown = picture
        grid.saw(picture.pts, picture.duration)
    while shown is not None and grid.limit(index) <= shown.pts:
        yield index, shown
        index += 1


def all_pictures(video: Video) -> Iterator[Picture]:
    """Every picture in presentation order, from the first clean one on."""
    clean = False
    for picture in _fed(video):
        clean = clean or not picture.frame.is_corrupt
        if clean:
            yield picture


def _fed(video: Video) -> Iterator[Picture]:
    decoder = video.decoder()
    headless = []
    waiting = True
    for packet in video.packets():
        if waiting:
            headless.append(packet)
            if packet.is_keyframe:
                headless = [packet]
            elif len(headless) < MAX_HEADLESS_PACKETS:
                continue
            waiting = False
            for early in headless:
                yield from decoder.feed(early)
            continue
        yield from decoder.feed(packet)
    if waiting:
        for early in headless:
            yield from decoder.feed(early)
    yield from decoder.drain()
