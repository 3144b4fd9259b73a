from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import sqlalchemy as sa

from ivsearch.clips import Span
from ivsearch.domain import Filters, Media, MediaKind, Skipped
from ivsearch.errors import LibraryDamaged, LibraryError, LibraryTooNew, UsageError
from ivsearch.store.catalog import Catalog, Encoded, Encoding, PathRow, Record

from .conftest import SPACE, add, media_of


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Of an empty database."""
    if request.param == "sqlite":
        return tmp_path / "catalog.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def catalog(where: str | Path) -> Iterator[Catalog]:
    """Every test that takes this one runs on both kinds of database."""
    catalog = Catalog(where)
    catalog.add_space(SPACE)
    yield catalog
    catalog.close()


@pytest.fixture
def sqlite_catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.db")
    catalog.add_space(SPACE)
    yield catalog
    catalog.close()


def told(catalog: Catalog, sql: str) -> list:
    """Rows of a statement written by hand, on a connection of its own."""
    engine = sa.create_engine(catalog.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        result = connection.exec_driver_sql(sql)
        return [tuple(row) for row in result] if result.returns_rows else []


def test_reading_back_what_was_added(catalog: Catalog, store) -> None:
    encoded = add(catalog, store, [1, 2])
    ids = [each.media.media_id for each in encoded]
    assert catalog.media(ids) == {each.media.media_id: each.media for each in encoded}
    assert catalog.encodings(SPACE) == {each.media.media_id: each.encoding for each in encoded}
    assert [row.path for row in catalog.paths()] == [Path("/videos/1.mp4"), Path("/videos/2.mp4")]
    clips = catalog.clips_of(SPACE)
    assert [(c.media_id, c.start_s, c.end_s) for c in clips] == [
        (each.media.media_id, s.start_s, s.end_s) for each in encoded for s in each.spans
    ]
    assert catalog.is_complete(SPACE)


def test_adding_again_replaces_the_clips_with_new_ids(catalog: Catalog, store) -> None:
    add(catalog, store, [1])
    before = catalog.clip_ids(SPACE)
    stamp = catalog.clip_stamp(SPACE)
    add(catalog, store, [1])
    after = catalog.clip_ids(SPACE)
    assert len(after) == len(before)
    assert not set(after) & set(before)
    assert catalog.clip_stamp(SPACE) != stamp


def test_a_media_goes_with_its_last_path(catalog: Catalog, store) -> None:
    (encoded,) = add(catalog, store, [1])
    catalog.link([PathRow(Path("/copy.mp4"), encoded.media.media_id, 1001, 5)])
    catalog.remove_paths([Path("/videos/1.mp4")])
    assert catalog.media_paths([encoded.media.media_id]) == {encoded.media.media_id: [Path("/copy.mp4")]}
    catalog.remove_paths([Path("/copy.mp4")])
    assert catalog.media([encoded.media.media_id]) == {}
    assert catalog.clip_ids(SPACE) == []
    assert list(catalog.complaints()) == []


def test_a_crash_between_rows_leaves_none_of_them(catalog: Catalog, store) -> None:
    good = add(catalog, store, [1])[0]
    # The second of the batch has an id too many: the encoding's primary key refuses it, and with it the first.
    record = Record("000001.seg", 0, 1)
    encoding = Encoding(media_of(2).media_id, "fps=1", record, 1, 1, 0)
    path = PathRow(Path("/b.mp4"), media_of(2).media_id, 1, 1)
    bad = Encoded(media_of(2), (path,), encoding, ())
    with pytest.raises(sa.exc.IntegrityError):
        catalog.add(SPACE, [bad, bad])
    assert set(catalog.encodings(SPACE)) == {good.media.media_id}
    assert [row.path for row in catalog.paths()] == [Path("/videos/1.mp4")]


@pytest.mark.parametrize("name", ["plain.mp4", "a b\n世界 %.mp4", "caf\udce9 \udcff.mp4"])
def test_any_file_name_comes_back_as_it_was(catalog: Catalog, store, name: str) -> None:
    (encoded,) = add(catalog, store, [1])
    catalog.link([PathRow(Path("/x") / name, encoded.media.media_id, 1, 1)])
    assert Path("/x") / name in [row.path for row in catalog.paths()]
    # A reason quotes names, and what a decoder found in the file.
    skipped = Skipped(Path("/x") / name, f"{name} holds \0 and \ud800")
    catalog.note_skipped([skipped])
    assert catalog.skipped() == [skipped]


def test_filters(catalog: Catalog, store) -> None:
    when = datetime(2020, 5, 1, 12, tzinfo=UTC)
    rows = [
        (Media("a" * 32, MediaKind.VIDEO, 10.0, 1, 1, "h264", 1, 25.0, when), "/v/holiday/a.mp4"),
        (Media("b" * 32, MediaKind.IMAGE, 0.0, 1, 1, "jpeg", 1), "/v/holiday/b.jpg"),
        (Media("c" * 32, MediaKind.VIDEO, 100.0, 1, 1, "h264", 1), "/v/work/c.mp4"),
    ]
    encoded = []
    for media, path in rows:
        encoding = Encoding(media.media_id, "fps=1", Record("s", 0, 1), 1, 1, 0)
        # 2021-01-01, for those that do not say themselves when they were recorded
        encoded.append(Encoded(media, (PathRow(Path(path), media.media_id, 1, 1609459200 * 10**9),), encoding, ()))
    catalog.add(SPACE, encoded)

    def found(filters: Filters) -> str:
        return "".join(sorted(media_id[0] for media_id in catalog.matching_media(filters) or ()))

    assert catalog.matching_media(Filters()) is None
    assert found(Filters(kind=MediaKind.IMAGE)) == "b"
    assert found(Filters(paths=("*.mp4",))) == "ac"
    assert found(Filters(paths=("*/holiday/*", "c.*"))) == "abc"
    assert found(Filters(paths=("holiday/*",))) == "ab"
    assert found(Filters(paths=("./work/c.mp4",))) == "c"
    assert found(Filters(paths=("/v/*.mp4",))) == "ac"
    assert found(Filters(paths=("/holiday/*",))) == ""
    assert found(Filters(min_duration_s=5)) == "ac"
    assert found(Filters(max_duration_s=50)) == "ab"
    assert found(Filters(before=datetime(2020, 6, 1, tzinfo=UTC))) == "a"
    assert found(Filters(after=datetime(2020, 6, 1, tzinfo=UTC))) == "bc"
    assert found(Filters(paths=("*.jpg",), kind=MediaKind.VIDEO)) == ""


def fits(path: str, glob: str) -> bool:
    """What the docs say of globs, in Python's own words."""
    if "/" not in glob:
        return fnmatchcase(path.rsplit("/", 1)[-1], glob)
    return fnmatchcase(path, glob if glob.startswith("/") else f"*/{glob.removeprefix('./')}")


