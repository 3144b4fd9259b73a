"""Which Media have vectors in which Space, asked of the Catalog's tables."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from ivsearch.domain import MediaId, Space
from ivsearch.store import loose_media, tables
from ivsearch.store.catalog import Catalog

# Media whose Clips are read at once.
PORTION = 10_000


def encoded_media(catalog: Catalog) -> dict[str, int]:
    """Key of a Space → how many Media that some path holds have an Encoding in it."""
    key = tables.encoding.c.space_key
    counts = sa.select(key, sa.func.count()).group_by(key)
    with catalog.reader.begin() as connection:
        keys = connection.scalars(sa.select(tables.space.c.space_key)).all()
        encoded = {row[0]: row[1] for row in connection.execute(counts)}
        pathless = counts.where(tables.encoding.c.media_id.in_(loose_media.pathless()))
        left_over = {row[0]: row[1] for row in connection.execute(pathless)}
    return {each: encoded.get(each, 0) - left_over.get(each, 0) for each in keys}


def count_media(catalog: Catalog) -> int:
    """Those that some path holds."""
    pathless = sa.select(sa.func.count()).select_from(loose_media.pathless().subquery()).scalar_subquery()
    with catalog.reader.begin() as connection:
        return connection.scalar(sa.select(sa.func.count() - pathless).select_from(tables.media)) or 0


def unencoded(catalog: Catalog, space: Space, like: Space | None, after: MediaId, limit: int) -> list[MediaId]:
    """The first ``limit`` Media with ids above ``after`` that some path holds and that have no Encoding in ``space``,
    or one of other frames than in the Space ``like``; ascending."""
    media_id = tables.media.c.media_id
    here, there = tables.encoding.alias("here"), tables.encoding.alias("there")
    encoded = sa.select(1).where(here.c.media_id == media_id, here.c.space_key == space.key)
    if like is not None and like != space:
        sampled_there = (
            sa.select(there.c.sampling)
            .where(there.c.media_id == media_id, there.c.space_key == like.key)
            .correlate(tables.media)
            .scalar_subquery()
        )
        encoded = encoded.where(here.c.sampling == sa.func.coalesce(sampled_there, here.c.sampling))
    query = sa.select(media_id).where(media_id > after, ~sa.exists(encoded), media_id.not_in(loose_media.pathless()))
    with catalog.reader.begin() as connection:
        return list(connection.scalars(query.order_by(media_id).limit(limit)))


def samplings(catalog: Catalog, media_ids: list[MediaId], like: Space | None) -> dict[MediaId, str]:
    """How the frames of these Media were chosen: for the Space ``like``, else for whichever has them."""
    found: dict[MediaId, str] = {}
    for space in [*catalog.spaces(), like]:
        if space is not None:
            encodings = catalog.encodings(space, media_ids)
            found |= {media_id: encoding.sampling for media_id, encoding in encodings.items()}
    return found


def space_of_clip(catalog: Catalog, clip_id: int) -> Space | None:
    clip, space = tables.clip.c, tables.space
    query = sa.select(space).join(tables.clip, clip.space_key == space.c.space_key).where(clip.clip_id == clip_id)
    with catalog.reader.begin() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Space(row.encoder, row.revision, row.dim)


def clip_starts(catalog: Catalog) -> Iterator[tuple[MediaId, list[float]]]:
    """Every Media, and where its Clips of all Spaces start, in seconds."""
    clip = tables.clip.c
    after = ""
    while True:
        ids = sa.select(tables.media.c.media_id).where(tables.media.c.media_id > after).limit(PORTION)
        with catalog.reader.begin() as connection:
            media_ids = list(connection.scalars(ids.order_by(tables.media.c.media_id)))
            if not media_ids:
                return
            span = clip.media_id.between(media_ids[0], media_ids[-1])
            rows = connection.execute(sa.select(clip.media_id, clip.start_s).where(span)).all()
        starts: dict[MediaId, list[float]] = {media_id: [] for media_id in media_ids}
        for row in rows:
            starts.get(row.media_id, []).append(row.start_s)
        yield from starts.items()
        after = media_ids[-1]
