"""Small JPEGs of found Clips. Handy, never needed: a lost one costs nothing but a picture."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ivsearch.domain import MediaId
from ivsearch.store.files import bytes_below

# Behind the end of the JPEG, where nobody who shows it looks: these bytes and BLAKE2b of the JPEG.
SEAL = b"IVT1"
DIGEST_BYTES = 16
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


# The room of so many Media's thumbnails is measured; that of more is estimated from about as many.
MEASURED_MEDIA = 20_000


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

    def has_all(self, media_id: MediaId, starts_s: Iterable[float]) -> bool:
        """Whether there is one of each Clip that starts there."""
        return all(self.path(media_id, start_s).exists() for start_s in starts_s)

    def save(self, media_id: MediaId, start_s: float, jpeg: bytes) -> None:
        """Not fsynced, which takes 3 ms each: one that a power cut left empty is found by its seal, and drawn again."""
        path = self.path(media_id, start_s)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(jpeg + SEAL + _digest(jpeg))
        temporary.replace(path)

    def damaged(self, media_id: MediaId) -> Iterator[Path]:
        """Thumbnails of this Media that are not as they were written."""
        for path in sorted(self._of(media_id).glob("*.jpg")):
            with suppress(FileNotFoundError):  # forgotten meanwhile
                if not _is_sound(path.read_bytes()):
                    yield path

    def forget(self, media_ids: Iterable[MediaId]) -> None:
        """Deletes the thumbnails of these Media."""
        for media_id in media_ids:
            shutil.rmtree(self._of(media_id), ignore_errors=True)

    def media(self) -> set[MediaId]:
        """Those that there are any of."""
        return {folder.name for folder in self.folder.glob("??/*")}

    def size_bytes(self, n_media: int) -> int:
        """The room they take, of a library of ``n_media``. Above MEASURED_MEDIA an estimate, within a few per cent,
        as ids spread evenly over the folders: to look at a million files takes seconds."""
        folders = sorted(self.folder.glob("??"))
        looked_at = folders[:: max(1, n_media // MEASURED_MEDIA)]
        return sum(map(bytes_below, looked_at)) * len(folders) // max(1, len(looked_at))

    def keep_starts(self, media_id: MediaId, starts_s: Iterable[float]) -> None:
        """Deletes those thumbnails of a Media at which no Clip starts any more."""
        wanted = {self.path(media_id, start_s) for start_s in starts_s}
        for path in self._of(media_id).glob("*.jpg"):
            if path not in wanted:
                path.unlink(missing_ok=True)

    def _of(self, media_id: MediaId) -> Path:
        return self.folder / media_id[:2] / media_id


def _is_sound(content: bytes) -> bool:
    tail = len(SEAL) + DIGEST_BYTES
    jpeg, seal, digest = content[:-tail], content[-tail:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if seal == SEAL:
        return digest == _digest(jpeg)
    # Versions that sealed nothing wrote the bare JPEG.
    return content.startswith(JPEG_START) and content.endswith(JPEG_END)


def _digest(jpeg: bytes) -> bytes:
    return hashlib.blake2b(jpeg, digest_size=DIGEST_BYTES).digest()
