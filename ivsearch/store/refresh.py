"""Bringing a VectorIndex up to what the Catalog says, from the VectorStore: in memory, or for the writer on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import pool, span_of
from ivsearch.domain import Clip, Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Catalog, ClipStamp
from ivsearch.store.clip_rows import ClipRows, rows_in_memory
from ivsearch.store.index_plan import IndexKind
from ivsearch.store.index_writer import WISHES, Wishes, save
from ivsearch.store.manifest import Manifest, manifest_of
from ivsearch.store.vector_index import UNKNOWN_VERSION, VectorIndex
from ivsearch.store.vector_store import VectorStore

# Clips whose rows are read at once: their vectors take some tens of megabytes.
PAGE = 16_384


@dataclass(slots=True, eq=False)
class Missing:
    """What an index lacks of the Catalog at ``now``: the Clips with ids above ``after_id``, of those only ``wanted``
    (ids, ascending; None: all that it does not hold). ``complaints``: Media that could not be read, so far."""

    now: ClipStamp
    after_id: int
    wanted: NDArray[np.int64] | None
    complaints: list[str] = field(default_factory=list)

    def stamp(self) -> ClipStamp:
        """Where the index stands when all that could be read is in it; one no catalog knows when some could not."""
        return replace(self.now, version=UNKNOWN_VERSION) if self.complaints else self.now


def refresh(
    index: VectorIndex, stamp: ClipStamp | None, catalog: Catalog, vectors: VectorStore
) -> tuple[ClipStamp, list[str]]:
    """Adds the Clips that ``index`` lacks and removes those that are gone, in memory.

    Returns the stamp it now stands at, and a complaint for every Media whose vectors cannot be read: its Clips are
    left out, everything else is found.
    """
    missing = _reduce(index, stamp, catalog)
    if missing is not None:
        for rows in _rows(missing, index, catalog, vectors):
            index.add_rows(rows)
        return missing.now, missing.complaints
    assert stamp is not None
    return stamp, []


def save_index(folder: Path, catalog: Catalog, space: Space, wishes: Wishes = WISHES) -> None:
    """Brings the index of library ``folder`` up to the Catalog, on disk. Only for the one writer.

    Media that cannot be read are left out of it; whoever opens it tries them again and says what is missing. What
    ``wishes`` leave open is as it was last asked for in this library.
    """
    wishes = _as_asked(wishes, manifest_of(folder))
    index, stamp = VectorIndex.load_to_write(folder / "index", space, upkeep=wishes.upkeep)
    vectors = VectorStore(folder / "vectors", space)
    missing = _reduce(index, stamp, catalog)
    if missing is None:
        return
    try:
        save(index, folder / "index", missing.stamp, wishes, _rows(missing, index, catalog, vectors))
    except LibraryDamaged:
        # A row that was to be copied from the old one; the VectorStore has it.
        rebuild_index(folder, catalog, space, wishes)
        return
    catalog.trim_changes(space, missing.now)


def rebuild_index(folder: Path, catalog: Catalog, space: Space, wishes: Wishes = WISHES) -> None:
    """Builds the index of library ``folder`` anew from its vectors, while the old one serves. Only for the writer."""
    index = VectorIndex(space, wishes.upkeep)
    missing = _reduce(index, None, catalog)
    assert missing is not None
    rows = _rows(missing, index, catalog, VectorStore(folder / "vectors", space))
    save(index, folder / "index", missing.stamp, wishes, rows)
    catalog.trim_changes(space, missing.now)


def _as_asked(wishes: Wishes, manifest: Manifest) -> Wishes:
    # A kind that this version does not know is as good as none.
    known = manifest.index_kind in [kind.value for kind in IndexKind]
    return replace(
        wishes,
        kind=wishes.kind or (IndexKind(manifest.index_kind) if known else None),
        memory_budget_bytes=wishes.memory_budget_bytes or manifest.index_budget_bytes,
    )


def _reduce(index: VectorIndex, stamp: ClipStamp | None, catalog: Catalog) -> Missing | None:
    """Removes what is gone and says what is missing; None when the index stands where the Catalog does."""
    space = index.space
    now = catalog.clip_stamp(space)
    if now == stamp:
        return None
    if stamp is None or stamp.catalog_id != now.catalog_id:
        # Its ids may be those of other Clips: of a catalog that was lost or exchanged.
        index.clear()
        return Missing(now, 0, None)
    changes = catalog.clip_changes(space, stamp)
    if changes is not None:
        index.remove(changes.removed)
        return Missing(now, changes.added_after_id, None)
    wanted = np.asarray(catalog.clip_ids(space), np.int64)
    held = index.clip_ids()
    index.remove(np.setdiff1d(held, wanted))
    lacking = np.setdiff1d(wanted, held)
    return Missing(now, int(lacking[0]) - 1 if len(lacking) else now.last_id, lacking)


def _rows(missing: Missing, index: VectorIndex, catalog: Catalog, vectors: VectorStore) -> Iterator[ClipRows]:
    """The missing Clips with their vectors, page by page."""
    after_id = missing.after_id
    while clips := catalog.clips_after(index.space, after_id, PAGE):
        after_id = clips[-1].clip_id
        ids = np.asarray([clip.clip_id for clip in clips], np.int64)
        lacking = ~index.has(ids) if missing.wanted is None else np.isin(ids, missing.wanted)
        rows = _pooled([clip for clip, lacks in zip(clips, lacking, strict=True) if lacks], missing, catalog, vectors)
        if len(rows):
            yield rows


def _pooled(clips: list[Clip], missing: Missing, catalog: Catalog, vectors: VectorStore) -> ClipRows:
    space = vectors.space
    encodings = catalog.encodings(space, sorted({clip.media_id for clip in clips}))
    ids, pooled = [np.empty(0, np.int64)], [np.empty((0, space.dim), np.float32)]
    for media_id, group in groupby(clips, key=lambda clip: clip.media_id):
        of_media = list(group)
        if media_id not in encodings:
            continue  # removed by a writer just now
        try:
            frames = vectors.read(encodings[media_id].record)
        except LibraryDamaged as error:
            missing.complaints.append(str(error))
            continue
        within = [clip for clip in of_media if _is_within(clip, len(frames.kept))]
        if len(within) < len(of_media):
            missing.complaints.append(
                f"{len(of_media) - len(within)} clips of media {media_id} span frames that there are none of: "
                "run `ivsearch verify`"
            )
        if within:
            ids.append(np.asarray([clip.clip_id for clip in within], np.int64))
            pooled.append(pool(frames.vectors, [span_of(clip) for clip in within]))
    return rows_in_memory(np.concatenate(ids), np.concatenate(pooled))


def _is_within(clip: Clip, n_frames: int) -> bool:
    return clip.n_frames > 0 and 0 <= clip.first_frame <= n_frames - clip.n_frames
