"""Path → the facts of a Media, without decoding more than its first picture."""

from __future__ import annotations

from pathlib import Path

from av.video.frame import VideoFrame

from ivsearch.domain import Media, MediaId, MediaKind
from ivsearch.errors import MediaError
from ivsearch.media.container import READ_FAULTS
from ivsearch.media.decode import Video
from ivsearch.media.faults import explain
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.still import Still, is_still
from ivsearch.media.straight import all_pictures
from ivsearch.pictures import MAX_PIXELS


def probe(path: Path, *, media_id: MediaId | None = None, max_pixels: int = MAX_PIXELS) -> Media:
    """Kind (by content, not by name), displayed size, codec, rate, duration by the header, time of recording.

    An animation of more than one picture is a video. ``media_id`` spares computing the fingerprint.
    Raises MediaError in plain words.
    """
    try:
        known = media_id or fingerprint(path)
        if is_still(path):
            with Still(path, max_pixels=max_pixels) as still:
                return media_of_still(still, known)
        with Video(path, max_pixels=max_pixels) as video:
            first = next(all_pictures(video), None)
            if first is None:
                raise MediaError("no picture can be decoded: damaged, encrypted, or of an unknown kind; copy it again")
            return media_of_video(video, first.frame, known)
    except READ_FAULTS as error:
        raise MediaError(explain(path, error)) from error


def media_of_video(video: Video, first: VideoFrame, media_id: MediaId) -> Media:
    """Header facts of ``video``; the size is that of its first picture as shown."""
    width, height = video.display_size(first)
    return Media(
        media_id=media_id,
        kind=MediaKind.VIDEO,
        duration_s=video.header_duration_s,
        width=width,
        height=height,
        codec=video.codec,
        size_bytes=video.path.stat().st_size,
        fps=video.fps,
        recorded_at=video.recorded_at,
    )


def media_of_still(still: Still, media_id: MediaId) -> Media:
    """Facts of a picture, or of an animation (whose duration is 0 until it was played once)."""
    width, height = still.size
    return Media(
        media_id=media_id,
        kind=MediaKind.VIDEO if still.is_animated else MediaKind.IMAGE,
        duration_s=0.0,
        width=width,
        height=height,
        codec=still.codec,
        size_bytes=still.path.stat().st_size,
        recorded_at=still.recorded_at,
    )
