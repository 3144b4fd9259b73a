"""rerank: the best hits of a search, judged again by a stronger encoder that looks at their Moments alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import Span, frame_ends_s, pool
from ivsearch.domain import Clip, FrameVectors, Hit, Hits, Media, MediaId, MediaKind, Query, Term
from ivsearch.encode.encoder import Encoder, Matcher
from ivsearch.errors import LibraryDamaged, MediaError, UsageError
from ivsearch.media.excerpt import excerpt
from ivsearch.media.faults import explain
from ivsearch.media.fingerprint import fingerprint
from ivsearch.pictures import MAX_PIXELS
from ivsearch.search.collapse import smallest_limit
from ivsearch.search.compose import Composed, compose, encode_term
from ivsearch.search.terms import terms_of
from ivsearch.store.catalog import Catalog, Encoding, PathRow
from ivsearch.store.vector_store import VectorStore

FRAMES = 8
"""Frames looked at of each Moment, spread evenly: as many as in the InternVL-C video protocol."""

MAX_READERS = 8


@dataclass(frozen=True, slots=True)
class Scene:
    """What is judged of one Media: ``[start_s, end_s)``."""

    media_id: MediaId
    kind: MediaKind
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Unread:
    """A Scene whose pictures cannot be had, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What the Catalog holds of the Media that are judged, and of the Clips that are asked for by id: read at once, so
    that a writer who changes them while pictures are decoded, which takes long, changes nothing here."""

    clips: Mapping[int, Clip]
    media: Mapping[MediaId, Media]
    encodings: Mapping[MediaId, Encoding]
    paths: Mapping[MediaId, Sequence[PathRow]]


@dataclass(frozen=True, slots=True)
class Reranker:
    """``vectors`` are those the library has in the encoder's own Space, often none. ``complain`` hears of every hit
    that could not be judged, such as one of a picture with more than ``max_pixels``."""

    encoder: Encoder
    vectors: VectorStore
    complain: Callable[[str], None]
    max_pixels: int = MAX_PIXELS

    def rows(self, hits: Hits, catalog: Catalog) -> Rows:
        """What ``rank`` needs to know of the hits. To be read in the snapshot that they were found in."""
        wanted = [term.clip_id for term in terms_of(hits.query) if term.clip_id is not None]
        clips = catalog.clips(wanted)
        media_ids = list({hit.media_id for hit in hits} | {clip.media_id for clip in clips.values()})
        return Rows(
            clips,
            catalog.media(media_ids),
            catalog.encodings(self.encoder.space, media_ids),
            catalog.path_rows(media_ids),
        )

    def rank(self, hits: Hits, rows: Rows, *, depth: int, itm: bool) -> Hits:
        """The first ``depth`` hits in the order of their new scores; below them, as they were, those that cannot be
        judged and all the others. Raises UsageError when the encoder has no image-text matching, or no text is asked.
        """
        if depth < 1:
            raise UsageError(f"the number of hits to rank again must be at least 1, not {depth}")
        best = hits.hits[:depth]
        scenes = [Scene(hit.media_id, hit.kind, hit.moment.start_s, hit.moment.end_s) for hit in best]
        scores = self._matches(hits.query, scenes, rows) if itm else self._cosines(hits.query, scenes, rows)
        judged = [
            replace(hit, score=score, retrieval_score=hit.score)
            for hit, score in zip(best, scores, strict=True)
            if not isinstance(score, Unread)
        ]
        unread = []
        for hit, score in zip(best, scores, strict=True):
            if isinstance(score, Unread):
                self.complain(f"{hit.path}: not ranked again, {score.reason}")
                unread.append(hit)
        judged.sort(key=lambda hit: -hit.score)
        ordered = [*judged, *unread, *hits.hits[depth:]]
        return replace(hits, hits=_numbered(ordered), reranker=self.encoder.space)

    def _cosines(self, query: Query, scenes: Sequence[Scene], rows: Rows) -> list[float | Unread]:
        vectors = self._scene_vectors(scenes, rows)
        seen = [each for each in vectors if not isinstance(each, Unread)]
        composed = self._composed(query, np.stack(seen), rows) if seen else None
        scores = iter(composed.scores(np.stack(seen)) if composed else ())
        return [each if isinstance(each, Unread) else float(next(scores)) for each in vectors]

    def _matches(self, query: Query, scenes: Sequence[Scene], rows: Rows) -> list[float | Unread]:
        """The mean over each Scene's frames of the probability that frame and text belong together."""
        if not isinstance(self.encoder, Matcher):
            raise UsageError(
                f"encoder {self.encoder.space.encoder!r} has no image-text matching: leave --rerank-itm out, "
                "or use --rerank internvl-g"
            )
        if query.text is None:
            raise UsageError("--rerank-itm judges pictures against a text: ask for a text, or leave it out")
        scores: list[float | Unread] = []
        for batch in chain.from_iterable(self._pictures(some, rows) for some in self._groups(scenes)):
            if isinstance(batch, Unread):
                scores.append(batch)
            else:
                scores.append(float(self.encoder.match(batch, [query.text] * len(batch)).mean()))
        return scores

    def _composed(self, query: Query, seen: NDArray[np.float32], rows: Rows) -> Composed:
        """The query in this encoder's Space. Where Terms are weighed, by how they score on what is judged, ``seen``
        (n, dim): the library may have no other vectors of that Space."""
        terms = terms_of(query)
        vectors = [self._term_vector(term, rows) for term in terms]
        return Composed.of(vectors[0]) if len(terms) == 1 else compose(terms, np.stack(vectors), seen)

    def _term_vector(self, term: Term, rows: Rows) -> NDArray[np.float32]:
        if term.clip_id is None:
            return encode_term(self.encoder, term)
        clip = rows.clips[term.clip_id]  # the search has found it before
        kind = rows.media[clip.media_id].kind
        start_s, end_s = clip.start_s, clip.end_s
        if term.start_s is not None and term.end_s is not None:
            start_s, end_s = max(start_s, term.start_s), min(end_s, term.end_s)
        (vector,) = self._scene_vectors([Scene(clip.media_id, kind, start_s, end_s)], rows)
        if isinstance(vector, Unread):
            raise MediaError(f"clip {term.clip_id} cannot be looked at again: {vector.reason}")
        return vector

    def _scene_vectors(self, scenes: Sequence[Scene], rows: Rows) -> list[NDArray[np.float32] | Unread]:
        """A unit vector (dim,) a Scene: the mean of its frames' vectors, stored ones where the library has them."""
        stored = [self._stored(scene, rows) for scene in scenes]
        missing = [scene for scene, vector in zip(scenes, stored, strict=True) if vector is None]
        seen = chain.from_iterable(self._look_at(some, rows) for some in self._groups(missing))
        return [next(seen) if vector is None else vector for vector in stored]

    def _groups(self, scenes: Sequence[Scene]) -> Iterator[Sequence[Scene]]:
        """As many Scenes as the encoder takes at once, so that no more preprocessed frames than that are held."""
        size = max(MAX_READERS, self.encoder.batch_size // FRAMES)
        return (scenes[start : start + size] for start in range(0, len(scenes), size))

    def _look_at(self, scenes: Sequence[Scene], rows: Rows) -> list[NDArray[np.float32] | Unread]:
        seen = self._pictures(scenes, rows)
        pooled = iter(self._pooled([batch for batch in seen if not isinstance(batch, Unread)]))
        return [batch if isinstance(batch, Unread) else next(pooled) for batch in seen]

    def _pooled(self, batches: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Preprocessed frames of n Scenes → (n, dim), encoded as many at once as suits the encoder."""
        if not batches:
            return np.empty((0, self.encoder.space.dim), np.float32)
        frames, size = np.concatenate(batches), self.encoder.batch_size
        parts = [self.encoder.encode_images(frames[at : at + size]).vectors for at in range(0, len(frames), size)]
        edges = accumulate((len(batch) for batch in batches), initial=0)
        return pool(np.concatenate(parts), [Span(first, last - first, 0.0, 0.0) for first, last in pairwise(edges)])

    def _stored(self, scene: Scene, rows: Rows) -> NDArray[np.float32] | None:
        encoding = rows.encodings.get(scene.media_id)
        if encoding is None:
            return None
        try:
            frames = self.vectors.read(encoding.record)
        except LibraryDamaged:
            return None  # `verify` tells of it; the file itself is still there to look at
        if not len(frames.kept):
            return None
        duration_s = rows.media[scene.media_id].duration_s
        return pool(frames.vectors, [_frames_of(scene, frames, duration_s)])[0]

    def _pictures(self, scenes: Sequence[Scene], rows: Rows) -> list[NDArray[np.float32] | Unread]:
        """Each Scene's frames, preprocessed; read by several threads at once."""
        with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_READERS), "reader") as threads:
            return list(threads.map(lambda scene: self._look(scene, rows.paths.get(scene.media_id, [])), scenes))

    def _look(self, scene: Scene, rows: Sequence[PathRow]) -> NDArray[np.float32] | Unread:
        if not rows:
            return Unread("it has just been removed from the library")
        there = [row for row in rows if row.path.exists()]
        try:
            row = next(filter(_is_unchanged, there or rows[:1]), None)
            if row is None:
                return Unread("it has changed since it was indexed: run `ivsearch index`")
            frames = excerpt(
                row.path, _times_s(scene), transparency=self.encoder.transparency, max_pixels=self.max_pixels
            )
        except MediaError as error:
            return Unread(str(error))
        return self.encoder.preprocess([frame.pixels for frame in frames])


