"""Counting what a Library holds, from indexes that hold all that is counted."""

from __future__ import annotations

import sqlalchemy as sa

from ivsearch.domain import MediaKind, Space
from ivsearch.store import tables
from ivsearch.store.rows import Totals


def read_totals(connection: sa.Connection, space: Space | None) -> Totals:
    """Frames and Clips are those of one Space."""
    media, encoding, key = tables.media.c, tables.encoding.c, space.key if space else ""
    totals = (sa.func.count(), sa.func.sum(media.duration_s), sa.func.sum(media.size_bytes))
    kinds = {row[0]: row[1:] for row in connection.execute(sa.select(media.kind, *totals).group_by(media.kind))}
    sums = sa.select(sa.func.sum(encoding.n_frames), sa.func.sum(encoding.n_samples))
    frames, samples = connection.execute(sums.where(encoding.space_key == key)).one()

    def count(of: sa.Select) -> int:
        return connection.scalar(of) or 0

    return Totals(
        media=sum(n for n, _, _ in kinds.values()),
        videos=kinds.get(MediaKind.VIDEO.value, (0,))[0],
        images=kinds.get(MediaKind.IMAGE.value, (0,))[0],
        paths=count(sa.select(sa.func.count()).select_from(tables.path)),
        # PostgreSQL sums up whole numbers to decimals.
        duration_s=float(sum(duration_s for _, duration_s, _ in kinds.values())),
        size_bytes=int(sum(size_bytes for _, _, size_bytes in kinds.values())),
        frames=int(frames or 0),
        samples=int(samples or 0),
        clips=count(sa.select(sa.func.count()).where(tables.clip.c.space_key == key)),
        skipped=count(sa.select(sa.func.count()).select_from(tables.skipped)),
    )
