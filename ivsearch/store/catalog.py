"""The Catalog: what is known about Media, their paths, Encodings and Clips. The only SQL of ivsearch.

It is the source of truth: a Media is in the Library when its rows are committed here, not before.
SQLite in WAL mode by default; any SQLAlchemy URL works.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql, sqlite

from ivsearch.clips import Span
from ivsearch.domain import Clip, Filters, Media, MediaId, MediaKind, Skipped, Space
from ivsearch.errors import LibraryDamaged, LibraryError, UsageError
from ivsearch.store import schema, tables

# Databases limit the number of parameters of a statement; SQLite's own limit was 999 for long.
MAX_PARAMETERS = 900
BACKENDS = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class PathRow:
    """A path that holds a Media, as it was when last looked at."""

    path: Path
    media_id: MediaId
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Record:
    """Where the VectorStore keeps the FrameVectors of a Media."""

    segment: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """A Media encoded in a Space. ``sampling`` says how its frames were chosen."""

    media_id: MediaId
    sampling: str
    record: Record
    n_samples: int
    n_frames: int
    n_clips: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """All the rows one newly encoded Media brings; committed together or not at all."""

    media: Media
    paths: tuple[PathRow, ...]
    encoding: Encoding
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class ClipStamp:
    """The state of the set of Clips of a Space. Ids of two catalogs (``catalog_id``) mean nothing together.

    ``version`` counts the changes, 0 when nothing was ever added; ``last_id`` is the highest id ever given there.
    """

    catalog_id: str
    version: int
    last_id: int


@dataclass(frozen=True, slots=True, eq=False)
class ClipChanges:
    """What became of the Clips of a Space since a stamp: ``removed`` (n,) int64 are gone, those with ids above
    ``added_after_id`` came. Some may have come and gone, and readers may know a few of them already."""

    removed: NDArray[np.int64]
    added_after_id: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a Library holds."""

    media: int
    videos: int
    images: int
    paths: int
    duration_s: float
    size_bytes: int
    frames: int
    samples: int
    clips: int
    skipped: int


