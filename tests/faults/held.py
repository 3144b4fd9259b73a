"""What a library holds, read by SQL and by the layout in indexes/README.md: not by the code that is under test."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

QUERIES = {
    "media": "select media_id, kind, duration_s, width, height, codec, size_bytes, fps, recorded_at_s, warnings"
    " from media",
    "path": "select path, media_id, size_bytes, mtime_ns from path",
    "encoding": "select media_id, space_key, sampling, n_samples, n_frames, n_clips from encoding",
    "clip": "select space_key, media_id, start_s, end_s, first_frame, n_frames from clip",
}


@dataclass(frozen=True, eq=False)
class Held:
    """All rows but for ids and places, and the frame vectors of each Media (float16) in each Space."""

    rows: Counter[tuple]
    vectors: dict[tuple[str, str], NDArray[np.float16]]

    def missing_in(self, now: Held) -> int:
        """Rows of this that are not there any more, or whose vectors are others."""
        gone = sum((self.rows - now.rows).values())
        return gone + sum(
            key not in now.vectors or not _alike(vectors, now.vectors[key]) for key, vectors in self.vectors.items()
        )


def held_by(folder: Path) -> Held:
    rows: Counter[tuple] = Counter()
    vectors = {}
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        for table, query in QUERIES.items():
            rows.update((table, *row) for row in connection.execute(query))
        places = connection.execute("select media_id, space_key, segment, offset_bytes from encoding").fetchall()
    for media_id, space, segment, offset in places:
        vectors[media_id, space] = vectors_at(folder / "vectors" / space / segment, offset)
    return Held(rows, vectors)


def vectors_at(segment: Path, offset: int) -> NDArray[np.float16]:
    """The vectors of the record that begins there."""
    with segment.open("rb") as file:
        file.seek(offset)
        magic, head_bytes, payload_bytes = struct.unpack("<4sIQ", file.read(16))
        assert magic == b"IVR1"
        header = json.loads(file.read(head_bytes))
        payload = file.read(payload_bytes)
    at = 8 * header["samples"] + 4 * header["frames"]
    return np.frombuffer(payload[at:], "<f2").reshape(header["frames"], header["dim"])


def _alike(one: NDArray[np.float16], other: NDArray[np.float16]) -> bool:
    # A picture encoded in another batch comes out the same but for the last digits.
    return one.shape == other.shape and bool(np.allclose(one.astype(np.float32), other, atol=2e-3))
