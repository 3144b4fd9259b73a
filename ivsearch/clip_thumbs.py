"""Thumbnails of Clips drawn again from the file, when theirs are lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ivsearch.domain import Clip
from ivsearch.errors import MediaError
from ivsearch.media.excerpt import frames_at
from ivsearch.media.thumbnail import thumbnail_jpeg
from ivsearch.pictures import Transparency
from ivsearch.store.thumbs import Thumbs


def draw(thumbs: Thumbs, path: Path, clips: Sequence[Clip], times_s: Sequence[float]) -> None:
    """Of Clips of one Media, ascending in time, from the frame of ``path`` at each one's time.

    A file that cannot be read any more costs the pictures and nothing else.
    """
    try:
        for clip, frame in zip(clips, frames_at(path, times_s, transparency=Transparency.ON_WHITE), strict=False):
            thumbs.save(clip.media_id, clip.start_s, thumbnail_jpeg(frame.pixels))
    except MediaError:
        return
