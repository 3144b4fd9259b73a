"""Bringing a VectorIndex up to what the Catalog says, from the VectorStore."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from ivsearch.clips import pool, span_of
from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Catalog, ClipStamp
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore


def refresh(
    index: VectorIndex, stamp: ClipStamp | None, catalog: Catalog, vectors: VectorStore
) -> tuple[ClipStamp, list[str]]:
    """Adds the Clips that ``index`` lacks and removes those that are gone.

    Returns the stamp it now stands at, and a complaint for every Media whose vectors cannot be read: its Clips are
    left out, everything else is found.
    """
    space = index.space
    now = catalog.clip_stamp(space)
    if now == stamp:
        return now, []
    if stamp is None or stamp.catalog_id != now.catalog_id:
        # Its ids may be those of other Clips: of a catalog that was lost or exchanged.
        index.clear()
    changes = catalog.clip_changes(space, stamp) if stamp else None
    if changes is not None:
        index.remove(changes.removed)
        clips = catalog.clips_of(space, after_id=changes.added_after_id)
        known = set(index.clip_ids().tolist()) if clips else set()
        clips = [clip for clip in clips if clip.clip_id not in known]
    else:
        wanted = np.asarray(catalog.clip_ids(space), np.int64)
        index.remove(np.setdiff1d(index.clip_ids(), wanted))
        missing = set(np.setdiff1d(wanted, index.clip_ids()).tolist())
        after_id = min(missing, default=now.last_id + 1) - 1
        clips = [clip for clip in catalog.clips_of(space, after_id=after_id) if clip.clip_id in missing]
    if not clips:
        return now, []
    complaints = []
    encodings = catalog.encodings(space, sorted({clip.media_id for clip in clips}))
    for media_id, group in groupby(clips, key=lambda clip: clip.media_id):
        of_media = list(group)
        if media_id not in encodings:
            continue  # removed by a writer just now
        try:
            frames = vectors.read(encodings[media_id].record)
        except LibraryDamaged as error:
            complaints.append(str(error))
            continue
        ids = np.asarray([clip.clip_id for clip in of_media], np.int64)
        index.add(ids, pool(frames.vectors, [span_of(clip) for clip in of_media]))
    return now, complaints


def save_index(folder: Path, catalog: Catalog, space: Space) -> None:
    """Brings the index of library ``folder`` up to the Catalog, on disk. Only for the one writer."""
    index, stamp = VectorIndex.load(folder / "index", space, mend=True)
    now, complaints = refresh(index, stamp, catalog, VectorStore(folder / "vectors", space))
    # One with gaps is not kept: every search fills it as far as it can, and says what is missing.
    if now != stamp and not complaints:
        index.save(folder / "index", now)
