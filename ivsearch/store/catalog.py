"""The Catalog: what is known about Media, their paths, Encodings and Clips. SQL stays in this folder.

It is the source of truth: a Media is in the Library when its rows are committed here, not before.
SQLite in WAL mode by default, or PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ivsearch.domain import Clip, Filters, Media, MediaId, Skipped, Space
from ivsearch.store import changes, checks, loose_media, matching, schema, tables
from ivsearch.store.changes import ClipChanges, ClipStamp
from ivsearch.store.engine import Connections, Database
from ivsearch.store.rows import (
    MAX_PARAMETERS,
    Encoded,
    Encoding,
    PathRow,
    Record,
    Totals,
    clip_of,
    clip_row,
    encoding_of,
    encoding_row,
    media_of,
    media_row,
    parts,
    path_of,
    path_row,
)
from ivsearch.store.totals import read_totals
from ivsearch.store.upsert import insert, upsert

__all__ = [
    "MAX_PARAMETERS",
    "Catalog",
    "ClipChanges",
    "ClipStamp",
    "Encoded",
    "Encoding",
    "PathRow",
    "Record",
    "Totals",
]


class Catalog:
    """Opened by path of an SQLite file or by SQLAlchemy URL. Use ``close()`` when done."""

    def __init__(self, url: str | Path) -> None:
        """Creates the tables or migrates them. Raises LibraryError if that cannot be done, LibraryDamaged if what is
        there is no sound database, LibraryTooNew if a newer ivsearch made it, UsageError for a URL of no use."""
        self._database = Database(url)
        self.url = self._database.url
        self.file = self._database.file
        self.reader: Connections = self._database.reader
        self.writer: Connections = self._database.writer
        try:
            self._database.check_encoding()
            schema.upgrade(self.reader, self.writer)  # does nothing when the schema is the newest
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._database.close()

    # ---- whose it is ----

    def library_id(self) -> str:
        """Of the library it belongs to; empty while it belongs to none."""
        with self.reader.begin() as connection:
            return connection.scalar(sa.select(tables.identity.c.library_id)) or ""

    def claim(self, library_id: str) -> str:
        """Makes it belong to a library, unless it belongs to one already. Returns whose it is then."""
        mine = tables.identity.c.library_id
        if owner := self.library_id():
            return owner
        with self.writer.begin() as connection:
            connection.execute(sa.update(tables.identity).where(mine.is_(None)).values(library_id=library_id))
            return str(connection.scalar(sa.select(mine)))

    def only_writer(self) -> AbstractContextManager[None]:
        """Held for a whole run, beside the lock of the library's folder. Raises LibraryBusy when another has it."""
        return self._database.only_writer()

    def snapshot(self) -> AbstractContextManager[None]:
        """All that this thread reads inside is of one state, whatever writers do meanwhile."""
        return self.reader.held()

    # ---- Spaces ----

    def add_space(self, space: Space) -> None:
        row = {"space_key": space.key, "encoder": space.encoder, "revision": space.revision, "dim": space.dim}
        with self.writer.begin() as connection:
            connection.execute(upsert(connection, tables.space), [row])
            count = {"space_key": space.key, "version": 0, "last_id": 0, "trimmed": 0}
            connection.execute(insert(connection, tables.clip_version).on_conflict_do_nothing(), [count])

    def drop_space(self, space: Space) -> None:
        """Forgets a Space with all its Encodings and Clips. Should it come back, its changes are counted on."""
        with self.writer.begin() as connection:
            changes.count_change(connection, tables.clip_version.c.space_key == space.key)
            changes.forget(connection, space)
            for table in (tables.clip, tables.encoding, tables.space):
                connection.execute(sa.delete(table).where(table.c.space_key == space.key))

    def spaces(self) -> list[Space]:
        with self.reader.begin() as connection:
            rows = connection.execute(sa.select(tables.space).order_by(tables.space.c.space_key))
            return [Space(row.encoder, row.revision, row.dim) for row in rows]

    def is_complete(self, space: Space) -> bool:
        """Whether every Media that some path holds has an Encoding in the Space."""
        # An Encoding is of a Media that is there, and one a Space: where there are as many, none is missing.
        here = tables.encoding.c.space_key == space.key
        encoded = sa.select(sa.func.count()).where(here)
        media = sa.select(sa.func.count()).select_from(tables.media)
        lost = loose_media.pathless()
        encoded_lost = encoded.where(tables.encoding.c.media_id.in_(lost))
        media_lost = media.where(tables.media.c.media_id.in_(lost))
        counts = [each.scalar_subquery() for each in (encoded, encoded_lost, media, media_lost)]
        with self.reader.begin() as connection:
            encoded_now, encoded_gone, media_now, media_gone = connection.execute(sa.select(*counts)).one()
        return bool(encoded_now - encoded_gone == media_now - media_gone)

    # ---- Media and paths ----

    def add(self, space: Space, encoded: Sequence[Encoded]) -> None:
        """Commits newly encoded Media; what they had before in this Space is replaced. This is what "done" means."""
        if not encoded:
            return
        ids = [each.media.media_id for each in encoded]
        with self.writer.begin() as connection:
            connection.execute(upsert(connection, tables.media), [media_row(each.media) for each in encoded])
            self._link(connection, [path for each in encoded for path in each.paths])
            self._drop_encodings(connection, space, ids)
            connection.execute(sa.insert(tables.encoding), [encoding_row(space, each.encoding) for each in encoded])
            clips = [clip_row(space, each.media.media_id, span) for each in encoded for span in each.spans]
            if clips:
                connection.execute(sa.insert(tables.clip), clips)
                changes.count_added(connection, space)

    def link(self, paths: Sequence[PathRow]) -> None:
        """Notes that these paths hold these (known) Media."""
        if paths:
            with self.writer.begin() as connection:
                self._link(connection, paths)

    def _link(self, connection: sa.Connection, paths: Sequence[PathRow]) -> None:
        if not paths:
            return
        rows = [path_row(path) for path in paths]
        loose_media.note_replaced(connection, paths)
        connection.execute(upsert(connection, tables.path), rows)
        for some in parts([row["path"] for row in rows]):
            connection.execute(sa.delete(tables.skipped).where(tables.skipped.c.path.in_(some)))

    def paths(self) -> list[PathRow]:
        """Every path, sorted."""
        with self.reader.begin() as connection:
            rows = connection.execute(sa.select(tables.path)).all()
        return sorted((path_of(row) for row in rows), key=lambda row: row.path)

    def paths_below(self, roots: Iterable[Path]) -> list[PathRow]:
        """The paths that are one of these files or below one of these folders, sorted."""
        # By their bytes, as every database can; a slash stands before "0" there.
        path = tables.path.c.path if self.url.get_backend_name() == "sqlite" else tables.path.c.path.collate("C")
        found: set[PathRow] = set()
        with self.reader.begin() as connection:
            for root in map(str, roots):
                below = root.rstrip("/")
                inside = sa.and_(path >= f"{below}/", path < f"{below}0")
                rows = connection.execute(sa.select(tables.path).where(sa.or_(tables.path.c.path == root, inside)))
                found.update(path_of(row) for row in rows)
        return sorted(found, key=lambda row: row.path)

    def remove_paths(self, paths: Iterable[Path]) -> list[MediaId]:
        """Forgets paths, and the Media that no path holds any more, in one transaction. Returns those Media."""
        path, names = tables.path.c, [str(path) for path in paths]
        with self.writer.begin() as connection:
            loose_media.note_removed(connection, names)
            for some in parts(names):
                connection.execute(sa.delete(tables.path).where(path.path.in_(some)))
                connection.execute(sa.delete(tables.skipped).where(tables.skipped.c.path.in_(some)))
            return loose_media.forget(connection)

    def pathless_media(self) -> list[MediaId]:
        """Media that lost their paths and go at the end of a run, unless it finds them elsewhere."""
        with self.reader.begin() as connection:
            return sorted(connection.scalars(loose_media.pathless()))

    def drop_encodings(self, space: Space, media_ids: Sequence[MediaId]) -> None:
        """Forgets the vectors of these Media, so that the next run makes them anew. For repair: what else became of
        their rows is not known, so indexes are compared with all of them."""
        with self.writer.begin() as connection:
            self._drop_encodings(connection, space, media_ids)
            # Also where there was no clip any more.
            changes.count_change(connection, tables.clip_version.c.space_key == space.key)
            changes.forget(connection, space)

    def _drop_encodings(self, connection: sa.Connection, space: Space, media_ids: Sequence[MediaId]) -> None:
        clip, encoding = tables.clip.c, tables.encoding.c
        for some in parts(media_ids):
            changes.drop_clips(connection, sa.and_(clip.space_key == space.key, clip.media_id.in_(some)))
            connection.execute(
                sa.delete(tables.encoding).where(encoding.space_key == space.key, encoding.media_id.in_(some))
            )

    def media(self, media_ids: Sequence[MediaId]) -> dict[MediaId, Media]:
        found: dict[MediaId, Media] = {}
        with self.reader.begin() as connection:
            for some in parts(media_ids):
                rows = connection.execute(sa.select(tables.media).where(tables.media.c.media_id.in_(some)))
                found |= {row.media_id: media_of(row) for row in rows}
        return found

    def media_paths(self, media_ids: Sequence[MediaId]) -> dict[MediaId, list[Path]]:
        """The paths that hold each Media, sorted."""
        return {media_id: [row.path for row in rows] for media_id, rows in self.path_rows(media_ids).items()}

    def path_rows(self, media_ids: Sequence[MediaId]) -> dict[MediaId, list[PathRow]]:
        """As ``media_paths``, with what each file was like when last looked at."""
        found: dict[MediaId, list[PathRow]] = {}
        with self.reader.begin() as connection:
            for some in parts(media_ids):
                for row in connection.execute(sa.select(tables.path).where(tables.path.c.media_id.in_(some))):
                    found.setdefault(row.media_id, []).append(path_of(row))
        # Not by the database: each sorts texts in a way of its own.
        return {media_id: sorted(rows, key=lambda row: row.path) for media_id, rows in found.items()}

    def matching_media(self, filters: Filters) -> set[MediaId] | None:
        """The Media that pass; None when there is no filter at all.

        A path glob without a slash is matched with the file name, one that begins with a slash with the whole path, any
        other with the end of the path.
        """
        if filters == Filters():
            return None
        with self.reader.begin() as connection:
            return matching.matching_media(connection, filters)

    def matching_clips(self, space: Space, filters: Filters, after_id: int = 0) -> NDArray[np.int64]:
        """Ids above ``after_id`` of the Clips of all Media that pass, (n,) int64, ascending."""
        with self.reader.begin() as connection:
            return matching.matching_clips(connection, space, filters, after_id)

    def passing_clips(self, filters: Filters, clip_ids: Sequence[int]) -> set[int]:
        """Those of the Clips whose Media pass."""
        with self.reader.begin() as connection:
            return matching.passing_clips(connection, filters, clip_ids)

    # ---- Encodings and Clips ----

    def encodings(self, space: Space, media_ids: Sequence[MediaId] | None = None) -> dict[MediaId, Encoding]:
        """Of these Media, or of all."""
        table = tables.encoding
        query = sa.select(table).where(table.c.space_key == space.key)
        found: dict[MediaId, Encoding] = {}
        with self.reader.begin() as connection:
            for some in [None] if media_ids is None else parts(media_ids):
                rows = connection.execute(query if some is None else query.where(table.c.media_id.in_(some)))
                found |= {row.media_id: encoding_of(row) for row in rows}
        return found

    def encodings_after(self, space: Space, after_media_id: MediaId, limit: int) -> dict[MediaId, Encoding]:
        """The next ``limit`` by the ids of their Media: all of a large library, page by page."""
        encoding = tables.encoding.c
        query = sa.select(tables.encoding).where(encoding.space_key == space.key, encoding.media_id > after_media_id)
        with self.reader.begin() as connection:
            rows = connection.execute(query.order_by(encoding.media_id).limit(limit))
            return {row.media_id: encoding_of(row) for row in rows}

    def encodings_in(self, space: Space, segment: str) -> dict[MediaId, Encoding]:
        """Those whose records are in that segment."""
        encoding = tables.encoding.c
        query = sa.select(tables.encoding).where(encoding.space_key == space.key, encoding.segment == segment)
        with self.reader.begin() as connection:
            return {row.media_id: encoding_of(row) for row in connection.execute(query)}

    def bytes_by_segment(self, space: Space) -> dict[str, int]:
        """What the records of all Encodings of a Space take, by their segments."""
        encoding = tables.encoding.c
        query = sa.select(encoding.segment, sa.func.sum(encoding.size_bytes)).where(encoding.space_key == space.key)
        with self.reader.begin() as connection:
            return {segment: int(size) for segment, size in connection.execute(query.group_by(encoding.segment))}

    def move_records(self, space: Space, records: Mapping[MediaId, Record]) -> None:
        """Notes that the vectors of these Media are elsewhere now, in one transaction."""
        row = tables.encoding.c
        here = (row.space_key == space.key, row.media_id == sa.bindparam("of_media"))
        moved = (
            sa.update(tables.encoding).where(*here).values(segment=sa.bindparam("to"), offset_bytes=sa.bindparam("at"))
        )
        places = [
            {"of_media": media_id, "to": record.segment, "at": record.offset_bytes}
            for media_id, record in records.items()
        ]
        if places:
            with self.writer.begin() as connection:
                connection.execute(moved, places)

    def vector_bytes(self) -> int:
        """What the records of all Encodings take."""
        with self.reader.begin() as connection:
            return int(connection.scalar(sa.select(sa.func.sum(tables.encoding.c.size_bytes))) or 0)

    def clip_stamp(self, space: Space) -> ClipStamp:
        """Read in constant time, however many Clips there are."""
        with self.reader.begin() as connection:
            return changes.read_stamp(connection, space)

    def clip_changes(self, space: Space, since: ClipStamp) -> ClipChanges | None:
        """What to remove from and add to an index that stands at ``since``. None when that cannot be told: of another
        catalog, newer than this one (put back from a copy), or older than the log of removals."""
        with self.reader.begin() as connection:
            return changes.read_changes(connection, space, since)

    def trim_changes(self, space: Space, upto: ClipStamp) -> None:
        """Forgets the removals that an index saved at ``upto`` knows. One that is older is then compared in full."""
        with self.writer.begin() as connection:
            changes.trim(connection, space, upto)

    def clip_ids(self, space: Space, media_ids: Iterable[MediaId] | None = None) -> list[int]:
        """Ids of the Clips of these Media, or of all, ascending."""
        clip = tables.clip.c
        query = sa.select(clip.clip_id).where(clip.space_key == space.key)
        ids: list[int] = []
        with self.reader.begin() as connection:
            for some in [None] if media_ids is None else parts(sorted(media_ids)):
                ids += connection.scalars(query if some is None else query.where(clip.media_id.in_(some)))
        return sorted(ids)

    def clips(self, clip_ids: Sequence[int]) -> dict[int, Clip]:
        found: dict[int, Clip] = {}
        with self.reader.begin() as connection:
            for some in parts([clip_id for clip_id in clip_ids if abs(clip_id) <= tables.LARGEST]):
                rows = connection.execute(sa.select(tables.clip).where(tables.clip.c.clip_id.in_(some)))
                found |= {row.clip_id: clip_of(row) for row in rows}
        return found

    def clips_of(self, space: Space, media_ids: Sequence[MediaId] | None = None) -> list[Clip]:
        """Clips of these Media, or of all, in the order of media and time."""
        clip = tables.clip.c
        query = sa.select(tables.clip).where(clip.space_key == space.key)
        found: list[Clip] = []
        with self.reader.begin() as connection:
            for some in [None] if media_ids is None else parts(media_ids):
                rows = connection.execute(query if some is None else query.where(clip.media_id.in_(some)))
                found += [clip_of(row) for row in rows]
        return sorted(found, key=lambda each: (each.media_id, each.start_s, each.clip_id))

    def clips_after(self, space: Space, after_id: int, limit: int) -> list[Clip]:
        """The next ``limit`` Clips with ids above ``after_id``, by id: all of a large library, page by page."""
        clip = tables.clip.c
        query = sa.select(tables.clip).where(clip.space_key == space.key, clip.clip_id > after_id)
        with self.reader.begin() as connection:
            return [clip_of(row) for row in connection.execute(query.order_by(clip.clip_id).limit(limit))]

    # ---- Skipped files, totals, health ----

    def note_skipped(self, skipped: Sequence[Skipped]) -> None:
        if skipped:
            rows = [{"path": str(each.path), "reason": each.reason} for each in skipped]
            with self.writer.begin() as connection:
                connection.execute(upsert(connection, tables.skipped), rows)

    def forget_skipped(self, paths: Iterable[Path]) -> None:
        with self.writer.begin() as connection:
            for some in parts([str(path) for path in paths]):
                connection.execute(sa.delete(tables.skipped).where(tables.skipped.c.path.in_(some)))

    def skipped(self) -> list[Skipped]:
        with self.reader.begin() as connection:
            rows = connection.execute(sa.select(tables.skipped)).all()
        return sorted((Skipped(Path(row.path), row.reason) for row in rows), key=lambda each: each.path)

    def totals(self, space: Space | None) -> Totals:
        """Of the whole Library; frames and Clips are those of one Space."""
        with self.reader.begin() as connection:
            return read_totals(connection, space)

    def size_bytes(self) -> int:
        """On disk, with indexes and what SQLite has beside its file."""
        if self.url.get_backend_name() == "postgresql":
            with self.reader.begin() as connection:
                return connection.scalar(sa.select(sa.func.pg_database_size(sa.func.current_database()))) or 0
        file = self._database.file
        return sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*") if path.is_file())

    def complaints(self) -> Iterator[str]:
        """What the database itself finds wrong; nothing when all is well."""
        with self.reader.begin() as connection:
            if connection.dialect.name == "sqlite":
                yield from checks.sqlite_complaints(connection)
            else:
                yield from checks.postgresql_complaints(connection)
            yield from checks.unreadable_tables(connection)

    def drop_dangling(self) -> int:
        """Deletes rows that point at missing ones (SQLite); how many. For repair, where nothing worse is wrong."""
        with self.writer.begin() as connection:
            dropped = checks.drop_dangling(connection)
        for space in self.spaces():
            self.drop_encodings(space, [])  # indexes may hold clips that went
        return dropped
