"""Filters → the Media that pass them."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import sqlalchemy as sa

from ivsearch.domain import Filters, MediaId
from ivsearch.store import tables


def matching_media(connection: sa.Connection, filters: Filters) -> set[MediaId]:
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
    rows = connection.execute(query).all()
    return {row.media_id for row in rows if not filters.paths or _path_matches(row.path, filters.paths)}


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
