"""Media that lost a path. They stay until the end of a run, which may find them elsewhere (two files that exchanged
names); those that no path holds then are forgotten. So nobody has to look at all Media for the few that are gone."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ivsearch.domain import MediaId
from ivsearch.store import changes, tables
from ivsearch.store.rows import PathRow, parts
from ivsearch.store.upsert import insert


def note_replaced(connection: sa.Connection, paths: Sequence[PathRow]) -> None:
    """Before these paths are written: the Media that those paths hold now, where that is another."""
    path = tables.path.c
    holds = {str(each.path): each.media_id for each in paths}
    for some in parts(list(holds)):
        before = connection.execute(sa.select(path.path, path.media_id).where(path.path.in_(some)))
        if loose := {row.media_id for row in before if row.media_id != holds[row.path]}:
            noted = insert(connection, tables.loose_media).on_conflict_do_nothing()
            connection.execute(noted, [{"media_id": each} for each in loose])


def note_removed(connection: sa.Connection, paths: Sequence[str]) -> None:
    """Before these paths are deleted."""
    path = tables.path.c
    for some in parts(paths):
        held = sa.select(path.media_id).where(path.path.in_(some)).distinct()
        noted = insert(connection, tables.loose_media).from_select(["media_id"], held)
        connection.execute(noted.on_conflict_do_nothing())


def pathless() -> sa.Select[tuple[MediaId]]:
    """Media that no path holds, though they are there until the end of a run, or for longer where it was killed."""
    loose = tables.loose_media.c.media_id
    return sa.select(loose).where(~sa.exists().where(tables.path.c.media_id == loose))


def forget(connection: sa.Connection) -> list[MediaId]:
    """Deletes the loose Media that no path holds, with all that is known of them, and returns which they were."""
    media, loose = tables.media.c, tables.loose_media.c
    held = sa.exists().where(tables.path.c.media_id == loose.media_id)
    connection.execute(sa.delete(tables.loose_media).where(held))
    gone = sorted(connection.scalars(sa.select(loose.media_id)))
    for some in parts(gone):
        changes.drop_clips(connection, tables.clip.c.media_id.in_(some))
        connection.execute(sa.delete(tables.media).where(media.media_id.in_(some)))
    return gone