def test_globs_are_as_in_python_whatever_they_hold(catalog: Catalog, store) -> None:
    rng = random.Random(20261122)
    letters = ["a", "B", "b", "é", "世", "%", "_", "\\", "[", "]", "^", "!", "-", " ", "\n", "'", "\udcff", "."]
    paths = {f"/{'/'.join(''.join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(3))}" for _ in range(300)}
    add(catalog, store, [1])
    clips = ids_of(catalog, 1)
    encoded = []
    for number, path in enumerate(sorted(paths), 2):
        encoding = Encoding(media_of(number).media_id, "fps=1", Record("s", 0, 1), 1, 1, 1)
        row = PathRow(Path(path), media_of(number).media_id, 1, 1)
        encoded.append(Encoded(media_of(number), (row,), encoding, (Span(0, 1, 0.0, 1.0),)))
    catalog.add(SPACE, encoded)
    held = {row.media_id: str(row.path) for row in catalog.paths()}
    globs = ["*", "*.b", "[!a]*", "/*a", "/*/[ab]/*", "a*", "?", "[a", "./*/a*", "*世*", "/nothing*"]
    globs += ["".join(rng.choices([*letters, "*", "?", "/"], k=rng.randint(1, 5))) for _ in range(40)]
    for glob in globs:
        filters = Filters(paths=(glob, "*/none/of/them"))
        expected = {media_id for media_id, path in held.items() if fits(path, glob)}
        assert catalog.matching_media(filters) == expected, glob
        of_clips = catalog.matching_clips(SPACE, filters)
        assert of_clips.tolist() == catalog.clip_ids(SPACE, expected), glob
        asked = catalog.clip_ids(SPACE)[::2]
        assert catalog.passing_clips(filters, asked) == set(asked) & set(of_clips.tolist()), glob
    both = Filters(paths=("*a*",), kind=MediaKind.VIDEO, min_duration_s=11.0)
    assert catalog.matching_media(both) == {each for each, path in held.items() if fits(path, "*a*")}
    assert len(catalog.matching_clips(SPACE, Filters(kind=MediaKind.IMAGE))) == 0
    assert set(clips) <= set(catalog.matching_clips(SPACE, Filters(kind=MediaKind.VIDEO)).tolist())


