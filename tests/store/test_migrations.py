"""From every older schema, with rows in it, to the newest: on both kinds of database, and when killed on the way."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ivsearch.domain import Clip, Media, MediaKind, Skipped, Space
from ivsearch.store.catalog import Catalog, Encoding, PathRow, Record
from ivsearch.store.schema import NEWEST, migrations_folder
from ivsearch.store.tables import FOUND_BY, METADATA

A, B = "a" * 32, "b" * 32
SPACE = Space("mini", "0123456789abcdef", 16)
K = SPACE.key

# What each revision made room for, as its own code wrote it: {revision: [(table, row)]}. A new revision needs its rows
# here and nothing else. No row is ever changed: it is what was written then.
ROWS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "0001": [
        (
            "media",
            {
                "media_id": A,
                "kind": "video",
                "duration_s": 12.5,
                "width": 640,
                "height": 360,
                "codec": "h264",
                "size_bytes": 5_000_000_000,
                "fps": 29.97,
                "recorded_at_s": 1_588_334_400.0,
                "warnings": '["a", "ü"]',
            },
        ),
        (
            "media",
            {
                "media_id": B,
                "kind": "image",
                "duration_s": 0.0,
                "width": 10,
                "height": 20,
                "codec": "jpeg",
                "size_bytes": 7,
                "fps": None,
                "recorded_at_s": None,
                "warnings": "[]",
            },
        ),
        (
            "path",
            {
                "path": "/v/世界 %.mp4",
                "media_id": A,
                "size_bytes": 5_000_000_000,
                "mtime_ns": 1_600_000_000_000_000_001,
            },
        ),
        # The byte 0xE9 of a name that is no UTF-8.
        ("path", {"path": "/v/caf\U0010dce9.jpg", "media_id": B, "size_bytes": 7, "mtime_ns": -1}),
        ("space", {"space_key": K, "encoder": "mini", "revision": "0123456789abcdef", "dim": 16}),
        (
            "encoding",
            {
                "media_id": A,
                "space_key": K,
                "sampling": "fps=1 gate=on",
                "segment": "000001.seg",
                "offset_bytes": 6_000_000_000,
                "size_bytes": 900,
                "n_samples": 12,
                "n_frames": 9,
                "n_clips": 2,
            },
        ),
        *(
            (
                "clip",
                {
                    "clip_id": clip_id,
                    "space_key": K,
                    "media_id": A,
                    "start_s": start_s,
                    "end_s": start_s + 6.25,
                    "first_frame": first,
                    "n_frames": 4,
                },
            )
            for clip_id, start_s, first in ((7, 0.0, 0), (9, 6.25, 5))
        ),
        ("skipped", {"path": "/v/bad.mp4", "reason": "no video stream"}),
    ],
    "0002": [
        ("clip_removed", {"space_key": K, "version": 3, "clip_id": 5}),
        ("clip_removed", {"space_key": K, "version": 4, "clip_id": 6}),
        ("loose_media", {"media_id": B}),
    ],
    "0003": [
        (
            "text_track",
            {
                "track_id": 4,
                "media_id": A,
                "source": "subtitle",
                "language": "de",
                "origin": "/v/世界 %.srt",
                "stream": -1,
                "size_bytes": 99,
                "mtime_ns": 5,
                "n_lines": 1,
                "n_tokens": 2,
            },
        ),
        (
            "text_line",
            {"line_id": 8, "track_id": 4, "start_s": 1.5, "end_s": 2.5, "text": "Grüß Gott", "tokens": "grüß gott"},
        ),
        ("text_reading", {"media_id": A, "kind": "subtitle", "reading": "1"}),
    ],
}
# What a revision itself has put into a table of one row, and the code of that revision then changed.
CHANGES = {"0002": [f"UPDATE clip_version SET version = 4, last_id = 9, trimmed = 2 WHERE space_key = '{K}'"]}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    return config


REVISIONS = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def test_the_last_migration_makes_the_newest_schema() -> None:
    assert ScriptDirectory.from_config(_config()).get_current_head() == NEWEST


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    if request.param == "sqlite":
        return tmp_path / "catalog.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


def engine_of(where: str | Path) -> sa.Engine:
    return sa.create_engine(where if isinstance(where, str) else f"sqlite:///{where}", poolclass=sa.NullPool)


def build(where: str | Path, revision: str) -> list[tuple[str, dict[str, Any]]]:
    """A database as it was left at ``revision``, and the rows that are in it."""
    with engine_of(where).begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    there = []
    with engine_of(where).begin() as connection:
        for each in REVISIONS[: REVISIONS.index(revision) + 1]:
            for table, row in ROWS[each]:
                names = ", ".join(row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({values})"), row)
                there.append((table, row))
                if each == "0001" and table == "space" and revision != "0001":
                    # Later schemas count the changes of every space that is added.
                    connection.exec_driver_sql(f"INSERT INTO clip_version VALUES ('{K}', 1, 0, 0)")
            for change in CHANGES.get(each, []):
                connection.exec_driver_sql(change)
    return there


def found(where: str | Path, rows: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Those of the rows that the database still holds, each value as it was."""
    still = []
    with engine_of(where).connect() as connection:
        for table, row in rows:
            names = ", ".join(row)
            for each in connection.execute(sa.text(f"SELECT {names} FROM {table}")).mappings():
                if dict(each) == row:
                    still.append((table, row))
    return still


