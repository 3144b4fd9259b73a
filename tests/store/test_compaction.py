"""Compaction frees what no row needs, loses nothing wherever it is stopped, and readers find what they know of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ivsearch.domain import FrameVectors, Media, MediaKind, Space
from ivsearch.errors import LibraryDamaged, LibraryError
from ivsearch.store import compaction, vector_store
from ivsearch.store.catalog import Catalog, Encoded, Encoding, PathRow, Record
from ivsearch.store.compaction import compact
from ivsearch.store.record_bytes import Facts
from ivsearch.store.vector_store import VectorStore

SPACE = Space("test", "fedcba9876543210", 8)
N = 24
SMALL_BYTES = 3000


def media_id_of(number: int) -> str:
    return f"{number:032x}"


def frames_of(number: int, n: int = 5) -> FrameVectors:
    vectors = np.random.default_rng(number).normal(size=(n, SPACE.dim)).astype(np.float16)
    return FrameVectors(np.arange(n, dtype=np.float64), np.arange(n, dtype=np.int32), vectors)


def media_of(number: int) -> Media:
    return Media(media_id_of(number), MediaKind.VIDEO, 5.0, 64, 48, "h264", 100 + number)


def add(catalog: Catalog, vectors: VectorStore, number: int) -> None:
    frames, media = frames_of(number), media_of(number)
    (record,) = vectors.append([(media.media_id, frames)], [Facts(media, "fps=1")])
    encoding = Encoding(media.media_id, "fps=1", record, 5, 5, 0)
    path = PathRow(Path(f"/films/{number}.mp4"), media.media_id, media.size_bytes, 1)
    catalog.add(SPACE, [Encoded(media, (path,), encoding, ())])


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Catalog, VectorStore]:
    """Several segments, two of three records dead: a third removed, a third written anew."""
    monkeypatch.setattr(vector_store, "SEGMENT_BYTES", SMALL_BYTES)
    monkeypatch.setattr(compaction, "SEGMENT_BYTES", SMALL_BYTES)
    catalog, vectors = Catalog(tmp_path / "catalog.db"), VectorStore(tmp_path / "vectors", SPACE)
    catalog.add_space(SPACE)
    for number in [*range(N), *range(1, N, 3)]:
        add(catalog, vectors, number)
    catalog.remove_paths([Path(f"/films/{number}.mp4") for number in range(0, N, 3)])
    assert len(vectors.segments()) > 3
    return catalog, vectors


def live_bytes(catalog: Catalog) -> int:
    with closing(sqlite3.connect(catalog.file)) as connection:
        return connection.execute("select sum(size_bytes) from encoding").fetchone()[0]


def size_of(vectors: VectorStore) -> int:
    return sum(path.stat().st_size for path in vectors.folder.glob("*.seg"))


def check(catalog: Catalog, vectors: VectorStore) -> None:
    """Every Media that is there has the vectors that it always had."""
    fresh = VectorStore(vectors.folder.parent, SPACE)
    encodings = catalog.encodings(SPACE)
    assert set(encodings) == {media_id_of(number) for number in range(N) if number % 3}
    for media_id, encoding in encodings.items():
        assert np.array_equal(fresh.read(encoding.record).vectors, frames_of(int(media_id, 16)).vectors)


def damage(vectors: VectorStore, record: Record) -> None:
    path = vectors.folder / record.segment
    blob = bytearray(path.read_bytes())
    blob[record.offset_bytes + record.size_bytes - 20] ^= 1
    path.write_bytes(blob)


def test_what_is_dead_goes_and_the_rest_stays(made: tuple[Catalog, VectorStore]) -> None:
    catalog, vectors = made
    before = catalog.encodings(SPACE)
    lines: list[str] = []
    rows = sqlite3.connect(catalog.writer.engine.url.database or "").execute(
        "SELECT segment, count(*), sum(size_bytes) FROM encoding GROUP BY segment ORDER BY segment"
    )
    stay = [n for name, n, live in rows if live < (vectors.folder / name).stat().st_size]
    assert len(stay) > 3
    compacted = compact(vectors, catalog, lambda media_id: False, lines.append)
    assert lines == [
        f"test fedcba987654: segment {number} of {len(stay)}, {n} records stay" for number, n in enumerate(stay, 1)
    ]
    assert compacted.before_bytes > compacted.after_bytes == size_of(vectors) == live_bytes(catalog)
    check(catalog, vectors)
    # A reader that read its rows before finds every record at its new place.
    old = VectorStore(vectors.folder.parent, SPACE)
    assert len({each.record.segment for each in before.values()} - set(vectors.segments())) > 3
    for media_id, encoding in before.items():
        assert np.array_equal(old.read(encoding.record).vectors, frames_of(int(media_id, 16)).vectors)
    # What is written next goes behind it, and there is nothing left to do.
    files = {path.name: path.stat().st_mtime_ns for path in vectors.folder.glob("*.seg")}
    again = compact(vectors, catalog, lambda media_id: False)
    assert again.before_bytes == again.after_bytes
    assert {path.name: path.stat().st_mtime_ns for path in vectors.folder.glob("*.seg")} == files
    assert not list(vectors.folder.glob("*.moved"))


def test_an_old_place_is_never_that_of_another_record(made: tuple[Catalog, VectorStore]) -> None:
    catalog, vectors = made
    seen = set(vectors.segments())
    catalog.remove_paths([row.path for row in catalog.paths()])
    for _ in range(3):
        assert compact(vectors, catalog, lambda media_id: False).after_bytes == 0
        assert len(vectors.segments()) == 1 and not seen & set(vectors.segments())
        seen |= set(vectors.segments())
        add(catalog, vectors, 7)
        catalog.remove_paths([Path("/films/7.mp4")])


def test_the_newest_vectors_that_may_be_taken_up_stay(made: tuple[Catalog, VectorStore]) -> None:
    catalog, vectors = made
    kept = {media_id_of(0), media_id_of(3)}
    compact(vectors, catalog, kept.__contains__)
    found = [each.media_id for segment in vectors.segments() for each in vectors.walk(segment)]
    assert sorted(found) == sorted({media_id_of(number) for number in range(N) if number % 3} | kept)
    check(catalog, vectors)


@pytest.mark.parametrize("step", range(0, 37, 3))
def test_wherever_it_is_stopped_nothing_is_lost(
    made: tuple[Catalog, VectorStore], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """At each call that leaves a trace on the disk, before it and after it."""
    catalog, vectors = made
    with monkeypatch.context() as patch:
        left = [step]

        def stopping(act: Callable) -> Callable:
            def stopped(*given, **named):  # type: ignore[no-untyped-def]
                left[0] -= 1
                if left[0] < 0 and step % 2 == 0:
                    raise KeyboardInterrupt
                done = act(*given, **named)
                if left[0] < 0:
                    raise KeyboardInterrupt
                return done

            return stopped

        patch.setattr("ivsearch.store.compaction.os.fsync", stopping(compaction.os.fsync))
        patch.setattr("ivsearch.store.compaction.write_moved", stopping(compaction.write_moved))
        patch.setattr("ivsearch.store.compaction.Record", stopping(Record))
        patch.setattr(Catalog, "move_records", stopping(Catalog.move_records))
        patch.setattr(Path, "unlink", stopping(Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            compact(vectors, catalog, lambda media_id: False)
    check(catalog, vectors)
    compact(vectors, catalog, lambda media_id: False)
    check(catalog, vectors)
    assert size_of(vectors) == live_bytes(catalog)


def test_without_room_nothing_is_begun(made: tuple[Catalog, VectorStore]) -> None:
    catalog, vectors = made
    before = size_of(vectors)
    with pytest.raises(LibraryError, match=r"000001.seg anew takes [\d,]+ bytes, [\d,]+ more than are free: make room"):
        compact(vectors, catalog, lambda media_id: False, free_bytes=lambda folder: 1000)
    assert size_of(vectors) == before
    check(catalog, vectors)


def test_a_damaged_record_is_not_copied(made: tuple[Catalog, VectorStore]) -> None:
    catalog, vectors = made
    record = catalog.encodings(SPACE)[media_id_of(2)].record
    path = vectors.folder / record.segment
    damage(vectors, record)
    blob = path.read_bytes()
    with pytest.raises(LibraryDamaged, match="does not fit its checksum; run `ivsearch repair`, then `ivsearch index`"):
        compact(vectors, catalog, lambda media_id: False)
    assert path.read_bytes() == blob


def test_damaged_vectors_without_a_row_stop_nothing(made: tuple[Catalog, VectorStore]) -> None:
    """Of two that may be taken up the newer is damaged, of a third the only one."""
    catalog, vectors = made
    found = [each for segment in vectors.segments() for each in vectors.walk(segment)]
    twice, once = media_id_of(1), media_id_of(0)
    catalog.drop_encodings(SPACE, [twice])
    older, newer = (each.record for each in found if each.media_id == twice)
    (only,) = (each.record for each in found if each.media_id == once)
    blob = vectors.contents(older)
    for record in (newer, only):
        damage(vectors, record)
    compact(vectors, catalog, {once, twice}.__contains__)
    found = [each for segment in vectors.segments() for each in vectors.walk(segment)]
    (kept,) = (each.record for each in found if each.media_id == twice)
    assert vectors.contents(kept).facts == blob.facts
    assert once not in {each.media_id for each in found}


def test_a_space_without_vectors_has_nothing_to_free(tmp_path: Path) -> None:
    catalog, vectors = Catalog(tmp_path / "catalog.db"), VectorStore(tmp_path / "vectors", SPACE)
    catalog.add_space(SPACE)
    assert compact(vectors, catalog, lambda media_id: True).after_bytes == 0


@pytest.mark.parametrize("knows_where", [True, False])
def test_a_catalog_put_back_from_a_copy_loses_no_vectors(
    made: tuple[Catalog, VectorStore], *, knows_where: bool
) -> None:
    catalog, vectors = made
    before = {media_id: encoding.record for media_id, encoding in catalog.encodings(SPACE).items()}
    compact(vectors, catalog, lambda media_id: False)
    catalog.move_records(SPACE, before)
    if not knows_where:
        for path in vectors.folder.glob("*.moved"):
            path.unlink()
    compact(vectors, catalog, before.__contains__)
    found = {each.media_id for segment in vectors.segments() for each in vectors.walk(segment)}
    assert found == before.keys()
    if knows_where:
        check(catalog, vectors)