def test_totals(catalog: Catalog, store) -> None:
    add(catalog, store, [1, 2, 3])
    catalog.note_skipped([Skipped(Path("/bad"), "no")])
    totals = catalog.totals(SPACE)
    assert (totals.media, totals.videos, totals.images, totals.paths, totals.skipped) == (3, 3, 0, 3, 1)
    assert (totals.duration_s, totals.frames, totals.samples) == (36.0, 24, 36)
    assert totals.clips == len(catalog.clip_ids(SPACE))


def test_what_is_not_a_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(LibraryDamaged, match=r"catalog /.*\.db cannot be opened: .*ivsearch repair"):
        Catalog(tmp_path / "catalog.db")


def test_a_newer_schema_is_refused(catalog: Catalog, where: str | Path) -> None:
    told(catalog, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LibraryTooNew, match=r"schema 9999, which this ivsearch does not know.*Upgrade ivsearch"):
        Catalog(where)


def test_other_databases_are_refused_and_missing_drivers_named() -> None:
    with pytest.raises(
        UsageError, match=r"mysql://h/x is of a kind .*; it knows sqlite and postgresql: write postgresql\+psycopg"
    ):
        Catalog("mysql://h/x")
    with pytest.raises(UsageError, match="pg8000"):
        Catalog("postgresql+pg8000://h/x")


def ids_of(catalog: Catalog, seed: int) -> list[int]:
    return catalog.clip_ids(SPACE, [media_of(seed).media_id])


def test_every_change_of_clips_is_counted_and_every_removal_logged(catalog: Catalog, store) -> None:
    assert (catalog.clip_stamp(SPACE).version, catalog.clip_stamp(SPACE).last_id) == (0, 0)
    add(catalog, store, [1, 2, 3, 4])
    start = catalog.clip_stamp(SPACE)
    assert start.version > 0
    assert start.last_id == max(catalog.clip_ids(SPACE))
    ids = {seed: ids_of(catalog, seed) for seed in (1, 2, 3)}
    gone: list[int] = []
    # Replaced, or deleted with their Media: none goes uncounted.
    for act, seed in (
        (lambda: add(catalog, store, [1]), 1),
        (lambda: catalog.remove_paths([Path("/videos/2.mp4")]), 2),
        (lambda: catalog.remove_paths([Path("/videos/3.mp4")]), 3),
    ):
        before = catalog.clip_stamp(SPACE)
        act()
        assert catalog.clip_stamp(SPACE).version > before.version
        gone += ids[seed]
        changes = catalog.clip_changes(SPACE, start)
        assert changes is not None
        assert sorted(changes.removed.tolist()) == sorted(gone)
    assert changes.added_after_id == start.last_id
    assert [each for each in catalog.clip_ids(SPACE) if each > start.last_id] == ids_of(catalog, 1)
    now = catalog.clip_changes(SPACE, catalog.clip_stamp(SPACE))
    assert now is not None
    assert len(now.removed) == 0