def shape(where: str | Path) -> dict:
    """Every table with its columns, indexes and keys, as the database says."""
    inspector = sa.inspect(engine_of(where))
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)],
            sorted(str(index["name"]) for index in inspector.get_indexes(table)),
            sorted(str(key["name"]) for key in inspector.get_foreign_keys(table)),
        )
        for table in sorted(inspector.get_table_names())
    }


def test_every_revision_has_rows_here() -> None:
    assert list(ROWS) == REVISIONS


def test_migrations_build_what_the_tables_say(where: str | Path) -> None:
    Catalog(where).close()
    with engine_of(where).connect() as connection:
        opts = {"include_object": lambda _each, name, *_: not (name or "").startswith(FOUND_BY)}
        assert compare_metadata(MigrationContext.configure(connection, opts=opts), METADATA) == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_of_every_older_schema_survive(where: str | Path, revision: str) -> None:
    there = build(where, revision)
    assert len({str(row) for row in there}) == len(there)
    with closing(Catalog(where)) as catalog:
        assert found(where, there) == there
        assert catalog.spaces() == [SPACE]
        assert catalog.media([A, B]) == {
            A: Media(
                A,
                MediaKind.VIDEO,
                12.5,
                640,
                360,
                "h264",
                5_000_000_000,
                29.97,
                datetime(2020, 5, 1, 12, tzinfo=UTC),
                ("a", "ü"),
            ),
            B: Media(B, MediaKind.IMAGE, 0.0, 10, 20, "jpeg", 7),
        }
        assert catalog.paths() == [
            PathRow(Path("/v/caf\udce9.jpg"), B, 7, -1),
            PathRow(Path("/v/世界 %.mp4"), A, 5_000_000_000, 1_600_000_000_000_000_001),
        ]
        record = Record("000001.seg", 6_000_000_000, 900)
        assert catalog.encodings(SPACE) == {A: Encoding(A, "fps=1 gate=on", record, 12, 9, 2)}
        assert catalog.clips_of(SPACE) == [Clip(7, A, 0.0, 6.25, 0, 4), Clip(9, A, 6.25, 12.5, 5, 4)]
        assert catalog.skipped() == [Skipped(Path("/v/bad.mp4"), "no video stream")]
        assert list(catalog.complaints()) == []
        assert not catalog.is_complete(SPACE), "the image has no vectors yet"
        # What it counts goes on where it was.
        stamp = catalog.clip_stamp(SPACE)
        assert stamp.last_id == 9
        assert stamp.version == (1 if revision == "0001" else 4)
        catalog.remove_paths([Path("/v/世界 %.mp4")])
        changes = catalog.clip_changes(SPACE, stamp)
        assert changes is not None
        assert sorted(changes.removed.tolist()) == [7, 9]


# Upgrades, and is killed before the n-th statement that writes.
KILLED = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from ivsearch.store.catalog import Catalog
for at in map(int, sys.argv[2:]):
    pid = os.fork()
    if pid == 0:
        seen = 0
        @sa.event.listens_for(sa.Engine, "before_cursor_execute")
        def kill(connection, cursor, statement, *_):
            global seen
            seen += statement.lstrip().split()[0].upper() in ("CREATE", "INSERT", "ALTER", "UPDATE")
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
        Catalog(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]))
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_upgrade_that_is_killed_leaves_the_old_schema(where: str | Path, revision: str) -> None:
    there, before = build(where, revision), shape(where)
    kills = ["1", "4", "7"]
    process = subprocess.run([sys.executable, "-c", KILLED, str(where), *kills], capture_output=True, text=True)
    assert process.stdout.split() == ["9"] * len(kills), process.stderr
    assert shape(where) == before
    assert found(where, there) == there
    with closing(Catalog(where)) as catalog:
        assert len(catalog.clips_of(SPACE)) == 2
    assert found(where, there) == there
    assert shape(where) != before