def _is_unchanged(row: PathRow) -> bool:
    """Whether the file still holds the Media it was indexed as. Raises MediaError when it cannot be read."""
    try:
        now = row.path.stat()
    except OSError as error:
        raise MediaError(explain(row.path, error)) from error
    if (now.st_size, now.st_mtime_ns) == (row.size_bytes, row.mtime_ns):
        return True
    # Touched or copied over by itself; the id may be that of a library that fingerprints whole files.
    return now.st_size == row.size_bytes and any(
        fingerprint(row.path, strict=strict) == row.media_id for strict in (False, True)
    )


def spread(hits: Hits, k: int, per_media: int | None) -> Hits:
    """The first k of ``hits``, at most ``per_media`` of one Media; None: as few of one as still fill k, as in a search
    without re-ranking."""
    counts: dict[MediaId, int] = {}
    for hit in hits.hits:
        counts[hit.media_id] = counts.get(hit.media_id, 0) + 1
    limit = per_media or smallest_limit(list(counts.values()), k)
    shown: list[Hit] = []
    for hit in hits.hits:
        if sum(other.media_id == hit.media_id for other in shown) < limit:
            shown.append(hit)
    return replace(hits, hits=_numbered(shown[:k]))


def _numbered(hits: Sequence[Hit]) -> tuple[Hit, ...]:
    return tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits, 1))


def _times_s(scene: Scene) -> list[float]:
    """The middles of FRAMES equal parts."""
    length_s = scene.end_s - scene.start_s
    return [scene.start_s + (part + 0.5) / FRAMES * length_s for part in range(FRAMES)]


def _frames_of(scene: Scene, frames: FrameVectors, duration_s: float) -> Span:
    """The stored frames shown during the Scene; at least the one that stands when it begins."""
    pts_s = frames.pts_s
    shown = np.flatnonzero((pts_s < scene.end_s) & (frame_ends_s(pts_s, duration_s) > scene.start_s))
    if len(shown) == 0:
        shown = np.array([max(int(np.searchsorted(pts_s, scene.start_s, side="right")) - 1, 0)])
    return Span(int(shown[0]), len(shown), scene.start_s, scene.end_s)
