"""What can still be read of a damaged SQLite catalog, brought row by row into a new one.

Encodings, clips and Spaces are not: the vectors say all of them, and say it with checksums. What only the catalog knows
is which file holds which Media, which files could not be read, and the words in the footage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from ivsearch.errors import LibraryDamaged
from ivsearch.store import tables
from ivsearch.store.catalog import Catalog
from ivsearch.store.files import set_aside, set_aside_and_replace, sync_file
from ivsearch.store.rows import media_of, path_of
from ivsearch.store.text_soundness import forget_readings
from ivsearch.store.texts import EMBEDDED
from ivsearch.store.upsert import insert

# As they point at each other.
TABLES = (
    tables.media,
    tables.path,
    tables.skipped,
    tables.text_track,
    tables.text_line,
    tables.text_reading,
)
POINTERS = {tables.text_line.name: "track_id"}
NOUNS: Mapping[str, Callable[[Any], object]] = {tables.media.name: media_of, tables.path.name: path_of}
ROWS_AT_A_TIME = 1000
LEAST, MOST = -(2**62), 2**62
# Looks at ranges of rows, one after another, that find none: a damaged page of a hundred rows takes about two hundred.
LOOKS = 2000


@dataclass(frozen=True, slots=True)
class Renewed:
    """``aside``: where the old files are. ``n_paths`` and ``n_lines`` of words are in the new catalog;
    ``lacks_readings``: it cannot be told which Media words were read in."""

    aside: tuple[Path, ...]
    n_paths: int
    n_lines: int
    lacks_readings: bool


def renew(file: Path) -> Renewed:
    """Puts a new catalog with what can be read of the old one in its place, and sets that aside. Until the new one is
    complete the old one stays: whoever is stopped here begins again. Only for the one writer."""
    fresh = file.with_name(f"{file.name}.fresh")
    for path in (fresh, *_logs_of(fresh)):
        path.unlink(missing_ok=True)
    with closing(Catalog(fresh)) as catalog:
        kept, torn = salvage(file, catalog)
        if tables.text_track.name in torn:
            # A video without a line leaves no track: whether one is missing cannot be told.
            forget_readings(catalog, EMBEDDED)
    sync_file(fresh)
    # First: SQLite would take them for those of the new one.
    aside = [set_aside(path) for path in _logs_of(file) if path.exists()]
    aside.append(set_aside_and_replace(file, fresh))
    lacks_readings = not torn.isdisjoint({tables.text_track.name, tables.text_reading.name})
    return Renewed(tuple(aside), kept[tables.path.name], kept[tables.text_line.name], lacks_readings)


def salvage(damaged: Path, fresh: Catalog) -> tuple[Mapping[str, int], Set[str]]:
    """Reads what can be read in ``damaged`` into the new Catalog ``fresh``: how many rows of which table that were, and
    the tables of which some row or page was no good. Media that no path holds any more go at the end of the next run
    that does not find them."""
    kept, torn = dict.fromkeys((table.name for table in TABLES), 0), set()
    known: dict[str, set[Any]] = {"media_id": set(), "track_id": set()}
    with closing(sqlite3.connect(damaged, isolation_level=None)) as connection:
        connection.text_factory = bytes
        try:
            connection.execute("PRAGMA cell_size_check=ON")
            tables_there = {name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            # What stands in the log only: it is set aside, too.
            with suppress(sqlite3.DatabaseError):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            return kept, set(kept)  # not even a table of contents
        for table in TABLES:
            if table.name not in tables_there:
                continue  # of an older schema
            rows = _Rows(connection, table)
            for some in _batches(rows.fitting(known)):
                with fresh.writer.begin() as writing:
                    writing.execute(insert(writing, table).on_conflict_do_nothing(), some)
                kept[table.name] += len(some)
            if rows.torn:
                torn.add(table.name)
    media = tables.media.c.media_id
    pathless = sa.select(media).where(media.not_in(sa.select(tables.path.c.media_id)))
    with fresh.writer.begin() as writing:
        writing.execute(sa.insert(tables.loose_media).from_select(["media_id"], pathless))
    return kept, torn


def _logs_of(file: Path) -> list[Path]:
    return [file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm")]


def _fits(table: sa.Table, row: dict[str, Any], known: dict[str, set[Any]]) -> bool:
    """Whether the row makes sense and what it points at is there; notes what others may point at."""
    if table is tables.media or table is tables.text_track:
        key = "media_id" if table is tables.media else "track_id"
        if table is tables.text_track and row["media_id"] not in known["media_id"]:
            return False
        if not _makes_sense(table, row):
            return False
        known[key].add(row[key])
        return True
    pointer = POINTERS.get(table.name, "media_id")
    return (pointer not in row or row[pointer] in known[pointer]) and _makes_sense(table, row)


def _makes_sense(table: sa.Table, row: dict[str, Any]) -> bool:
    try:
        NOUNS.get(table.name, str)(SimpleNamespace(**row))
    except LibraryDamaged:
        return False
    return True


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == ROWS_AT_A_TIME:
            yield some
            some = []
    if some:
        yield some


class _Rows:
    """The rows of one table, around what is damaged in it. ``torn``: whether anything was."""

    def __init__(self, connection: sqlite3.Connection, table: sa.Table) -> None:
        self._connection = connection
        self._table = table
        self._looks = LOOKS
        self.torn = False

    def fitting(self, known: dict[str, set[Any]]) -> Iterator[dict[str, Any]]:
        """Those that make sense and point at what is there."""
        for row in self.read():
            if _fits(self._table, row, known):
                yield row
            else:
                self.torn = True

    def read(self) -> Iterator[dict[str, Any]]:
        """In no order. A range that breaks off is read from its other end, and what is left in halves."""
        ranges = [(LEAST, MOST)]
        while ranges:
            low, high = ranges.pop()
            for order, step in (("ASC", 1), ("DESC", -1)):
                for rowid, row in self._range(low, high, order):
                    # One that comes out of turn stands where it does not belong.
                    if not low <= rowid <= high:
                        self.torn = True
                        break
                    low, high = (rowid + 1, high) if step > 0 else (low, rowid - 1)
                    self._looks = LOOKS
                    if row is not None:
                        yield row
                else:
                    if self._whole:
                        break
            else:
                if low < high and self._looks > 0:
                    middle = (low + high) // 2
                    ranges += [(middle + 1, high), (low, middle)]

    def _range(self, low: int, high: int, order: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Rows with their numbers, None for one that makes no sense, up to the first that cannot be read; ``_whole``
        says afterwards whether that was the end."""
        columns = ", ".join(f'"{column.name}"' for column in self._table.columns)
        query = (
            f'SELECT rowid, {columns} FROM "{self._table.name}" NOT INDEXED '
            f"WHERE rowid BETWEEN ? AND ? ORDER BY rowid {order}"
        )
        self._looks -= 1
        self._whole = False
        try:
            for rowid, *values in self._connection.execute(query, (low, high)):
                row = self._row(values)
                self.torn = self.torn or row is None
                yield rowid, row
            self._whole = True
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # the message may quote the file
            self.torn = True

    def _row(self, values: list[Any]) -> dict[str, Any] | None:
        """None where a value is not of its column's kind, or a text no UTF-8."""
        row = {}
        for column, value in zip(self._table.columns, values, strict=True):
            if isinstance(value, bytes):
                try:
                    value = value.decode()
                except UnicodeDecodeError:
                    return None
            kind = column.type.python_type if not isinstance(column.type, tables.PathText) else str
            kinds = (int, float) if kind is float else (kind,)
            if not (value is None and column.nullable) and not isinstance(value, kinds):
                return None
            row[column.name] = value
        return row
