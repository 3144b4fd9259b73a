"""A record as bytes: the FrameVectors of one Media, and enough about it to make its rows again.

indexes/README.md has the layout.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from ivsearch.domain import FrameVectors, Media, MediaId, MediaKind, Space

MAGIC = b"IVR1"
HEAD = struct.Struct("<4sIQ")  # magic, bytes of the JSON header, bytes of the payload
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Facts:
    """What the Catalog says of a Media and how it was sampled: with it, its rows can be made again from the record."""

    media: Media
    sampling: str


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What a record holds. ``facts`` is None in records of versions that did not write them."""

    media_id: MediaId
    frames: FrameVectors
    facts: Facts | None


@dataclass(frozen=True, slots=True)
class Place:
    """``[start, stop)`` of bytes that look like a record."""

    start: int
    stop: int


def pack(media_id: MediaId, frames: FrameVectors, space: Space, facts: Facts | None) -> bytes:
    header: dict[str, Any] = {
        "media_id": media_id,
        "space": space.key,
        "samples": len(frames.sample_pts_s),
        "frames": len(frames.kept),
        "dim": space.dim,
    }
    if facts:
        media = facts.media
        recorded_at = media.recorded_at.isoformat() if media.recorded_at else None
        header |= {"sampling": facts.sampling, "media": {**asdict(media), "recorded_at": recorded_at}}
    head = json.dumps(header).encode()
    payload = (
        frames.sample_pts_s.astype("<f8").tobytes()
        + frames.kept.astype("<i4").tobytes()
        + frames.vectors.astype("<f2").tobytes()
    )
    body = HEAD.pack(MAGIC, len(head), len(payload)) + head + payload
    return body + hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()


def unpack(blob: bytes, space: Space) -> Contents:
    """Raises ValueError, saying what is wrong."""
    if len(blob) < HEAD.size + DIGEST_BYTES or len(blob) != _size_at(blob, 0):
        raise ValueError("the record is cut short")
    if not _is_sound(blob):
        raise ValueError("the record does not fit its checksum")
    header = header_of(blob)
    if header["space"] != space.key:
        raise ValueError(f"the record belongs to the space {header['space']}, not {space.key}")
    samples, frames = header["samples"], header["frames"]
    at = HEAD.size + HEAD.unpack_from(blob)[1]
    sample_pts_s = np.frombuffer(blob, "<f8", samples, at)
    kept = np.frombuffer(blob, "<i4", frames, at + 8 * samples)
    vectors = np.frombuffer(blob, "<f2", frames * space.dim, at + 8 * samples + 4 * frames)
    held = FrameVectors(sample_pts_s, kept, vectors.reshape(frames, space.dim))
    return Contents(header["media_id"], held, _facts(header))


def header_of(blob: Any, start: int = 0) -> dict[str, Any]:
    """The header of the record that begins there. Raises ValueError when it is none."""
    _, header_bytes, _ = HEAD.unpack_from(blob, start)
    header = json.loads(blob[start + HEAD.size : start + HEAD.size + header_bytes])
    if not isinstance(header, dict) or "media_id" not in header:
        raise ValueError("the record has no header")
    return header


def places(blob: Any) -> list[Place]:
    """Where records seem to be in ``blob`` (bytes, or a file mapped into memory), in order; torn bytes are stepped
    over.

    What is followed by another record or by the end is taken for one without looking further; a torn one, which
    the next was written behind, is told by its checksum.
    """
    found = []
    start = blob.find(MAGIC)
    while start >= 0:
        stop = start + _size_at(blob, start)
        followed = stop == len(blob) or blob[stop : stop + len(MAGIC)] == MAGIC
        if start < stop <= len(blob) and (followed or _is_sound(blob[start:stop])):
            found.append(Place(start, stop))
            start = blob.find(MAGIC, stop)
        else:
            start = blob.find(MAGIC, start + 1)
    return found


def _is_sound(blob: bytes) -> bool:
    return hashlib.blake2b(blob[:-DIGEST_BYTES], digest_size=DIGEST_BYTES).digest() == blob[-DIGEST_BYTES:]


def _size_at(blob: Any, at: int) -> int:
    """Bytes of the record that begins there, by its own word; 0 when not even that is there."""
    if at + HEAD.size > len(blob):
        return 0
    _, header_bytes, payload_bytes = HEAD.unpack_from(blob, at)
    return int(HEAD.size + header_bytes + payload_bytes + DIGEST_BYTES)


def _facts(header: dict[str, Any]) -> Facts | None:
    if "media" not in header:
        return None
    row = dict(header["media"])
    row["kind"] = MediaKind(row["kind"])
    row["warnings"] = tuple(row["warnings"])
    row["recorded_at"] = datetime.fromisoformat(row["recorded_at"]) if row["recorded_at"] else None
    return Facts(Media(**row), header["sampling"])
