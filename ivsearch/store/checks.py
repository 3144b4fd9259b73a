"""What a database finds wrong with itself, and what its rows say about each other."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from ivsearch.errors import LibraryDamaged
from ivsearch.store import tables
from ivsearch.store.engine import NO_TEXT
from ivsearch.store.rows import clip_of, encoding_of, media_of, path_of

NOUNS = {"media": media_of, "path": path_of, "encoding": encoding_of, "clip": clip_of}
ROWS_AT_A_TIME = 10_000
UNINDEXED_LINES = "SELECT count(*) FROM text_line WHERE line_id NOT IN (SELECT id FROM text_index_docsize)"
INDEXED_NO_LINES = "SELECT count(*) FROM text_index_docsize WHERE id NOT IN (SELECT line_id FROM text_line)"


def unreadable_tables(connection: sa.Connection) -> Iterator[str]:
    """Reads every row of every table: SQLite hands out what a flipped bit made, and Python cannot read every text."""
    for table in tables.METADATA.sorted_tables:
        make = NOUNS.get(table.name, tuple)
        try:
            for row in connection.execute(sa.select(table), execution_options={"yield_per": ROWS_AT_A_TIME}):
                make(row)
        except LibraryDamaged as error:
            yield str(error)
        except sa.exc.OperationalError as error:
            if NO_TEXT not in str(error.orig):
                raise
            yield f"catalog: a row of {table.name} cannot be read: {error.orig}; `ivsearch repair` mends it"


def sqlite_complaints(connection: sa.Connection) -> Iterator[str]:
    for (text,) in connection.exec_driver_sql("PRAGMA integrity_check").all():
        if text != "ok":
            yield f"catalog: {text}"
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check").all():
        yield f"catalog: row {row[1]} of {row[0]} {DANGLING} of {row[2]}"
    # "integrity-check" of FTS5 would read the words, too, but it is written as an insert, and readers cannot.
    lost, gone = (connection.exec_driver_sql(query).scalar_one() for query in (UNINDEXED_LINES, INDEXED_NO_LINES))
    if lost or gone:
        yield f"catalog: the full-text index lacks {lost} lines and has {gone} that are gone"


DANGLING, UNLISTED = "points at a missing row", "missing from index"


def drop_dangling(connection: sa.Connection) -> int:
    """SQLite: makes its indexes anew and deletes rows that point at missing ones; how many those were."""
    connection.exec_driver_sql("REINDEX")
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    for table, rowid, *_ in rows:
        connection.exec_driver_sql(f'DELETE FROM "{table}" WHERE rowid = ?', (rowid,))
    return len(rows)


def postgresql_complaints(connection: sa.Connection) -> Iterator[str]:
    """The server checks foreign keys as rows are written, unless it is told not to, as when a dump is put back."""
    for table in tables.METADATA.sorted_tables:
        for key in table.foreign_keys:
            there = sa.exists().where(key.column == key.parent)
            lost = connection.scalar(sa.select(sa.func.count()).select_from(table).where(~there)) or 0
            if lost:
                yield f"catalog: a row of {table.name} points at a missing row of {key.column.table.name} ({lost} such)"