class Catalog:
    """Opened by path of an SQLite file or by SQLAlchemy URL. Use ``close()`` when done."""

    def __init__(self, url: str | Path) -> None:
        """Creates the tables or migrates them. Raises LibraryError if that cannot be done, LibraryDamaged if what is
        there is no sound database, LibraryTooNew if a newer ivsearch made it."""
        self.url = sa.make_url(f"sqlite:///{url}" if isinstance(url, Path) else url)
        if self.url.get_backend_name() not in BACKENDS:
            raise UsageError(
                f"the catalog {self.url.render_as_string()} is of a kind that ivsearch does not know; "
                f"it knows {' and '.join(BACKENDS)}"
            )
        # A writer must take the lock when it begins: one that reads first and writes later loses other
        # writers' rows or fails at once, however long its busy timeout.
        read_only = isinstance(url, Path) and _is_read_only(url)
        if isinstance(url, Path) and read_only:
            # A share or disc nobody can write to: nothing changes under us, and SQLite need not lock.
            query = {"mode": "ro", "immutable": "1", "uri": "true"}
            self.url = sa.URL.create("sqlite", database=f"file:{quote(str(url.absolute()))}", query=query)
        try:
            self._writer = _engine(self.url, "BEGIN" if read_only else "BEGIN IMMEDIATE", write=not read_only)
            self._reader = _engine(self.url, "BEGIN", write=not read_only)
        except ModuleNotFoundError as error:
            raise UsageError(f"the catalog {self.url.render_as_string()} needs a driver: {error}") from error
        try:
            schema.upgrade(self._writer)  # does nothing when the schema is the newest
        except sa.exc.OperationalError as error:
            self.close()
            raise LibraryError(
                f"the catalog {self.url.render_as_string()} cannot be opened now: {error.orig}. Check that its folder "
                "can be written to, that the disk is well, and that nothing else holds it"
            ) from error
        except sa.exc.DatabaseError as error:
            self.close()
            raise LibraryDamaged(
                f"the catalog {self.url.render_as_string()} cannot be opened: {error.orig}; "
                "`ivsearch repair` sets it aside"
            ) from error

    @property
    def writer(self) -> sa.Engine:
        """For what else of the store has rows here: each transaction of it takes the writer's lock when it begins."""
        return self._writer

    @property
    def reader(self) -> sa.Engine:
        return self._reader

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    # ---- Spaces ----

    def add_space(self, space: Space) -> None:
        row = {"space_key": space.key, "encoder": space.encoder, "revision": space.revision, "dim": space.dim}
        with self._writer.begin() as connection:
            connection.execute(self._upsert(tables.space), [row])
            count = {"space_key": space.key, "version": 0, "last_id": 0, "trimmed": 0}
            connection.execute(self._insert(tables.clip_version).on_conflict_do_nothing(), [count])

    def drop_space(self, space: Space) -> None:
        """Forgets a Space with all its Encodings and Clips. Should it come back, its changes are counted on."""
        clip, encoding, count = tables.clip, tables.encoding, tables.clip_version
        with self._writer.begin() as connection:
            version = count.c.version + 1
            connection.execute(
                sa.update(count).where(count.c.space_key == space.key).values(version=version, trimmed=version)
            )
            for table in (tables.clip_removed, clip, encoding, tables.space):
                connection.execute(sa.delete(table).where(table.c.space_key == space.key))

    def spaces(self) -> list[Space]:
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(tables.space).order_by(tables.space.c.space_key))
            return [Space(row.encoder, row.revision, row.dim) for row in rows]

    def is_complete(self, space: Space) -> bool:
        """Whether every Media has an Encoding in the Space."""
        encoded = sa.select(tables.encoding.c.media_id).where(tables.encoding.c.space_key == space.key)
        missing = sa.select(sa.exists().where(tables.media.c.media_id.not_in(encoded)))
        with self._reader.begin() as connection:
            return not connection.scalar(missing)

    # ---- Media and paths ----

    def add(self, space: Space, encoded: Sequence[Encoded]) -> None:
        """Commits newly encoded Media; what they had before in this Space is replaced. This is what "done" means."""
        if not encoded:
            return
        ids = [each.media.media_id for each in encoded]
        with self._writer.begin() as connection:
            connection.execute(self._upsert(tables.media), [_media_row(each.media) for each in encoded])
            self._link(connection, [path for each in encoded for path in each.paths])
            self._drop_encodings(connection, space, ids)
            connection.execute(sa.insert(tables.encoding), [_encoding_row(space, each.encoding) for each in encoded])
            clips = [_clip_row(space, each.media.media_id, span) for each in encoded for span in each.spans]
            if clips:
                connection.execute(sa.insert(tables.clip), clips)
                self._count_added(connection, space)

    def link(self, paths: Sequence[PathRow]) -> None:
        """Notes that these paths hold these (known) Media."""
        if paths:
            with self._writer.begin() as connection:
                self._link(connection, paths)

    def _link(self, connection: sa.Connection, paths: Sequence[PathRow]) -> None:
        rows = [
            {"path": str(p.path), "media_id": p.media_id, "size_bytes": p.size_bytes, "mtime_ns": p.mtime_ns}
            for p in paths
        ]
        self._note_loose(connection, rows)
        connection.execute(self._upsert(tables.path), rows)
        for some in _parts([row["path"] for row in rows]):
            connection.execute(sa.delete(tables.skipped).where(tables.skipped.c.path.in_(some)))

    def paths(self) -> list[PathRow]:
        """Every path, sorted."""
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(tables.path)).all()
        return sorted(
            (PathRow(Path(row.path), row.media_id, row.size_bytes, row.mtime_ns) for row in rows), key=lambda p: p.path
        )

    def remove_paths(self, paths: Iterable[Path]) -> None:
        """Forgets paths, and the Media that no path holds any more, in one transaction."""
        path, loose = tables.path.c, tables.loose_media
        with self._writer.begin() as connection:
            for some in _parts([str(path) for path in paths]):
                held = sa.select(path.media_id).where(path.path.in_(some)).distinct()
                connection.execute(self._insert(loose).from_select(["media_id"], held).on_conflict_do_nothing())
                connection.execute(sa.delete(tables.path).where(path.path.in_(some)))
                connection.execute(sa.delete(tables.skipped).where(tables.skipped.c.path.in_(some)))
            self._drop_orphans(connection)

    def _note_loose(self, connection: sa.Connection, rows: Sequence[dict]) -> None:
        """Media whose paths are about to hold something else. They stay until ``remove_paths``: a later part of the
        same run may find them elsewhere (two files that exchanged names)."""
        path = tables.path.c
        holds = {row["path"]: row["media_id"] for row in rows}
        for some in _parts(list(holds)):
            before = connection.execute(sa.select(path.path, path.media_id).where(path.path.in_(some)))
            if loose := {row.media_id for row in before if row.media_id != holds[row.path]}:
                connection.execute(
                    self._insert(tables.loose_media).on_conflict_do_nothing(), [{"media_id": each} for each in loose]
                )

    def _drop_orphans(self, connection: sa.Connection) -> None:
        """Forgets the loose Media that no path holds any more."""
        path, loose = tables.path.c, tables.loose_media.c
        connection.execute(sa.delete(tables.loose_media).where(loose.media_id.in_(sa.select(path.media_id))))
        orphans = sa.select(loose.media_id)
        self._drop_clips(connection, tables.clip.c.media_id.in_(orphans))
        connection.execute(sa.delete(tables.media).where(tables.media.c.media_id.in_(orphans)))

    def drop_encodings(self, space: Space, media_ids: Sequence[MediaId]) -> None:
        """Forgets the vectors of these Media, so that the next run makes them anew."""
        with self._writer.begin() as connection:
            self._drop_encodings(connection, space, media_ids)

    def _drop_encodings(self, connection: sa.Connection, space: Space, media_ids: Sequence[MediaId]) -> None:
        clip, encoding = tables.clip.c, tables.encoding.c
        for some in _parts(media_ids):
            self._drop_clips(connection, sa.and_(clip.space_key == space.key, clip.media_id.in_(some)))
            connection.execute(
                sa.delete(tables.encoding).where(encoding.space_key == space.key, encoding.media_id.in_(some))
            )

    def _drop_clips(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        """Deletes Clips, counts the change of their Spaces and logs which they were."""
        clip, count = tables.clip.c, tables.clip_version.c
        changed = count.space_key.in_(sa.select(clip.space_key).where(which))
        connection.execute(sa.update(tables.clip_version).where(changed).values(version=count.version + 1))
        gone = sa.select(clip.space_key, count.version, clip.clip_id).join(
            tables.clip_version, count.space_key == clip.space_key
        )
        log = sa.insert(tables.clip_removed).from_select(["space_key", "version", "clip_id"], gone.where(which))
        connection.execute(log)
        connection.execute(sa.delete(tables.clip).where(which))

    def _count_added(self, connection: sa.Connection, space: Space) -> None:
        clip, count = tables.clip.c, tables.clip_version.c
        last = sa.select(sa.func.max(clip.clip_id)).where(clip.space_key == space.key).scalar_subquery()
        connection.execute(
            sa.update(tables.clip_version)
            .where(count.space_key == space.key)
            .values(version=count.version + 1, last_id=last)
        )

    def media(self, media_ids: Sequence[MediaId]) -> dict[MediaId, Media]:
        found: dict[MediaId, Media] = {}
        with self._reader.begin() as connection:
            for some in _parts(media_ids):
                rows = connection.execute(sa.select(tables.media).where(tables.media.c.media_id.in_(some)))
                found |= {row.media_id: _media(row) for row in rows}
        return found

    def media_paths(self, media_ids: Sequence[MediaId]) -> dict[MediaId, list[Path]]:
        """The paths that hold each Media, sorted."""
        return {media_id: [row.path for row in rows] for media_id, rows in self.path_rows(media_ids).items()}

    def path_rows(self, media_ids: Sequence[MediaId]) -> dict[MediaId, list[PathRow]]:
        """As ``media_paths``, with what each file was like when last looked at."""
        found: dict[MediaId, list[PathRow]] = {}
        with self._reader.begin() as connection:
            for some in _parts(media_ids):
                query = sa.select(tables.path).where(tables.path.c.media_id.in_(some))
                for row in connection.execute(query.order_by(tables.path.c.path)):
                    path = PathRow(Path(row.path), row.media_id, row.size_bytes, row.mtime_ns)
                    found.setdefault(row.media_id, []).append(path)
        return found

    def matching_media(self, filters: Filters) -> set[MediaId] | None:
        """The Media that pass; None when there is no filter at all.

        A path glob without a slash is matched with the file name, one that begins with a slash with the whole path, any
        other with the end of the path.
        """
        if filters == Filters():
            return None
        media, path = tables.media.c, tables.path.c
        # When a file does not say when it was recorded, its modification time has to do.
        when_s = sa.func.coalesce(media.recorded_at_s, path.mtime_ns / 1e9)
        query = sa.select(media.media_id, path.path).join(tables.path, path.media_id == media.media_id)
        if filters.kind is not None:
            query = query.where(media.kind == filters.kind.value)
        if filters.min_duration_s is not None:
            query = query.where(media.duration_s >= filters.min_duration_s)
        if filters.max_duration_s is not None:
            query = query.where(media.duration_s <= filters.max_duration_s)
        if filters.after is not None:
            query = query.where(when_s >= filters.after.timestamp())
        if filters.before is not None:
            query = query.where(when_s < filters.before.timestamp())
        with self._reader.begin() as connection:
            rows = connection.execute(query).all()
        return {row.media_id for row in rows if not filters.paths or _path_matches(row.path, filters.paths)}

    # ---- Encodings and Clips ----

    def encodings(self, space: Space, media_ids: Sequence[MediaId] | None = None) -> dict[MediaId, Encoding]:
        """Of these Media, or of all."""
        table = tables.encoding
        query = sa.select(table).where(table.c.space_key == space.key)
        found: dict[MediaId, Encoding] = {}
        with self._reader.begin() as connection:
            for some in [None] if media_ids is None else _parts(media_ids):
                rows = connection.execute(query if some is None else query.where(table.c.media_id.in_(some)))
                found |= {row.media_id: _encoding(row) for row in rows}
        return found

    def clip_stamp(self, space: Space) -> ClipStamp:
        """Read in constant time, however many Clips there are."""
        count = tables.clip_version.c
        query = sa.select(tables.identity.c.catalog_id, count.version, count.last_id).join(
            tables.clip_version, count.space_key == space.key, isouter=True
        )
        with self._reader.begin() as connection:
            row = connection.execute(query).one()
        return ClipStamp(row.catalog_id, row.version or 0, row.last_id or 0)

    def clip_changes(self, space: Space, since: ClipStamp) -> ClipChanges | None:
        """What to remove from and add to an index that stands at ``since``. None when that cannot be told: of another
        catalog, newer than this one (restored from a copy), or older than the log of removals."""
        count, removed = tables.clip_version.c, tables.clip_removed.c
        query = sa.select(tables.identity.c.catalog_id, count.version, count.trimmed).join(
            tables.clip_version, count.space_key == space.key
        )
        gone = sa.select(removed.clip_id).where(removed.space_key == space.key, removed.version > since.version)
        with self._reader.begin() as connection:
            row = connection.execute(query).one_or_none()
            if row is None or row.catalog_id != since.catalog_id or not row.trimmed <= since.version <= row.version:
                return None
            ids = connection.scalars(gone).all()
        return ClipChanges(np.asarray(ids, np.int64), since.last_id)

    def trim_changes(self, space: Space, upto: ClipStamp) -> None:
        """Forgets the removals that an index saved at ``upto`` knows. One that is older is then compared in full."""
        count, removed = tables.clip_version.c, tables.clip_removed.c
        with self._writer.begin() as connection:
            if connection.scalar(sa.select(tables.identity.c.catalog_id)) != upto.catalog_id:
                return
            connection.execute(
                sa.update(tables.clip_version)
                .where(count.space_key == space.key, count.trimmed < upto.version, count.version >= upto.version)
                .values(trimmed=upto.version)
            )
            connection.execute(
                sa.delete(tables.clip_removed).where(removed.space_key == space.key, removed.version <= upto.version)
            )

    def clip_ids(self, space: Space, media_ids: Iterable[MediaId] | None = None) -> list[int]:
        """Ids of the Clips of these Media, or of all, ascending."""
        clip = tables.clip.c
        query = sa.select(clip.clip_id).where(clip.space_key == space.key)
        ids: list[int] = []
        with self._reader.begin() as connection:
            for some in [None] if media_ids is None else _parts(sorted(media_ids)):
                ids += connection.scalars(query if some is None else query.where(clip.media_id.in_(some)))
        return sorted(ids)

    def clips(self, clip_ids: Sequence[int]) -> dict[int, Clip]:
        found: dict[int, Clip] = {}
        with self._reader.begin() as connection:
            for some in _parts(clip_ids):
                rows = connection.execute(sa.select(tables.clip).where(tables.clip.c.clip_id.in_(some)))
                found |= {row.clip_id: _clip(row) for row in rows}
        return found

    def clips_of(self, space: Space, media_ids: Sequence[MediaId] | None = None, *, after_id: int = 0) -> list[Clip]:
        """Clips of these Media (or of all) with ids above ``after_id``, in the order of media and time."""
        clip = tables.clip.c
        query = sa.select(tables.clip).where(clip.space_key == space.key, clip.clip_id > after_id)
        found: list[Clip] = []
        with self._reader.begin() as connection:
            for some in [None] if media_ids is None else _parts(media_ids):
                rows = connection.execute(query if some is None else query.where(clip.media_id.in_(some)))
                found += [_clip(row) for row in rows]
        return sorted(found, key=lambda each: (each.media_id, each.start_s, each.clip_id))

    # ---- Skipped files, totals, health ----

    def note_skipped(self, skipped: Sequence[Skipped]) -> None:
        if skipped:
            rows = [{"path": str(each.path), "reason": each.reason} for each in skipped]
            with self._writer.begin() as connection:
                connection.execute(self._upsert(tables.skipped), rows)

    def forget_skipped(self, paths: Iterable[Path]) -> None:
        with self._writer.begin() as connection:
            for some in _parts([str(path) for path in paths]):
                connection.execute(sa.delete(tables.skipped).where(tables.skipped.c.path.in_(some)))

    def skipped(self) -> list[Skipped]:
        with self._reader.begin() as connection:
            rows = connection.execute(sa.select(tables.skipped)).all()
        return sorted((Skipped(Path(row.path), row.reason) for row in rows), key=lambda each: each.path)

    def totals(self, space: Space | None) -> Totals:
        """Of the whole Library; frames and Clips are those of one Space."""
        media, encoding, key = tables.media.c, tables.encoding.c, space.key if space else ""
        with self._reader.begin() as connection:
            kinds: dict[str, int] = dict(
                connection.execute(sa.select(media.kind, sa.func.count()).group_by(media.kind)).all()
            )
            duration_s, size_bytes = connection.execute(
                sa.select(sa.func.sum(media.duration_s), sa.func.sum(media.size_bytes))
            ).one()
            frames, samples = connection.execute(
                sa.select(sa.func.sum(encoding.n_frames), sa.func.sum(encoding.n_samples)).where(
                    encoding.space_key == key
                )
            ).one()

            def count(table: sa.Table) -> int:
                return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0

            return Totals(
                media=sum(kinds.values()),
                videos=kinds.get(MediaKind.VIDEO.value, 0),
                images=kinds.get(MediaKind.IMAGE.value, 0),
                paths=count(tables.path),
                duration_s=float(duration_s or 0),
                size_bytes=int(size_bytes or 0),
                frames=int(frames or 0),
                samples=int(samples or 0),
                clips=connection.scalar(
                    sa.select(sa.func.count()).select_from(tables.clip).where(tables.clip.c.space_key == key)
                )
                or 0,
                skipped=count(tables.skipped),
            )

    def complaints(self) -> Iterator[str]:
        """What the database itself finds wrong; nothing when all is well."""
        if self.url.get_backend_name() != "sqlite":
            return
        with self._reader.begin() as connection:
            for (text,) in connection.exec_driver_sql("PRAGMA integrity_check").all():
                if text != "ok":
                    yield f"catalog: {text}"
            for row in connection.exec_driver_sql("PRAGMA foreign_key_check").all():
                yield f"catalog: row {row[1]} of {row[0]} points at a missing row of {row[2]}"

    def _insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        return (postgresql if self.url.get_backend_name() == "postgresql" else sqlite).insert(table)

    def _upsert(self, table: sa.Table) -> sa.sql.Insert:
        insert = self._insert(table)
        keys = [column.name for column in table.primary_key]
        others = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
        return insert.on_conflict_do_update(index_elements=keys, set_=others)


def _is_read_only(path: Path) -> bool:
    return path.exists() and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def _engine(url: sa.URL, begin: str, *, write: bool) -> sa.Engine:
    engine = sa.create_engine(url)
    if url.get_backend_name() == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def configure(connection, _record) -> None:  # type: ignore[no-untyped-def]
            # The driver must not begin transactions by itself; the listener below does it in time.
            connection.isolation_level = None
            for pragma in (
                "busy_timeout=10000",
                *(("journal_mode=WAL", "synchronous=FULL") if write else ()),
                "foreign_keys=ON",
                "cache_size=-65536",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(engine, "begin")
        def start(connection: sa.Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine


def _parts(values: Sequence) -> Iterator[Sequence]:
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]


def _path_matches(path: str, globs: Sequence[str]) -> bool:
    name = path.rsplit("/", 1)[-1]
    for glob in globs:
        if "/" not in glob:
            fits = fnmatch.fnmatchcase(name, glob)
        else:
            # A relative one fits wherever it stands in the path, as hits show it.
            fits = fnmatch.fnmatchcase(path, glob if glob.startswith("/") else f"*/{glob.removeprefix('./')}")
        if fits:
            return True
    return False


def _media_row(media: Media) -> dict:
    return {
        "media_id": media.media_id,
        "kind": media.kind.value,
        "duration_s": media.duration_s,
        "width": media.width,
        "height": media.height,
        "codec": media.codec,
        "size_bytes": media.size_bytes,
        "fps": media.fps,
        "recorded_at_s": media.recorded_at.timestamp() if media.recorded_at else None,
        "warnings": json.dumps(media.warnings, ensure_ascii=False),
    }


def _media(row: sa.Row) -> Media:
    return Media(
        media_id=row.media_id,
        kind=MediaKind(row.kind),
        duration_s=row.duration_s,
        width=row.width,
        height=row.height,
        codec=row.codec,
        size_bytes=row.size_bytes,
        fps=row.fps,
        recorded_at=None if row.recorded_at_s is None else datetime.fromtimestamp(row.recorded_at_s, UTC),
        warnings=tuple(json.loads(row.warnings)),
    )


def _encoding_row(space: Space, encoding: Encoding) -> dict:
    return {
        "media_id": encoding.media_id,
        "space_key": space.key,
        "sampling": encoding.sampling,
        "segment": encoding.record.segment,
        "offset_bytes": encoding.record.offset_bytes,
        "size_bytes": encoding.record.size_bytes,
        "n_samples": encoding.n_samples,
        "n_frames": encoding.n_frames,
        "n_clips": encoding.n_clips,
    }


def _encoding(row: sa.Row) -> Encoding:
    record = Record(row.segment, row.offset_bytes, row.size_bytes)
    return Encoding(row.media_id, row.sampling, record, row.n_samples, row.n_frames, row.n_clips)


def _clip_row(space: Space, media_id: MediaId, span: Span) -> dict:
    return {
        "space_key": space.key,
        "media_id": media_id,
        "start_s": span.start_s,
        "end_s": span.end_s,
        "first_frame": span.first_frame,
        "n_frames": span.n_frames,
    }


def _clip(row: sa.Row) -> Clip:
    return Clip(row.clip_id, row.media_id, row.start_s, row.end_s, row.first_frame, row.n_frames)
