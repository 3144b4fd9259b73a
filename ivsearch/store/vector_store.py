"""The VectorStore: frame vectors on disk, in append-only segments with checksums. indexes/README.md has the layout.

Append, fsync, and only then commit the returned Record to the Catalog: bytes no Record points at are dead and
harmless, so a crash in the middle of a write costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from ivsearch.domain import FrameVectors, MediaId, Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Record
from ivsearch.store.files import sync_folder

MAGIC = b"IVR1"
HEAD = struct.Struct("<4sIQ")  # magic, bytes of the JSON header, bytes of the payload
DIGEST_BYTES = 16
SEGMENT_BYTES = 1 << 30
CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A record met while walking a segment."""

    media_id: MediaId
    record: Record


class VectorStore:
    """The vectors of one Space, in ``folder``/``space.key``. Reading is thread-safe."""

    def __init__(self, folder: Path, space: Space) -> None:
        self.space = space
        self.folder = folder / space.key
        self._cache: OrderedDict[Record, FrameVectors] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    def append(self, batch: Sequence[tuple[MediaId, FrameVectors]]) -> list[Record]:
        """Writes the vectors of several Media and fsyncs. Returns where each is. Raises OSError (disk full)."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            sync_folder(self.folder.parent)
            sync_folder(self.folder.parent.parent)
        records = []
        segment = self._open_segment()
        with (self.folder / segment).open("ab") as file:
            for media_id, frames in batch:
                offset, blob = file.tell(), _pack(media_id, frames, self.space)
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
        frames = self._read(record)
        with self._lock:
            self._cache[record] = frames
            self._cached_bytes += record.size_bytes
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                old, _ = self._cache.popitem(last=False)
                self._cached_bytes -= old.size_bytes
        return frames

    def _read(self, record: Record) -> FrameVectors:
        path = self.folder / record.segment
        try:
            with path.open("rb") as file:
                file.seek(record.offset_bytes)
                blob = file.read(record.size_bytes)
        except OSError as error:
            raise LibraryDamaged(f"cannot read vectors: {error}; run `ivsearch verify`") from error
        try:
            return _unpack(blob, self.space)[1]
        except ValueError as error:
            raise LibraryDamaged(
                f"{path} at byte {record.offset_bytes}: {error}; run `ivsearch repair`, then `ivsearch index` again"
            ) from error

    def segments(self) -> list[str]:
        """Names of the segment files, oldest first."""
        return sorted(path.name for path in self.folder.glob("*.seg"))

    def walk(self, segment: str) -> Iterator[Found]:
        """Every whole record of a segment, in order, by what the segment itself says; torn bytes are stepped over."""
        blob = (self.folder / segment).read_bytes()
        at = blob.find(MAGIC)
        while at >= 0:
            size = _size_at(blob, at)
            try:
                media_id, _ = _unpack(blob[at : at + size], self.space)
            except ValueError:
                at = blob.find(MAGIC, at + 1)
                continue
            yield Found(media_id, Record(segment, at, size))
            at = blob.find(MAGIC, at + size)

    def _open_segment(self) -> str:
        """The newest segment if it has room, else the name of the next."""
        segments = self.segments()
        if segments and (self.folder / segments[-1]).stat().st_size < SEGMENT_BYTES:
            return segments[-1]
        return f"{int(segments[-1].removesuffix('.seg')) + 1 if segments else 1:06d}.seg"


def _pack(media_id: MediaId, frames: FrameVectors, space: Space) -> bytes:
    header = json.dumps(
        {
            "media_id": media_id,
            "space": space.key,
            "samples": len(frames.sample_pts_s),
            "frames": len(frames.kept),
            "dim": space.dim,
        }
    ).encode()
    payload = (
        frames.sample_pts_s.astype("<f8").tobytes()
        + frames.kept.astype("<i4").tobytes()
        + frames.vectors.astype("<f2").tobytes()
    )
    body = HEAD.pack(MAGIC, len(header), len(payload)) + header + payload
    return body + hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()


def _size_at(blob: bytes, at: int) -> int:
    if at + HEAD.size > len(blob):
        return 0
    _, header_bytes, payload_bytes = HEAD.unpack_from(blob, at)
    return int(HEAD.size + header_bytes + payload_bytes + DIGEST_BYTES)


def _unpack(blob: bytes, space: Space) -> tuple[MediaId, FrameVectors]:
    """Raises ValueError, saying what is wrong."""
    if len(blob) < HEAD.size + DIGEST_BYTES or len(blob) != _size_at(blob, 0):
        raise ValueError("the record is cut short")
    body, digest = blob[:-DIGEST_BYTES], blob[-DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise ValueError("the record does not fit its checksum")
    _, header_bytes, _ = HEAD.unpack_from(body)
    header = json.loads(body[HEAD.size : HEAD.size + header_bytes])
    if header["space"] != space.key:
        raise ValueError(f"the record belongs to the space {header['space']}, not {space.key}")
    samples, frames = header["samples"], header["frames"]
    at = HEAD.size + header_bytes
    sample_pts_s = np.frombuffer(body, "<f8", samples, at)
    kept = np.frombuffer(body, "<i4", frames, at + 8 * samples)
    vectors = np.frombuffer(body, "<f2", frames * space.dim, at + 8 * samples + 4 * frames)
    return header["media_id"], FrameVectors(sample_pts_s, kept, vectors.reshape(frames, space.dim))
