"""Records whose rows were lost are found again by what they say themselves."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ivsearch.domain import FrameVectors
from ivsearch.store.catalog import Record
from ivsearch.store.orphans import Orphans
from ivsearch.store.record_bytes import Facts
from ivsearch.store.vector_store import VectorStore

from .conftest import SPACE, frames_of, media_of

SAMPLING = "fps=1 gate=on"


def appended(store: VectorStore, *seeds: int, sampling: str = SAMPLING) -> list[Record]:
    batch = [(media_of(seed).media_id, frames_of(seed)) for seed in seeds]
    return store.append(batch, [Facts(media_of(seed), sampling) for seed in seeds])


def as_first_written(seed: int) -> bytes:
    """A record in the layout of the first version, by indexes/README.md and not by our code."""
    frames: FrameVectors = frames_of(seed)
    media_id, samples, kept = media_of(seed).media_id, frames.sample_pts_s, frames.kept
    header = {"media_id": media_id, "space": SPACE.key, "samples": len(samples), "frames": len(kept), "dim": SPACE.dim}
    head = json.dumps(header).encode()
    payload = samples.astype("<f8").tobytes() + kept.astype("<i4").tobytes() + frames.vectors.astype("<f2").tobytes()
    body = struct.pack("<4sIQ", b"IVR1", len(head), len(payload)) + head + payload
    return body + hashlib.blake2b(body, digest_size=16).digest()


def test_what_is_known_of_a_media_comes_back_with_its_vectors(store: VectorStore) -> None:
    media = replace(
        media_of(1),
        fps=None,
        recorded_at=datetime(2024, 2, 29, 12, 30, 1, 250_000, UTC),
        warnings=("cut short", "カメラ"),
    )
    (record,) = store.append([(media.media_id, frames_of(1))], [Facts(media, SAMPLING)])
    found = Orphans(store, lambda: []).find(media.media_id, SAMPLING)
    assert found is not None and found[0] == record
    assert found[1].facts == Facts(media, SAMPLING)
    np.testing.assert_array_equal(found[1].frames.vectors, frames_of(1).vectors)
    np.testing.assert_array_equal(found[1].frames.sample_pts_s, frames_of(1).sample_pts_s)


def test_only_what_no_row_points_at_is_an_orphan(store: VectorStore) -> None:
    first, second = appended(store, 1, 2)
    orphans = Orphans(store, lambda: [first])
    assert orphans.find(media_of(1).media_id, SAMPLING) is None
    assert orphans.find(media_of(2).media_id, SAMPLING) is not None
    assert orphans.find(media_of(2).media_id, "fps=2 gate=on") is None
    assert Orphans(store, lambda: [first, second]).find(media_of(2).media_id, SAMPLING) is None


def test_the_newest_sound_one_is_taken(store: VectorStore) -> None:
    old, new = appended(store, 1)[0], appended(store, 1)[0]
    found = Orphans(store, lambda: []).find(media_of(1).media_id, SAMPLING)
    assert found is not None and found[0] == new
    path = store.folder / new.segment
    blob = bytearray(path.read_bytes())
    blob[new.offset_bytes + new.size_bytes - 40] ^= 1
    path.write_bytes(blob)
    found = Orphans(store, lambda: []).find(media_of(1).media_id, SAMPLING)
    assert found is not None and found[0] == old


def test_records_of_the_first_version_are_read_but_not_taken_up(store: VectorStore) -> None:
    store.folder.mkdir(parents=True)
    blob = as_first_written(7)
    (store.folder / "000001.seg").write_bytes(blob)
    np.testing.assert_array_equal(store.read(Record("000001.seg", 0, len(blob))).vectors, frames_of(7).vectors)
    assert store.contents(Record("000001.seg", 0, len(blob))).facts is None
    assert Orphans(store, lambda: []).find(media_of(7).media_id, SAMPLING) is None
    # New ones behind it are.
    appended(store, 8)
    assert Orphans(store, lambda: []).find(media_of(8).media_id, SAMPLING) is not None


def test_a_record_behind_torn_bytes_is_found(store: VectorStore, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    (whole,) = appended(VectorStore(tmp_path / "other", SPACE), 3)
    blob = (tmp_path / "other" / SPACE.key / whole.segment).read_bytes()
    store.folder.mkdir(parents=True)
    for left in rng.integers(0, len(blob), 40):
        (store.folder / "000001.seg").write_bytes(blob[:left])
        (record,) = appended(store, 4)
        found = Orphans(store, lambda: []).find(media_of(4).media_id, SAMPLING)
        assert found is not None and found[0] == record
        assert Orphans(store, lambda: []).find(media_of(3).media_id, SAMPLING) is None


def test_an_empty_segment_holds_nothing(store: VectorStore) -> None:
    store.folder.mkdir(parents=True)
    (store.folder / "000001.seg").touch()
    assert list(store.walk("000001.seg")) == [] and Orphans(store, lambda: []).find("0" * 32, SAMPLING) is None


def test_segments_that_are_compacted_meanwhile_hold_nothing(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended(store, 1)
    monkeypatch.setattr(VectorStore, "segments", lambda self: ["000001.seg", "000002.seg"])
    assert [found.media_id for found in store.glance("000002.seg")] == []
    assert Orphans(store, lambda: []).find(media_of(1).media_id, SAMPLING) is not None
