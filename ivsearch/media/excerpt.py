"""Path → the Frames shown at given times, without decoding the file from its start where it can be helped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TypeVar

from ivsearch.domain import Frame
from ivsearch.errors import MediaError
from ivsearch.media.container import READ_FAULTS
from ivsearch.media.decode import Picture, Video
from ivsearch.media.faults import explain
from ivsearch.media.gops import can_plan
from ivsearch.media.still import ANIMATION_TIME_BASE, Still, is_still
from ivsearch.media.straight import Timed, all_pictures
from ivsearch.pictures import MAX_PIXELS, Transparency

T = TypeVar("T", bound=Timed)


def excerpt(
    path: Path, times_s: Sequence[float], *, transparency: Transparency, max_pixels: int = MAX_PIXELS
) -> list[Frame]:
    """The Frames shown at ``times_s`` (ascending, counted from the first presented picture), each of them once.

    A time beyond the end gives the last Frame; a photo is one Frame at 0. Raises MediaError in plain words.
    """
    return list(frames_at(path, times_s, transparency=transparency, max_pixels=max_pixels))


def frames_at(
    path: Path, times_s: Sequence[float], *, transparency: Transparency, max_pixels: int = MAX_PIXELS
) -> Iterator[Frame]:
    """As ``excerpt``, one by one as they are decoded: of large pictures all together would fill the memory."""
    try:
        read = _of_still if is_still(path) else _of_video
        yield from read(path, times_s, transparency, max_pixels)
    except READ_FAULTS as error:
        raise MediaError(explain(path, error)) from error


def _of_still(path: Path, times_s: Sequence[float], transparency: Transparency, max_pixels: int) -> Iterator[Frame]:
    with Still(path, max_pixels=max_pixels, transparency=transparency) as still:
        if not still.is_animated:
            yield Frame(0.0, still.pixels())
            return
        wanted = [_ticks(time_s, ANIMATION_TIME_BASE) for time_s in times_s]
        for picture in _shown_at(still.pictures(), wanted):
            yield Frame(float(picture.pts * ANIMATION_TIME_BASE), picture.pixels)


def _of_video(path: Path, times_s: Sequence[float], transparency: Transparency, max_pixels: int) -> Iterator[Frame]:
    with Video(path, max_pixels=max_pixels, transparency=transparency) as video:
        first = next(all_pictures(video), None)
        if first is None:
            raise MediaError("no picture can be decoded: damaged, encrypted, or of an unknown kind; copy it again")
        wanted = [first.pts + _ticks(time_s, video.time_base) for time_s in times_s]
        if can_seek(video) and wanted[0] > first.pts and (pictures := sought(video, wanted[0])):
            yield from _frames(video, first.pts, _shown_at(pictures, wanted))
            return
    with Video(path, max_pixels=max_pixels, transparency=transparency) as video:
        yield from _frames(video, first.pts, _shown_at(all_pictures(video), wanted))


def can_seek(video: Video) -> bool:
    """AVI has no presentation times. Where pictures are reordered they are counted from the first packet read on, and
    behind a seek that is not the first of the file."""
    return can_plan(video) and not (video.format == "avi" and video.stream.codec_context.has_b_frames)


def sought(video: Video, tick: int) -> Iterator[Picture] | None:
    """Pictures from the key frame before the tick on; None when seeking did not lead there."""
    video.container.seek(tick, stream=video.stream)
    pictures = all_pictures(video)
    start = next(pictures, None)
    return None if start is None or start.pts > tick else chain([start], pictures)


def _frames(video: Video, first: int, pictures: Iterable[Picture]) -> Iterator[Frame]:
    for picture in pictures:
        yield Frame(float((picture.pts - first) * video.time_base), video.pixels(picture.frame))


def _shown_at(pictures: Iterable[T], wanted: Sequence[int]) -> Iterator[T]:
    """At every tick of ``wanted`` the last picture that had come, each picture once."""
    left = list(wanted[::-1])
    shown: T | None = None
    given: T | None = None
    for picture in pictures:
        if shown is not None and picture.pts <= shown.pts:
            continue
        while shown is not None and left and left[-1] < picture.pts:
            left.pop()
            if given is not shown:
                given = shown
                yield shown
        if not left:
            return
        shown = picture
    if shown is not None and left and given is not shown:
        yield shown


def _ticks(time_s: float, time_base: Fraction) -> int:
    # A time read off a Frame is a rounded one: half a tick keeps it on its own picture.
    return int(Fraction(time_s) / time_base + Fraction(1, 2))
