"""Rows and vectors to store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivsearch.clips import Cutting, cut
from ivsearch.domain import FrameVectors, Media, MediaKind, Space
from ivsearch.store.catalog import Catalog, Encoded, Encoding, PathRow, Record
from ivsearch.store.vector_store import VectorStore

SPACE = Space("test", "0123456789abcdef", 16)


def frames_of(seed: int, n: int = 12) -> FrameVectors:
    """Seeded unit vectors, one a second, every third sample dropped by the gate."""
    rng = np.random.default_rng(seed)
    kept = np.array([i for i in range(n) if i % 3 != 2], np.int32)
    vectors = rng.standard_normal((len(kept), SPACE.dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return FrameVectors(np.arange(n, dtype=np.float64), kept, vectors.astype(np.float16))


def media_of(seed: int, n: int = 12) -> Media:
    return Media(f"{seed:032x}", MediaKind.VIDEO, float(n), 640, 360, "h264", 1000 + seed, 25.0)


def add(catalog: Catalog, store: VectorStore, seeds: list[int], folder: str = "/videos") -> list[Encoded]:
    """Stores Media as ingest does: vectors first, rows last."""
    batch = [(media_of(seed).media_id, frames_of(seed)) for seed in seeds]
    encoded = []
    for seed, (media_id, frames), record in zip(seeds, batch, store.append(batch), strict=True):
        spans = tuple(cut(frames, 12.0, Cutting(max_s=4.0)))
        encoding = Encoding(media_id, "fps=1 gate=on", record, 12, len(frames.kept), len(spans))
        path = PathRow(Path(f"{folder}/{seed}.mp4"), media_id, 1000 + seed, 5)
        encoded.append(Encoded(media_of(seed), (path,), encoding, spans))
    catalog.add(SPACE, encoded)
    return encoded


@pytest.fixture
def catalog(tmp_path: Path):
    catalog = Catalog(tmp_path / "catalog.db")
    catalog.add_space(SPACE)
    yield catalog
    catalog.close()


@pytest.fixture
def store(tmp_path: Path) -> VectorStore:
    return VectorStore(tmp_path / "vectors", SPACE)


__all__ = ["SPACE", "Record", "add", "frames_of", "media_of"]
