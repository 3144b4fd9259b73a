"""Do the rows of each Media and its vectors fit together? Reads all vectors of a Space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ivsearch.clips import frame_ends_s
from ivsearch.domain import Clip, Media, MediaId, Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Catalog, Encoding
from ivsearch.store.record_bytes import Contents
from ivsearch.store.vector_store import VectorStore

MEDIA_AT_A_TIME = 500


@dataclass(frozen=True, slots=True)
class Unsound:
    """A Media whose Encoding is no good, and why. ``file``: a path that holds it, or its id where none does."""

    media_id: MediaId
    file: str
    reason: str


def unsound_media(catalog: Catalog, vectors: VectorStore) -> Iterator[Unsound]:
    """Those whose vectors cannot be read, or whose rows say something else than their vectors."""
    after = ""
    while some := catalog.encodings_after(vectors.space, after, MEDIA_AT_A_TIME):
        after = max(some)
        for found in _unsound_among(catalog, vectors, sorted(some)):
            # Once more: a writer may have replaced or forgotten it, or dropped the Space, since its rows were read.
            yield from _unsound_among(catalog, vectors, [found.media_id])


def _unsound_among(catalog: Catalog, vectors: VectorStore, media_ids: Sequence[MediaId]) -> Iterator[Unsound]:
    with catalog.snapshot():
        encodings = catalog.encodings(vectors.space, media_ids)
        media, paths = catalog.media(media_ids), catalog.media_paths(media_ids)
        clips: dict[MediaId, list[Clip]] = {}
        for clip in catalog.clips_of(vectors.space, media_ids):
            clips.setdefault(clip.media_id, []).append(clip)
    for media_id, encoding in encodings.items():
        try:
            contents = vectors.contents(encoding.record)
            reason = _misfit(encoding, media.get(media_id), clips.get(media_id, []), contents)
            if not reason and contents.facts and media[media_id] != contents.facts.media:
                reason = _unlike_all(catalog, vectors, media[media_id])
        except LibraryDamaged as error:
            reason = str(error)
        if reason:
            held = paths.get(media_id)
            yield Unsound(media_id, str(held[0]) if held else f"media {media_id}", reason)


def _misfit(encoding: Encoding, media: Media | None, clips: Sequence[Clip], contents: Contents) -> str:
    """What of the rows does not fit the record; empty when all does."""
    frames, facts = contents.frames, contents.facts
    if media is None:
        return "its row is missing"
    if contents.media_id != encoding.media_id:
        return f"its vectors are those of media {contents.media_id}"
    if (encoding.n_samples, encoding.n_frames) != (len(frames.sample_pts_s), len(frames.kept)):
        return "its row does not say how many frames it has"
    if facts and facts.sampling != encoding.sampling:
        return f"its row says that it was sampled by {encoding.sampling!r}, its vectors by {facts.sampling!r}"
    if encoding.n_clips != len(clips):
        return f"{len(clips)} clips are there, not {encoding.n_clips}"
    starts_s, ends_s = frames.pts_s, frame_ends_s(frames.pts_s, media.duration_s)
    at = 0
    for clip in clips:
        stop = at + clip.n_frames
        if clip.first_frame != at or not at < stop <= len(frames.kept):
            return f"clip {clip.clip_id} does not begin where the one before ends"
        if not np.allclose((clip.start_s, clip.end_s), (starts_s[at], ends_s[stop - 1]), rtol=0, atol=1e-6):
            return f"the times of clip {clip.clip_id} are not those of its frames"
        at = stop
    return "" if at == len(frames.kept) else "its clips do not cover its frames"


def _unlike_all(catalog: Catalog, vectors: VectorStore, media: Media) -> str:
    """The row of a Media is written with every Encoding, by the version of the day: it must be as one of them says."""
    for space in catalog.spaces():
        encoding = catalog.encodings(space, [media.media_id]).get(media.media_id)
        if encoding and space != vectors.space:
            facts = _store_of(vectors, space).contents(encoding.record).facts
            if facts is None or facts.media == media:
                return ""
    return "its row does not say what its vectors say of the file"


def _store_of(vectors: VectorStore, space: Space) -> VectorStore:
    return VectorStore(vectors.folder.parent, space)
