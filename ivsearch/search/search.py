"""Query → Hits: encode, retrieve, refine, fuse, calibrate, collapse. Reads top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import pool, span_of
from ivsearch.domain import Clip, Hit, Hits, Media, MediaId, Query
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import LibraryDamaged, MediaError, UsageError
from ivsearch.media.still import Still
from ivsearch.media.suffixes import VIDEO
from ivsearch.search.collapse import collapse
from ivsearch.search.refine import FoundSpan, Refinement, refine
from ivsearch.store.catalog import Catalog
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore

# Clips taken from the index for every hit wanted: enough for the refinement to reorder them, and for many Clips
# of one Media to collapse into one hit.
CLIPS_PER_HIT = 20
MIN_CLIPS = 400
# Media whose frame vectors are read: those of the best Clips. Reading an hour of frames takes a millisecond or more.
MEDIA_PER_HIT = 10
MIN_MEDIA = 150
# Some 500 tokens, as many as any encoder of texts reads; tokenizing ten thousand characters takes many seconds.
LONGEST_TEXT = 2000


def encode_query(encoder: Encoder, query: Query) -> NDArray[np.float32]:
    """A text or an image file as one unit vector (dim,). Raises MediaError for an image that cannot be read."""
    if query.image is None:
        return encoder.encode_texts([(query.text or "").strip()[:LONGEST_TEXT]]).vectors[0]
    if query.image.suffix.lower() in VIDEO:
        raise UsageError(f"{query.image} is a video: search by one of its clips (--clip ID), or by an image")
    # Read as indexing reads it, so that a picture of the library finds itself.
    try:
        with Still(query.image, transparency=encoder.transparency) as still:
            pixels = still.pixels()
    except MediaError as error:
        raise MediaError(f"{query.image}: {error}") from error
    return encoder.encode_images(encoder.preprocess([pixels])).vectors[0]


@dataclass(frozen=True, slots=True)
class Search:
    """Everything a search reads. ``complaints`` collects damaged Media that were left out."""

    catalog: Catalog
    vectors: VectorStore
    index: VectorIndex
    encoder: Encoder
    refinement: Refinement = field(default_factory=Refinement)
    complaints: list[str] = field(default_factory=list)

    def complain(self, complaint: str) -> None:
        """Notes what was left out, once."""
        if complaint not in self.complaints:
            self.complaints.append(complaint)

    def find(
        self, query: Query, k: int = 10, per_media: int | None = None, vector: NDArray[np.float32] | None = None
    ) -> Hits:
        """The k best hits. ``vector``: what ``encode`` gave for the query, where it is known already. Raises UsageError
        for an empty query or a Clip that does not exist."""
        if k < 1:
            raise UsageError(f"the number of hits must be at least 1, not {k}")
        # Every step is handed what the one before found; `found` is the spans of each Media, best first.
        if vector is None:
            vector = self.encode(query)
        media_ids = self._retrieve(vector, query, k)[: max(MIN_MEDIA, k * MEDIA_PER_HIT)]
        # A Clip is the best answer to its own query, and the one nobody asked for.
        found = self._refine(vector, media_ids, exclude=query.clip_id)
        shown = collapse(found, k, per_media)
        return Hits(query, self.encoder.space, self._hits(shown), matched=bool(shown))

    def encode(self, query: Query) -> NDArray[np.float32]:
        """The query as one unit vector (dim,) float32."""
        if sum(part is not None for part in (query.text, query.image, query.clip_id)) != 1:
            raise UsageError("ask for exactly one of a text, an image or a clip")
        if query.clip_id is not None:
            return self._clip_vector(query.clip_id)
        return encode_query(self.encoder, query)

    def _clip_vector(self, clip_id: int) -> NDArray[np.float32]:
        clip = self.catalog.clips([clip_id]).get(clip_id)
        encodings = self.catalog.encodings(self.encoder.space, [clip.media_id]) if clip else {}
        if clip is None or not encodings:
            raise UsageError(f"there is no clip {clip_id} in this library; `ivsearch search --json` shows clip ids")
        frames = self.vectors.read(encodings[clip.media_id].record)
        return pool(frames.vectors, [span_of(clip)])[0]

    def _retrieve(self, vector: NDArray[np.float32], query: Query, k: int) -> list[MediaId]:
        """The Media of the best Clips, best first: at least k of them, if there are so many."""
        n = max(MIN_CLIPS, k * CLIPS_PER_HIT)
        matching = self.catalog.matching_media(query.filters)
        among = None if matching is None else self.catalog.clip_ids(self.encoder.space, matching)
        while True:
            clip_ids = [int(clip_id) for clip_id in self.index.search(vector, n, among).clip_ids]
            clips = self.catalog.clips(clip_ids)
            media_ids = list(dict.fromkeys(clips[clip_id].media_id for clip_id in clip_ids if clip_id in clips))
            if len(media_ids) >= k or len(clip_ids) < n:
                # A Media without a path has just been replaced or removed; it is forgotten when the run ends.
                held = self.catalog.media_paths(media_ids)
                return [media_id for media_id in media_ids if media_id in held]
            n *= 4  # one long video has taken all the places

    def _refine(
        self, vector: NDArray[np.float32], media_ids: Sequence[MediaId], exclude: int | None
    ) -> dict[MediaId, list[FoundSpan]]:
        space = self.encoder.space
        media = self.catalog.media(media_ids)
        encodings = self.catalog.encodings(space, media_ids)
        clips: dict[MediaId, list[Clip]] = {}
        for clip in self.catalog.clips_of(space, media_ids):
            if clip.clip_id != exclude:
                clips.setdefault(clip.media_id, []).append(clip)
        spans = {}
        for media_id in media_ids:
            if media_id not in media or media_id not in encodings or media_id not in clips:
                continue
            try:
                frames = self.vectors.read(encodings[media_id].record)
            except LibraryDamaged as error:
                self.complain(str(error))
                continue
            spans[media_id] = refine(vector, clips[media_id], frames, media[media_id].duration_s, self.refinement)
        return spans

    def _hits(self, shown: Sequence[tuple[MediaId, FoundSpan]]) -> tuple[Hit, ...]:
        media_ids = list(dict.fromkeys(media_id for media_id, _ in shown))
        media: dict[MediaId, Media] = self.catalog.media(media_ids)
        paths = self.catalog.media_paths(media_ids)
        # A writer may have removed some since they were found.
        held = [each for each in shown if each[0] in media and each[0] in paths]
        return tuple(
            Hit(
                rank=rank,
                score=span.score,
                path=paths[media_id][0],
                media_id=media_id,
                kind=media[media_id].kind,
                clip_id=span.clip.clip_id,
                start_s=span.start_s,
                end_s=span.end_s,
                moment=span.moment,
                likely=span.likely,
            )
            for rank, (media_id, span) in enumerate(held, 1)
        )
