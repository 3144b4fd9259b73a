"""Rows spoiled by hand, one column at a time: each misfit is found, of that Media alone, in words."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ivsearch.care import repair
from ivsearch.clips import Cutting, cut
from ivsearch.domain import Space
from ivsearch.errors import LibraryBusy, LibraryDamaged
from ivsearch.store.catalog import Catalog, Encoded, Encoding, PathRow
from ivsearch.store.record_bytes import Facts
from ivsearch.store.reencoding_state import reencoding_lock
from ivsearch.store.soundness import unsound_media
from ivsearch.store.vector_store import VectorStore

from .conftest import SPACE, add, frames_of, media_of

SAMPLING = "fps=1 gate=on"
OF_ONE = f"where media_id = '{1:032x}'"


@pytest.fixture
def stored(catalog: Catalog, store: VectorStore) -> Catalog:
    """Media 0, 1 and 2 with all that records hold now."""
    for seed in range(3):
        media, frames = media_of(seed), frames_of(seed)
        (record,) = store.append([(media.media_id, frames)], [Facts(media, SAMPLING)])
        spans = tuple(cut(frames, 12.0, Cutting(max_s=4.0)))
        encoding = Encoding(media.media_id, SAMPLING, record, 12, len(frames.kept), len(spans))
        path = PathRow(Path(f"/videos/{seed}.mp4"), media.media_id, 1000 + seed, 5)
        catalog.add(SPACE, [Encoded(media, (path,), encoding, spans)])
    return catalog


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (f"update media set duration_s = 99 {OF_ONE}", "the times of clip"),
        (f"update media set codec = 'h265' {OF_ONE}", "its row does not say what its vectors say of the file"),
        (f"update encoding set n_samples = 13 {OF_ONE}", "its row does not say how many frames it has"),
        (f"update encoding set sampling = 'fps=2 gate=on' {OF_ONE}", "sampled by 'fps=2 gate=on', its vectors by"),
        (f"update encoding set n_clips = 9 {OF_ONE}", "clips are there, not 9"),
        (f"update encoding set offset_bytes = 0 {OF_ONE}", f"its vectors are those of media {0:032x}"),
        (f"update encoding set size_bytes = size_bytes - 1 {OF_ONE}", "the record is cut short"),
        (f"update encoding set segment = '000007.seg' {OF_ONE}", "cannot read vectors"),
        (f"update clip set start_s = start_s + 0.5 {OF_ONE}", "the times of clip"),
        (f"update clip set first_frame = first_frame + 1 {OF_ONE}", "does not begin where the one before ends"),
        (
            f"delete from clip {OF_ONE} and start_s > 7; update encoding set n_clips = "
            f"(select count(*) from clip {OF_ONE}) {OF_ONE}",
            "its clips do not cover its frames",
        ),
    ],
)
def test_a_row_that_does_not_fit(stored: Catalog, store: VectorStore, tmp_path: Path, change: str, reason: str) -> None:
    assert list(unsound_media(stored, store)) == []
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript(change)
    (unsound,) = unsound_media(stored, VectorStore(tmp_path / "vectors", SPACE))
    assert (unsound.media_id, unsound.file) == (f"{1:032x}", "/videos/1.mp4")
    assert reason in unsound.reason


def test_a_row_written_with_another_space_may_differ(stored: Catalog, store: VectorStore, tmp_path: Path) -> None:
    """The facts of a Media are those of whoever encoded it last."""
    other = Space("other", "f" * 16, SPACE.dim)
    stored.add_space(other)
    media, frames = media_of(1), frames_of(1)
    newer = type(media)(**{name: getattr(media, name) for name in media.__slots__} | {"codec": "hevc"})
    others = VectorStore(tmp_path / "vectors", other)
    (record,) = others.append([(media.media_id, frames)], [Facts(newer, SAMPLING)])
    spans = tuple(cut(frames, 12.0, Cutting(max_s=4.0)))
    encoding = Encoding(media.media_id, SAMPLING, record, 12, len(frames.kept), len(spans))
    path = PathRow(Path("/videos/1.mp4"), media.media_id, 1001, 5)
    stored.add(other, [Encoded(newer, (path,), encoding, spans)])
    assert list(unsound_media(stored, store)) == [] and list(unsound_media(stored, others)) == []


def test_records_of_older_versions_are_checked_as_far_as_they_say(catalog: Catalog, store: VectorStore) -> None:
    add(catalog, store, [1, 2])
    assert list(unsound_media(catalog, store)) == []


@pytest.mark.parametrize(
    "change",
    [
        f"update clip set start_s = 'soon' {OF_ONE}",
        f"update media set kind = 'vkdeo' {OF_ONE}",
        f"update media set warnings = '[' {OF_ONE}",
        f"update encoding set offset_bytes = 'x' {OF_ONE}",
    ],
)
def test_a_value_that_makes_no_sense(stored: Catalog, store: VectorStore, tmp_path: Path, change: str) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript(change)
    message = r"the catalog holds a row that makes no sense \(.*\); `ivsearch repair` sets it aside"
    with pytest.raises(LibraryDamaged, match=message):
        list(unsound_media(stored, store))


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("update media set codec = cast(x'68ff36' as text)", "media"),
        ("insert into skipped values ('/videos/x.mp4', cast(x'ff' as text))", "skipped"),
        (f"insert into text_reading values ('{1:032x}', 'ocr', cast(x'e4' as text))", "text_reading"),
    ],
)
def test_a_text_that_cannot_be_decoded(stored: Catalog, tmp_path: Path, change: str, table: str) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript(change)
    (complaint,) = stored.complaints()
    assert f"a row of {table} cannot be read: Could not decode to UTF-8" in complaint
    if table == "media":
        with pytest.raises(LibraryDamaged, match=r"Could not decode .*`ivsearch repair` sets it aside"):
            stored.media([f"{1:032x}"])


def test_a_table_that_is_gone_is_damage(stored: Catalog, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript("drop table clip")
    with pytest.raises(LibraryDamaged, match="cannot be opened: no such table: clip; `ivsearch repair` sets it aside"):
        stored.clips_of(SPACE)


def test_nothing_is_mended_under_a_reencoding(stored: Catalog, tmp_path: Path) -> None:
    with reencoding_lock(tmp_path), pytest.raises(LibraryBusy, match=r"is under way already .*`ivsearch spaces stop`"):
        list(repair(tmp_path, tmp_path / "catalog.db"))
    assert len(stored.paths()) == 3


def test_a_row_that_points_nowhere_costs_no_other(stored: Catalog, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript(
            f"insert into text_reading values ('{1:032x}', 'ocr', 'a');"
            f"insert into path values ('/videos/9.mp4', '{9:032x}', 1, 1)"
        )
    stored.close()
    done = list(repair(tmp_path, tmp_path / "catalog.db"))
    assert done[0].endswith("catalog.db.damaged") and done[1].startswith("deleted 1 rows that pointed at missing ones")
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        assert connection.execute("select reading from text_reading").fetchall() == [("a",)]
        assert connection.execute("select count(*) from path").fetchone() == (3,)
        assert connection.execute("pragma foreign_key_check").fetchall() == []


def test_a_snapshot_is_one_state(stored: Catalog, tmp_path: Path) -> None:
    ids = [media_of(seed).media_id for seed in range(3)]
    with closing(Catalog(tmp_path / "catalog.db")) as writer:
        with stored.snapshot():
            before = stored.clips_of(SPACE)
            writer.remove_paths([Path("/videos/1.mp4")])
            with stored.snapshot():
                assert stored.clips_of(SPACE) == before and set(stored.media(ids)) == set(ids)
            assert len(stored.paths()) == 3
        assert len(stored.paths()) == 2 and ids[1] not in stored.media(ids)
