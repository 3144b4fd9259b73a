"""The VectorStore: frame vectors on disk, in append-only segments with checksums. indexes/README.md has the layout.

Append, fsync, and only then commit the returned Record to the Catalog: bytes no Record points at are dead and
harmless, so a crash in the middle of a write costs nothing.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ivsearch.domain import FrameVectors, MediaId, Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Record
from ivsearch.store.files import replace_file, sealed, sync_folder, unsealed
from ivsearch.store.record_bytes import Contents, Facts, header_of, pack, places, unpack

SEGMENT_BYTES = 1 << 30
CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A record met while walking a segment. ``sampling`` is empty in records of versions that did not write it."""

    media_id: MediaId
    record: Record
    sampling: str = ""


class VectorStore:
    """The vectors of one Space, in ``folder``/``space.key``. Reading is thread-safe."""

    def __init__(self, folder: Path, space: Space) -> None:
        self.space = space
        self.folder = folder / space.key
        self._cache: OrderedDict[Record, FrameVectors] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    def append(self, batch: Sequence[tuple[MediaId, FrameVectors]], facts: Sequence[Facts | None] = ()) -> list[Record]:
        """Writes the vectors of several Media and fsyncs. Returns where each is. Raises OSError (disk full).

        ``facts``, one a Media: what is needed to make its rows again should the Catalog be lost. Without them its
        vectors are only as good as their rows.
        """
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            sync_folder(self.folder.parent)
            sync_folder(self.folder.parent.parent)
        records = []
        segment = self._open_segment()
        with (self.folder / segment).open("ab") as file:
            for (media_id, frames), of_media in zip(batch, facts or [None] * len(batch), strict=True):
                offset, blob = file.tell(), pack(media_id, frames, self.space, of_media)
                file.write(blob)
                records.append(Record(segment, offset, len(blob)))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.folder)
        return records

    def read(self, record: Record) -> FrameVectors:
        """Raises LibraryDamaged when the bytes are gone or do not fit their checksum."""
        with self._lock:
            if record in self._cache:
                self._cache.move_to_end(record)
                return self._cache[record]
        frames = self.contents(record).frames
        with self._lock:
            self._cache[record] = frames
            self._cached_bytes += record.size_bytes
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                old, _ = self._cache.popitem(last=False)
                self._cached_bytes -= old.size_bytes
        return frames

    def contents(self, record: Record) -> Contents:
        """The whole record, read from disk. Raises LibraryDamaged as ``read`` does."""
        path = self.folder / record.segment
        try:
            try:
                blob = self._bytes_of(record)
            except FileNotFoundError:
                place = self.place_of(record)
                if place is None:
                    raise
                blob = self._bytes_of(place)
        except OSError as error:
            raise LibraryDamaged(f"cannot read vectors: {error}; run `ivsearch verify`") from error
        try:
            return unpack(blob, self.space)
        except ValueError as error:
            raise LibraryDamaged(
                f"{path} at byte {record.offset_bytes}: {error}; run `ivsearch repair`, then `ivsearch index` again"
            ) from error

    def place_of(self, record: Record) -> Record | None:
        """Where it is now, should it have been compacted since its row was read; None where it is no more."""
        path = self.folder / record.segment
        if path.exists():
            return record
        moved = read_moved(path).get(record.offset_bytes)
        return Record(*moved, record.size_bytes) if moved and (self.folder / moved[0]).exists() else None

    def _bytes_of(self, record: Record) -> bytes:
        with (self.folder / record.segment).open("rb") as file:
            file.seek(record.offset_bytes)
            return file.read(record.size_bytes)

    def segments(self) -> list[str]:
        """Names of the segment files, oldest first."""
        return sorted(path.name for path in self.folder.glob("*.seg"))

    def walk(self, segment: str) -> Iterator[Found]:
        """Every sound record of a segment, in order, by what the segment itself says; torn bytes are stepped over."""
        for found in self.glance(segment):
            try:
                self.contents(found.record)
            except LibraryDamaged:
                continue
            yield found

    def glance(self, segment: str) -> Iterator[Found]:
        """As ``walk``, by the headers alone: quick, but whether a record is sound shows when it is read."""
        return glance(self.folder / segment)

    def _open_segment(self) -> str:
        """The newest segment if it has room, else the name of the next."""
        segments = self.segments()
        if segments and (self.folder / segments[-1]).stat().st_size < SEGMENT_BYTES:
            return segments[-1]
        return next_segment(segments)


def glance(path: Path) -> Iterator[Found]:
    """What a segment file seems to hold, by the headers alone; nothing where it has just been compacted."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        if not os.fstat(file.fileno()).st_size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
            for place in places(blob):
                try:
                    header = header_of(blob, place.start)
                except ValueError:
                    continue
                record = Record(path.name, place.start, place.stop - place.start)
                yield Found(header["media_id"], record, header.get("sampling", ""))


def next_segment(segments: Sequence[str]) -> str:
    """The name after those of ``segments``, oldest first."""
    return f"{int(segments[-1].removesuffix('.seg')) + 1 if segments else 1:06d}.seg"


def write_moved(segment: Path, moved: Mapping[Record, Record]) -> None:
    """Notes where the records of a segment file are that is about to go."""
    places = {str(old.offset_bytes): [new.segment, new.offset_bytes] for old, new in moved.items()}
    replace_file(segment.with_suffix(".moved"), sealed({"moved": places}))


def read_moved(segment: Path) -> dict[int, tuple[str, int]]:
    """Offset → the segment and offset that the record there was moved to; empty when none was."""
    try:
        table = unsealed(segment.with_suffix(".moved").read_bytes())["moved"]
        return {int(offset): (str(name), int(at)) for offset, (name, at) in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
