"""Filters → the Media and Clips that pass them, found by the database and not row by row."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ivsearch.domain import Filters, MediaId, Space
from ivsearch.store import tables
from ivsearch.store.rows import parts


def matching_media(connection: sa.Connection, filters: Filters) -> set[MediaId]:
    query = _query(connection, filters)
    if query.fits is None:
        return set(connection.scalars(query.select.distinct()))
    return {row.media_id for row in connection.execute(query.select) if query.fits.match(row.path)}


def may_pass(connection: sa.Connection, filters: Filters, media_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """A condition for statements that have this column of a table: true for all Media that pass, and where the database
    cannot tell a glob exactly for some that do not; those ``passing_media`` sorts out."""
    query = _query(connection, filters)
    return query.select.where(query.media_id == media_id).correlate(media_id.table).exists()


def passing_media(connection: sa.Connection, filters: Filters, media_ids: Iterable[MediaId]) -> set[MediaId]:
    """Those of the Media that pass."""
    query = _query(connection, filters, _LOOKED_UP)
    rows = (row for some in parts(sorted(media_ids)) for row in connection.execute(query.of(some)))
    return {row.media_id for row in rows if query.fits is None or query.fits.match(row.path)}


def matching_clips(connection: sa.Connection, space: Space, filters: Filters, after_id: int) -> NDArray[np.int64]:
    """Ids above ``after_id`` of the Clips of all Media that pass, (n,) int64, ascending."""
    clip = tables.clip.c
    ids = sa.select(clip.clip_id).where(clip.space_key == space.key, clip.clip_id > after_id)
    query = _query(connection, filters)
    if filters == Filters():
        found = np.fromiter(connection.scalars(ids), np.int64)
    elif query.fits is None:
        found = np.fromiter(connection.scalars(ids.where(clip.media_id.in_(query.select))), np.int64)
    else:
        media_ids = sorted(matching_media(connection, filters))
        each = (connection.scalars(ids.where(clip.media_id.in_(some))) for some in parts(media_ids))
        found = np.fromiter((clip_id for some in each for clip_id in some), np.int64)
    return np.sort(found)


def passing_clips(connection: sa.Connection, filters: Filters, clip_ids: Sequence[int]) -> set[int]:
    """Those of the Clips whose Media pass."""
    rows = (row for some in parts(clip_ids) for row in connection.execute(_owners(some)))
    owners = {row.clip_id: row.media_id for row in rows}
    passing = passing_media(connection, filters, set(owners.values()))
    return {clip_id for clip_id, media_id in owners.items() if media_id in passing}


def _owners(clip_ids: Sequence[int]) -> sa.Select:
    clip = tables.clip.c
    return sa.select(clip.clip_id, clip.media_id).where(clip.clip_id.in_(clip_ids))


@dataclass(frozen=True, slots=True)
class _Query:
    """``select`` gives a ``media_id`` a row. Where the database cannot tell a glob exactly it also gives a ``path`` a
    row, and a Media passes when one of them ``fits``."""

    select: sa.Select
    media_id: sa.ColumnElement[str]
    fits: re.Pattern[str] | None

    def of(self, media_ids: Sequence[MediaId]) -> sa.Select:
        return self.select.where(self.media_id.in_(media_ids))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Of the table of Media, as the conditions name them."""

    kind: sa.ColumnElement[str]
    duration_s: sa.ColumnElement[float]


_SEARCHED = _Columns(tables.media.c.kind, tables.media.c.duration_s)
# For Media whose ids are given. SQLite, which takes a kind for rare, would else go through all of one by its index.
_LOOKED_UP = _Columns(sa.func.coalesce(_SEARCHED.kind, ""), sa.func.coalesce(_SEARCHED.duration_s, 0.0))


