from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from ivsearch.errors import SpaceMismatch
from ivsearch.store.catalog import Catalog
from ivsearch.store.refresh import refresh
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore

from .conftest import SPACE, add, frames_of


def units(n: int, seed: int = 0) -> np.ndarray:
    """Unit rows, as they are kept: rounded to float16."""
    rows = np.random.default_rng(seed).standard_normal((n, SPACE.dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def filled(n: int = 100) -> VectorIndex:
    index = VectorIndex(SPACE)
    index.add(np.arange(n, dtype=np.int64) * 3, units(n))
    return index


def test_search_equals_brute_force() -> None:
    index, vectors = filled(), units(100)
    for query in units(20, seed=1):
        scores = vectors @ query
        best = np.argsort(-scores)[:10]
        found = index.search(query, 10)
        np.testing.assert_array_equal(found.clip_ids, best * 3)
        np.testing.assert_allclose(found.scores, scores[best], atol=1e-6)


def test_search_among_some_equals_brute_force_among_them() -> None:
    index, vectors = filled(), units(100)
    some = np.arange(0, 100, 7)
    query = units(1, seed=2)[0]
    best = some[np.argsort(-(vectors[some] @ query))]
    np.testing.assert_array_equal(index.search(query, 50, among=(some * 3).tolist()).clip_ids, best * 3)
    assert len(index.search(query, 5, among=[]).clip_ids) == 0


def test_removed_clips_are_not_found() -> None:
    index = filled()
    index.remove(np.arange(50, dtype=np.int64) * 3)
    assert set(index.search(units(1, seed=3)[0], 100).clip_ids) == {i * 3 for i in range(50, 100)}


def test_an_empty_index_finds_nothing() -> None:
    assert len(VectorIndex(SPACE).search(units(1)[0], 5).clip_ids) == 0


def test_another_width_is_refused() -> None:
    with pytest.raises(SpaceMismatch, match=r"vectors of 8 dimensions do not belong in the space test-.* of 16"):
        VectorIndex(SPACE).search(np.ones(8, np.float32), 1)


def test_refresh_follows_the_catalog(catalog: Catalog, store: VectorStore, tmp_path: Path) -> None:
    add(catalog, store, [1, 2, 3])
    index = VectorIndex(SPACE)
    stamp, complaints = refresh(index, None, catalog, store)
    assert complaints == []
    add(catalog, store, [2, 4])  # 2 is encoded anew: other clip ids
    catalog.remove_paths([Path("/videos/1.mp4")])
    stamp, _ = refresh(index, stamp, catalog, store)
    assert sorted(index.clip_ids().tolist()) == catalog.clip_ids(SPACE)
    assert stamp == catalog.clip_stamp(SPACE)


def test_refresh_leaves_out_what_is_damaged_and_says_so(catalog: Catalog, store: VectorStore) -> None:
    encoded = add(catalog, store, [1, 2])
    record = encoded[0].encoding.record
    path = store.folder / record.segment
    data = bytearray(path.read_bytes())
    data[record.offset_bytes + 80] ^= 0xFF
    path.write_bytes(bytes(data))
    index = VectorIndex(SPACE)
    _, complaints = refresh(index, None, catalog, store)
    assert len(complaints) == 1 and "does not fit its checksum" in complaints[0]
    kept = {clip.clip_id for clip in catalog.clips_of(SPACE, [encoded[1].media.media_id])}
    assert set(index.clip_ids().tolist()) == kept


@pytest.mark.parametrize("row", ["n_frames = 0", "first_frame = 9", "first_frame = -1", "n_frames = -2"])
def test_refresh_leaves_out_clips_outside_their_record(
    catalog: Catalog, store: VectorStore, tmp_path: Path, row: str
) -> None:
    encoded = add(catalog, store, [1, 2])
    bad = catalog.clip_ids(SPACE)[0]
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(f"UPDATE clip SET {row} WHERE clip_id = ?", (bad,))
    index = VectorIndex(SPACE)
    _, complaints = refresh(index, None, catalog, store)
    assert complaints == [
        f"1 clips of media {encoded[0].media.media_id} span frames that there are none of: run `ivsearch verify`"
    ]
    kept = [clip_id for clip_id in catalog.clip_ids(SPACE) if clip_id != bad]
    found = index.search(units(1)[0], 100)
    assert sorted(found.clip_ids.tolist()) == kept and np.isfinite(found.scores).all()


def test_a_vector_that_is_not_a_number_is_not_found() -> None:
    index, vectors = VectorIndex(SPACE), units(20)
    vectors[4] = np.nan
    index.add(np.arange(20), vectors)
    found = index.search(units(1, seed=1)[0], 20)
    assert sorted(found.clip_ids.tolist()) == [i for i in range(20) if i != 4]


def test_ids_of_another_catalog_are_not_trusted(catalog: Catalog, store: VectorStore, tmp_path: Path) -> None:
    add(catalog, store, [1, 2, 3])
    index = VectorIndex(SPACE)
    stamp, _ = refresh(index, None, catalog, store)
    other = Catalog(tmp_path / "anew.db")
    other.add_space(SPACE)
    add(other, store, [3, 2, 1])  # the same ids for other clips
    refresh(index, stamp, other, store)
    clips = other.clips_of(SPACE)
    for clip in clips:
        rows = frames_of(int(clip.media_id, 16)).vectors[clip.first_frame : clip.first_frame + clip.n_frames]
        mean = rows.astype(np.float64).mean(0)
        assert index.search((mean / np.linalg.norm(mean)).astype(np.float32), 1).clip_ids[0] == clip.clip_id
    other.close()
