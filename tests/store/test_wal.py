"""SQLite's log, written by SQLite itself and then spoiled."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ivsearch.store.engine import Database
from ivsearch.store.wal import FRAME_HEAD, HEADER_BYTES, keep_damaged, lost_commits

PAGE_BYTES = 4096
FRAME_BYTES = FRAME_HEAD.size + PAGE_BYTES


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Of twelve commits, left by a process that did not close the database; with frames of an earlier round behind."""
    path = tmp_path / "catalog.db"
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute("create table t (x)")
    for _ in range(20):
        with connection:
            connection.execute("insert into t values (randomblob(9000))")
    connection.execute("pragma wal_checkpoint(restart)")
    for _ in range(12):
        with connection:
            connection.execute("insert into t values (1)")
    for name in ("catalog.db", "catalog.db-wal"):
        (tmp_path / "left").mkdir(exist_ok=True)
        shutil.copy(tmp_path / name, tmp_path / "left" / name)
    connection.close()
    return tmp_path / "left" / "catalog.db-wal"


def rows_read(log: Path, folder: Path) -> int:
    """How many rows SQLite itself finds with that log."""
    shutil.copytree(log.parent, folder)
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        return int(connection.execute("select count(*) from t").fetchone()[0])


def test_a_sound_log_has_lost_nothing(log: Path, tmp_path: Path) -> None:
    assert lost_commits(log) == 0 and rows_read(log, tmp_path / "read") == 32
    assert lost_commits(tmp_path / "nowhere-wal") == 0
    log.write_bytes(b"")
    assert lost_commits(log) == 0


def test_what_sqlite_forgets_is_counted(log: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    good = log.read_bytes()
    frames = 12  # a commit each
    for number in range(30):
        blob = bytearray(good)
        at = rng.randrange(HEADER_BYTES + frames * FRAME_BYTES)
        blob[at] ^= 1 << rng.randrange(8)
        log.write_bytes(blob)
        lost = 32 - rows_read(log, tmp_path / f"read-{number}")
        if lost:  # the number of its checkpoint is read by nobody
            frame = max(0, (at - HEADER_BYTES) // FRAME_BYTES)
            # A flip in a frame's own salts or size hides that one commit from us, never those behind it.
            assert lost - 1 <= lost_commits(log) <= lost == frames - frame, at


def test_a_damaged_log_is_kept_before_sqlite_drops_it(log: Path) -> None:
    blob = bytearray(log.read_bytes())
    blob[HEADER_BYTES + 3 * FRAME_BYTES + 100] ^= 1
    log.write_bytes(blob)
    kept = log.with_name("catalog.db-wal.damaged")
    for _ in range(2):  # once, however often it is looked at
        assert keep_damaged(log) == (9, kept) and kept.read_bytes() == blob
    assert len(list(log.parent.glob("*.damaged*"))) == 1
    database = Database(log.with_name("catalog.db"))
    with database.reader.begin() as connection:
        assert connection.exec_driver_sql("select count(*) from t").scalar() == 23
    database.close()
    assert keep_damaged(log) is None and kept.read_bytes() == blob


def test_a_commit_that_was_being_written_is_none(log: Path) -> None:
    good = log.read_bytes()
    for whole in range(12):
        log.write_bytes(good[: HEADER_BYTES + whole * FRAME_BYTES + 1000])
        assert lost_commits(log) == 0