def test_after_a_repair_indexes_are_compared_in_full(catalog: Catalog, store) -> None:
    add(catalog, store, [1, 2])
    before = catalog.clip_stamp(SPACE)
    catalog.drop_encodings(SPACE, [media_of(2).media_id])
    assert catalog.clip_changes(SPACE, before) is None
    assert catalog.clip_stamp(SPACE).version > before.version
    assert catalog.clip_ids(SPACE) == ids_of(catalog, 1)
    # Its clips went behind our back, and indexes hold them still.
    before = catalog.clip_stamp(SPACE)
    told(catalog, "DELETE FROM clip")
    catalog.drop_encodings(SPACE, [media_of(1).media_id])
    assert catalog.clip_stamp(SPACE) != before
    assert catalog.clip_changes(SPACE, before) is None


def test_what_changes_no_clip_is_not_counted(catalog: Catalog, store) -> None:
    (encoded,) = add(catalog, store, [1])
    before = catalog.clip_stamp(SPACE)
    catalog.link([PathRow(Path("/copy.mp4"), encoded.media.media_id, 1001, 5)])
    catalog.remove_paths([Path("/copy.mp4"), Path("/never was")])
    catalog.note_skipped([Skipped(Path("/bad"), "no")])
    assert catalog.clip_stamp(SPACE) == before


def test_changes_that_cannot_be_told(catalog: Catalog, store) -> None:
    add(catalog, store, [1, 2])
    old = catalog.clip_stamp(SPACE)
    catalog.remove_paths([Path("/videos/1.mp4")])
    now = catalog.clip_stamp(SPACE)
    assert catalog.clip_changes(SPACE, replace(old, catalog_id="another")) is None
    assert catalog.clip_changes(SPACE, replace(now, version=now.version + 1)) is None, "a catalog put back from a copy"
    catalog.trim_changes(SPACE, replace(now, catalog_id="another"))
    assert catalog.clip_changes(SPACE, old) is not None
    catalog.trim_changes(SPACE, now)
    assert catalog.clip_changes(SPACE, old) is None
    assert catalog.clip_changes(SPACE, now) is not None
    assert told(catalog, "SELECT count(*) FROM clip_removed") == [(0,)]


def test_a_space_that_comes_back_counts_on(catalog: Catalog, store) -> None:
    add(catalog, store, [1, 2])
    first = catalog.clip_stamp(SPACE)
    catalog.drop_space(SPACE)
    assert catalog.spaces() == []
    assert catalog.clip_ids(SPACE) == []
    assert catalog.encodings(SPACE) == {}
    assert len(catalog.paths()) == 2, "the files are still known"
    catalog.add_space(SPACE)
    add(catalog, store, [3, 4])
    assert catalog.clip_stamp(SPACE).version > first.version
    assert catalog.clip_changes(SPACE, first) is None


def test_two_files_that_exchanged_names_lose_nothing(catalog: Catalog, store) -> None:
    add(catalog, store, [1, 2])
    stamp = catalog.clip_stamp(SPACE)
    # In two transactions, as a long run commits: in between, no path holds the first Media.
    catalog.link([PathRow(Path("/videos/1.mp4"), media_of(2).media_id, 1002, 6)])
    catalog.link([PathRow(Path("/videos/2.mp4"), media_of(1).media_id, 1001, 6)])
    catalog.remove_paths([])
    assert len(catalog.media([media_of(1).media_id, media_of(2).media_id])) == 2
    assert catalog.clip_stamp(SPACE) == stamp


