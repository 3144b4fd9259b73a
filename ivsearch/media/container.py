"""Opening a video file: container, the stream people look at, and what the header says about it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ivsearch.errors import MediaError
from ivsearch.media.faults import FAULTS, explain

READ_FAULTS = (*FAULTS, av.error.FFmpegError)

MAX_DURATION_S = 10 * 366 * 86400.0
"""A header that claims more than ten years is not believed."""
MAX_FPS = 10_000.0


def open_container(path: Path) -> InputContainer:
    """Raises MediaError in plain words. Playlists cannot make FFmpeg reach for other hosts: local files only."""
    try:
        # Open it ourselves first: FFmpeg answers InvalidData for a missing or forbidden file.
        with path.open("rb"):
            pass
        # Absolute: what stands before a colon, as in 12:30.mp4, would be read as a protocol.
        return av.open(str(path.absolute()), metadata_errors="replace", options={"protocol_whitelist": "file"})
    except READ_FAULTS as error:
        raise MediaError(explain(path, error)) from error


def choose_stream(container: InputContainer) -> VideoStream:
    """The stream FFmpeg calls best, cover art and still thumbnails left out. Raises MediaError when there is none."""
    pictures = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
    moving = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not moving:
        has_cover = bool(container.streams.video)
        raise MediaError("no video stream: holds sound and cover art only" if has_cover else _nothing(container))
    moving = [stream for stream in moving if stream.codec_context is not None]
    if not moving:
        raise MediaError("its video codec is not known to this FFmpeg; convert it to H.264, VP9 or AV1")
    best = container.streams.best("video")
    for stream in moving:
        if stream is best or (best is not None and stream.index == best.index):
            return stream
    return max(moving, key=lambda stream: stream.codec_context.width * stream.codec_context.height)


def _nothing(container: InputContainer) -> str:
    return "no video stream: holds sound only" if container.streams.audio else "no video stream: holds no pictures"


def header_duration_s(container: InputContainer, stream: VideoStream) -> float:
    """What the header says, in seconds; 0 when it says nothing or something absurd."""
    candidates: list[float] = []
    if stream.duration is not None and stream.time_base:
        candidates.append(float(stream.duration * stream.time_base))
    if (tagged := _tagged_duration_s(stream.metadata.get("DURATION", ""))) is not None:
        candidates.append(tagged)
    if container.duration is not None:
        candidates.append(container.duration / av.time_base)
    return next((value for value in candidates if math.isfinite(value) and 0 < value <= MAX_DURATION_S), 0.0)


def _tagged_duration_s(text: str) -> float | None:
    """Matroska's DURATION tag, ``HH:MM:SS.nnnnnnnnn``."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Average frames per second, or None when the header gives none or nonsense."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= MAX_FPS:
            return Fraction(rate)
    return None


def codec_name(stream: VideoStream) -> str:
    """The codec, not the library that decodes it: ``av1`` for ``libdav1d``."""
    return stream.codec_context.codec.canonical_name


def recorded_at(container: InputContainer, stream: VideoStream) -> datetime | None:
    """When the camera says it was recorded, in UTC. QuickTime's own key knows the time zone and is asked first."""
    keys = ("com.apple.quicktime.creationdate", "creation_time", "date", "DATE_RECORDED")
    for key in keys:
        for tags in (container.metadata, stream.metadata):
            if (moment := parse_moment(tags.get(key, ""))) is not None:
                return moment
    return None


def parse_moment(text: str) -> datetime | None:
    """ISO 8601 → UTC; a time without zone counts as UTC. A bare year and the epochs 1904 and 1970 count as unset."""
    text = text.strip()
    if len(text) < 10:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    epoch = moment.year < 1905 or moment.date().isoformat() == "1970-01-01"
    return None if epoch else moment
