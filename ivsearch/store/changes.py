"""What changes about the Clips of a Space is counted, and which went is logged, in the transaction that changes it.

So an index is brought up to the Catalog from what changed since it was saved, however many Clips there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ivsearch.domain import Space
from ivsearch.store import tables


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


def drop_clips(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Deletes Clips, counts the change of their Spaces and logs which they were."""
    clip, count = tables.clip.c, tables.clip_version.c
    changed = count.space_key.in_(sa.select(clip.space_key).where(which))
    count_change(connection, changed)
    gone = sa.select(clip.space_key, count.version, clip.clip_id).join(
        tables.clip_version, count.space_key == clip.space_key
    )
    log = sa.insert(tables.clip_removed).from_select(["space_key", "version", "clip_id"], gone.where(which))
    connection.execute(log)
    connection.execute(sa.delete(tables.clip).where(which))


def count_added(connection: sa.Connection, space: Space) -> None:
    """Counts the change that Clips were just added to a Space."""
    clip, count = tables.clip.c, tables.clip_version.c
    last = sa.select(sa.func.max(clip.clip_id)).where(clip.space_key == space.key).scalar_subquery()
    connection.execute(
        sa.update(tables.clip_version)
        .where(count.space_key == space.key)
        .values(version=count.version + 1, last_id=last)
    )


def count_change(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    count = tables.clip_version
    connection.execute(sa.update(count).where(which).values(version=count.c.version + 1))


def forget(connection: sa.Connection, space: Space) -> None:
    """Empties the log: what changed until now cannot be told any more."""
    count, removed = tables.clip_version.c, tables.clip_removed.c
    connection.execute(sa.update(tables.clip_version).where(count.space_key == space.key).values(trimmed=count.version))
    connection.execute(sa.delete(tables.clip_removed).where(removed.space_key == space.key))


def read_stamp(connection: sa.Connection, space: Space) -> ClipStamp:
    count = tables.clip_version.c
    query = sa.select(tables.identity.c.catalog_id, count.version, count.last_id)
    row = connection.execute(query.join(tables.clip_version, count.space_key == space.key, isouter=True)).one()
    return ClipStamp(row.catalog_id, row.version or 0, row.last_id or 0)


def read_changes(connection: sa.Connection, space: Space, since: ClipStamp) -> ClipChanges | None:
    """None when they cannot be told."""
    if not _spans(connection, space, since):
        return None
    removed = tables.clip_removed.c
    gone = sa.select(removed.clip_id).where(removed.space_key == space.key, removed.version > since.version)
    return ClipChanges(np.asarray(connection.scalars(gone).all(), np.int64), since.last_id)


def trim(connection: sa.Connection, space: Space, upto: ClipStamp) -> None:
    """Forgets the removals up to a stamp. Does nothing for one that is not of this Catalog, or older than its log."""
    if _spans(connection, space, upto):
        count, removed = tables.clip_version.c, tables.clip_removed.c
        old = removed.version <= upto.version
        connection.execute(
            sa.update(tables.clip_version).where(count.space_key == space.key).values(trimmed=upto.version)
        )
        connection.execute(sa.delete(tables.clip_removed).where(removed.space_key == space.key, old))


def _spans(connection: sa.Connection, space: Space, since: ClipStamp) -> bool:
    """Whether the log is whole from that stamp on."""
    count = tables.clip_version.c
    query = sa.select(tables.identity.c.catalog_id, count.version, count.trimmed)
    row = connection.execute(query.join(tables.clip_version, count.space_key == space.key)).one_or_none()
    return row is not None and row.catalog_id == since.catalog_id and row.trimmed <= since.version <= row.version
