"""retrieve: a vector → the Media whose Clips are nearest to it. All that comes after looks at those alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Filters, MediaId, Query
from ivsearch.store.catalog import Catalog
from ivsearch.store.vector_index import VectorIndex

# Clips taken from the index for every hit wanted: enough for the refinement to reorder them, and for many Clips
# of one Media to collapse into one hit.
CLIPS_PER_HIT = 20
MIN_CLIPS = 400
# As many more are looked at first where there is a filter: enough for one that a tenth of the library passes.
WIDER = 10
# Media whose frame vectors are read: those of the best Clips. Reading an hour of frames takes a millisecond or more.
MEDIA_PER_HIT = 10
MIN_MEDIA = 150


def retrieve(catalog: Catalog, index: VectorIndex, wanted: NDArray[np.float32], query: Query, k: int) -> list[MediaId]:
    """The Media of the Clips nearest to ``wanted`` (dim,) that pass the query's filters, best first: at least k of
    them, if there are so many."""
    n = max(MIN_CLIPS, k * CLIPS_PER_HIT)
    while True:
        clip_ids = nearest(catalog, index, wanted, query, n)
        clips = catalog.clips(clip_ids)
        media_ids = list(dict.fromkeys(clips[clip_id].media_id for clip_id in clip_ids if clip_id in clips))
        if len(media_ids) >= k or len(clip_ids) < n:
            # A Media without a path has just been replaced or removed; it is forgotten when the run ends.
            held = catalog.media_paths(media_ids)
            return [media_id for media_id in media_ids if media_id in held][: max(MIN_MEDIA, k * MEDIA_PER_HIT)]
        n *= 4  # one long video has taken all the places


def nearest(catalog: Catalog, index: VectorIndex, wanted: NDArray[np.float32], query: Query, n: int) -> list[int]:
    """Ids of the n Clips nearest to ``wanted`` (dim,) that pass the query's filters, best first."""
    filters, after_id = query.filters, query.after_clip or 0
    if filters == Filters() and not after_id:
        return index.search(wanted, n).clip_ids.tolist()
    # Of a filter that most pass, a list of all that do is long, and most of what is found passes anyway.
    wide = index.search(wanted, n * WIDER).clip_ids.tolist()
    passing = catalog.passing_clips(filters, [clip_id for clip_id in wide if clip_id > after_id])
    found = [clip_id for clip_id in wide if clip_id in passing]
    if len(found) >= n or len(wide) >= len(index):
        return found[:n]
    return index.search(wanted, n, catalog.matching_clips(index.space, filters, after_id)).clip_ids.tolist()