def _query(connection: sa.Connection, filters: Filters, columns: _Columns = _SEARCHED) -> _Query:
    media, path = tables.media.c, tables.path.c
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.kind is not None:
        conditions.append(columns.kind == filters.kind.value)
    if filters.min_duration_s is not None:
        conditions.append(columns.duration_s >= filters.min_duration_s)
    if filters.max_duration_s is not None:
        conditions.append(columns.duration_s <= filters.max_duration_s)
    # When a file does not say when it was recorded, its modification time has to do.
    recorded = _within(media.recorded_at_s, filters)
    modified = [media.recorded_at_s.is_(None), *_within(path.mtime_ns / 1e9, filters)]
    if not filters.paths:
        if recorded:
            # One look at each Media, and at the paths of those few that do not say.
            held = sa.exists().where(path.media_id == media.media_id, *modified[1:])
            conditions.append(sa.or_(sa.and_(*recorded), sa.and_(modified[0], held)))
        return _Query(sa.select(media.media_id).where(*conditions), media.media_id, None)
    if recorded:
        conditions.append(sa.or_(sa.and_(*recorded), sa.and_(*modified)))
    globs = [_Glob.of(glob) for glob in filters.paths]
    sqlite = connection.dialect.name == "sqlite"
    conditions.append(sa.or_(*(_wide(glob.wide, sqlite) for glob in globs)))
    exact = all(glob.is_exact for glob in globs)
    selected = sa.select(path.media_id) if exact else sa.select(path.media_id, path.path)
    of_media = any(getattr(filters, name) is not None for name in _OF_MEDIA)
    if of_media:
        selected = selected.join(tables.media, path.media_id == media.media_id)
    fits = None if exact else re.compile("|".join(glob.fits for glob in globs))
    return _Query(selected.where(*conditions), path.media_id, fits)


def fitting_first(paths: Sequence[Path], filters: Filters) -> list[Path]:
    """Paths of one Media, those that pass the globs first; else in the order they are in."""
    if not filters.paths:
        return list(paths)
    fits = re.compile("|".join(_Glob.of(glob).fits for glob in filters.paths))
    return sorted(paths, key=lambda path: fits.match(str(path)) is None)


def _within(when_s: sa.ColumnElement[Any], filters: Filters) -> list[sa.ColumnElement[bool]]:
    after = [] if filters.after is None else [when_s >= filters.after.timestamp()]
    return after if filters.before is None else [*after, when_s < filters.before.timestamp()]


_OF_MEDIA = ("kind", "min_duration_s", "max_duration_s", "after", "before")


@dataclass(frozen=True, slots=True)
class _Glob:
    """``wide`` is a pattern of only ``*`` and ``?`` that fits at least every path that ``fits`` (a regular expression
    of whole paths) does; exactly those where ``is_exact``."""

    wide: str
    fits: str
    is_exact: bool

    @classmethod
    def of(cls, glob: str) -> _Glob:
        """Without a slash it is for the name; a relative one fits wherever it stands in the path, as hits show it."""
        if "/" not in glob:
            # ``*`` of a name stops at slashes, that of a path does not.
            ending = glob.startswith("*") and not set(glob[1:]) & set("*?[")
            wide = glob if ending else f"*/{glob}"
            fits = rf"(?s:.*/)(?=[^/]*\Z){fnmatch.translate(glob)}"
            return cls(_without_sets(wide), fits, ending or not set(glob) & set("*?["))
        whole = glob if glob.startswith("/") else f"*/{glob.removeprefix('./')}"
        return cls(_without_sets(whole), fnmatch.translate(whole), "[" not in whole)


def _without_sets(glob: str) -> str:
    """Databases do not agree on what ``[…]`` is."""
    before, bracket, _ = glob.partition("[")
    return f"{before}*" if bracket else glob


def _wide(pattern: str, sqlite: bool) -> sa.ColumnElement[bool]:
    path = tables.path.c.path
    if sqlite:
        return path.op("GLOB", is_comparison=True)(pattern)
    plain = re.sub(r"[\\%_]", r"\\\g<0>", pattern)
    return path.like(plain.replace("*", "%").replace("?", "_"), escape="\\")