def test_a_media_whose_file_holds_something_else_goes_at_the_end_of_the_run(catalog: Catalog, store) -> None:
    add(catalog, store, [1, 2])
    catalog.link([PathRow(Path("/videos/1.mp4"), media_of(2).media_id, 1002, 6)])
    catalog.remove_paths([])
    assert set(catalog.encodings(SPACE)) == {media_of(2).media_id}
    assert ids_of(catalog, 1) == []


WRITER = """
import sys
from pathlib import Path
from ivsearch.domain import Skipped
from ivsearch.store.catalog import Catalog
catalog = Catalog(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]))
for i in range(50):
    catalog.note_skipped([Skipped(Path(f"/{sys.argv[2]}/{i}"), "x")])
"""


def test_two_processes_lose_nothing(where: str | Path) -> None:
    """Nor do they get into each other's way when both find an empty database."""
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(where), name]) for name in ("a", "b")]
    assert [process.wait(300) for process in processes] == [0, 0]
    with closing(Catalog(where)) as catalog:
        assert len(catalog.skipped()) == 100
        assert told(catalog, "SELECT count(*) FROM identity") == [(1,)]


def test_a_new_catalog_waits_for_a_process_that_fills_it(tmp_path: Path) -> None:
    """To switch its log on, SQLite waits for nobody: its busy timeout does not hold there."""
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE theirs (x)")
    threading.Timer(0.5, lambda: (other.execute("ROLLBACK"), other.close())).start()
    with closing(Catalog(tmp_path / "catalog.db")) as catalog:
        assert catalog.spaces() == []


def test_a_catalog_that_cannot_be_opened_now_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"cannot be opened now: .*can be written to") as caught:
        Catalog(tmp_path / "no such folder" / "catalog.db")
    assert not isinstance(caught.value, LibraryDamaged)


def test_clips_of_a_media_are_found_by_index(sqlite_catalog: Catalog, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        (plan,) = connection.execute(
            "EXPLAIN QUERY PLAN SELECT clip_id FROM clip WHERE space_key = 'a' AND media_id IN ('b', 'c')"
        ).fetchall()
    assert "media_id=?" in plan[3]


@pytest.mark.parametrize(
    "filters",
    [
        Filters(kind=MediaKind.VIDEO),
        Filters(min_duration_s=1, max_duration_s=9),
        Filters(paths=("/videos/*",), kind=MediaKind.VIDEO),
        Filters(after=datetime(2020, 1, 1, tzinfo=UTC)),
    ],
)
def test_whether_a_few_clips_pass_is_asked_of_them_alone(sqlite_catalog: Catalog, store, filters: Filters) -> None:
    add(sqlite_catalog, store, [1, 2])
    asked: list[tuple[str, tuple]] = []
    clip_ids = [*ids_of(sqlite_catalog, 1), *ids_of(sqlite_catalog, 2)]
    listen = (sqlite_catalog.reader.engine, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    sa.event.listen(*listen)
    passing = sqlite_catalog.passing_clips(filters, clip_ids)
    sa.event.remove(*listen)
    assert passing == set(sqlite_catalog.matching_clips(SPACE, filters).tolist())
    looked_up = [(statement, given) for statement, given in asked if " IN (" in statement]
    assert len(looked_up) == 2
    with sqlite_catalog.reader.begin() as connection:
        for statement, given in looked_up:
            (plan, *_) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given).fetchall()
            assert re.search(r"SEARCH (clip USING INTEGER PRIMARY KEY|\w+ USING .*\(media_id=)", plan[3]), plan


def test_a_catalog_nobody_can_write_to_is_read(
    sqlite_catalog: Catalog, store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = add(sqlite_catalog, store, [1, 2])
    sqlite_catalog.close()
    access = os.access  # the user of this test may be root, who may write anywhere
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and access(path, mode))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    reader = Catalog(tmp_path / "catalog.db")
    assert set(reader.encodings(SPACE)) == {each.media.media_id for each in encoded}
    with pytest.raises(OSError, match=r"Errno 30. the catalog can only be read: .*catalog.db"):
        reader.note_skipped([Skipped(Path("/x"), "y")])
    reader.close()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
