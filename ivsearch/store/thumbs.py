"""Small JPEGs of found Clips. Handy, never needed: a lost one costs nothing but a picture."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ivsearch.domain import MediaId


class Thumbs:
    """In ``folder``: one folder a Media (fanned out by the first two digits of its id), one JPEG a Clip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, media_id: MediaId, start_s: float) -> Path:
        """Where the thumbnail of the Clip that starts at ``start_s`` is, or would be."""
        return self._of(media_id) / f"{round(start_s * 1000):09d}.jpg"

    def has(self, media_id: MediaId) -> bool:
        """Whether there is any of this Media."""
        return self._of(media_id).is_dir()

    def save(self, media_id: MediaId, start_s: float, jpeg: bytes) -> None:
        path = self.path(media_id, start_s)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)

    def keep_only(self, media_ids: Iterable[MediaId]) -> None:
        """Deletes the thumbnails of every other Media."""
        wanted = set(media_ids)
        for folder in self.folder.glob("??/*"):
            if folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def _of(self, media_id: MediaId) -> Path:
        return self.folder / media_id[:2] / media_id
