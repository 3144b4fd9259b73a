from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store import vector_store
from ivsearch.store.catalog import Record
from ivsearch.store.vector_store import VectorStore

from .conftest import SPACE, frames_of, media_of


def reopened(store: VectorStore) -> VectorStore:
    return VectorStore(store.folder.parent, store.space)


def test_what_is_appended_is_read_back_bit_by_bit(store: VectorStore) -> None:
    batch = [(media_of(i).media_id, frames_of(i, n=3 + i)) for i in range(5)]
    records = store.append(batch[:2]) + store.append(batch[2:])
    for (_, frames), record in zip(batch, records, strict=True):
        back = reopened(store).read(record)
        np.testing.assert_array_equal(back.sample_pts_s, frames.sample_pts_s)
        np.testing.assert_array_equal(back.kept, frames.kept)
        np.testing.assert_array_equal(back.vectors, frames.vectors)
        np.testing.assert_array_equal(back.pts_s, frames.sample_pts_s[frames.kept])


def test_every_single_flipped_bit_is_noticed(store: VectorStore) -> None:
    (record,) = store.append([(media_of(1).media_id, frames_of(1, n=3))])
    path = store.folder / record.segment
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(LibraryDamaged, match=r"at byte 0: the record .*run `ivsearch repair`"):
            reopened(store).read(record)


@pytest.mark.parametrize("left", [0, 3, 20, 100])
def test_a_torn_tail_costs_only_itself(store: VectorStore, left: int) -> None:
    first, second = store.append([(media_of(i).media_id, frames_of(i)) for i in (1, 2)])
    path = store.folder / second.segment
    path.write_bytes(path.read_bytes()[: second.offset_bytes + left])
    again = reopened(store)
    with pytest.raises(LibraryDamaged, match="cut short"):
        again.read(second)
    (third,) = again.append([(media_of(3).media_id, frames_of(3))])
    for record, seed in ((first, 1), (third, 3)):
        np.testing.assert_array_equal(reopened(store).read(record).vectors, frames_of(seed).vectors)
    assert [found.media_id for found in again.walk(path.name)] == [media_of(1).media_id, media_of(3).media_id]


def test_a_missing_segment_is_named(store: VectorStore) -> None:
    with pytest.raises(LibraryDamaged, match=r"cannot read vectors.*000009\.seg.*ivsearch verify"):
        store.read(Record("000009.seg", 0, 10))


def test_vectors_of_another_space_are_refused(store: VectorStore, tmp_path: Path) -> None:
    (record,) = store.append([(media_of(1).media_id, frames_of(1))])
    other = VectorStore(tmp_path / "vectors", Space("other", "f" * 16, SPACE.dim))
    other.folder.mkdir()
    (other.folder / record.segment).write_bytes((store.folder / record.segment).read_bytes())
    with pytest.raises(LibraryDamaged, match="belongs to the space test-0123456789ab, not other-"):
        other.read(record)


def test_full_segments_are_followed_by_new_ones(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_store, "SEGMENT_BYTES", 500)
    records = [store.append([(media_of(i).media_id, frames_of(i))])[0] for i in range(6)]
    assert len({record.segment for record in records}) > 1
    for seed, record in enumerate(records):
        np.testing.assert_array_equal(reopened(store).read(record).vectors, frames_of(seed).vectors)
    walked = [found.record for segment in store.segments() for found in store.walk(segment)]
    assert walked == records


def test_the_cache_is_bounded(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_store, "CACHE_BYTES", 1000)
    records = store.append([(media_of(i).media_id, frames_of(i)) for i in range(10)])
    for record in records:
        store.read(record)
    assert store._cached_bytes <= 1000
