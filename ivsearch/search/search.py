"""Query → Hits: encode, retrieve, refine, fuse, calibrate, collapse. Reads top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import Span, frame_ends_s, pool, span_of
from ivsearch.domain import (
    Clip,
    Contribution,
    Copy,
    Filters,
    FrameVectors,
    Hit,
    Hits,
    Media,
    MediaId,
    MediaKind,
    Modality,
    Query,
    Term,
)
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import LibraryDamaged, UsageError
from ivsearch.plain_text import clock
from ivsearch.scoring.gallery import Gallery, Sample, gallery_of, sample_of
from ivsearch.scoring.hubness import Hubness
from ivsearch.scoring.vocabulary import vocabulary_vectors
from ivsearch.search.calibrate import Shown, Told, by_pictures, by_words, calibrated
from ivsearch.search.collapse import collapse, distinct
from ivsearch.search.compose import Composed, compose, encode_term
from ivsearch.search.diversity import diversify
from ivsearch.search.duplicates import Copies, copied_in, fold
from ivsearch.search.fuse import Fusion
from ivsearch.search.refine import FoundSpan, Refinement, refine
from ivsearch.search.retrieve import retrieve
from ivsearch.search.sequence import Step, sequences
from ivsearch.search.terms import check_terms, terms_of
from ivsearch.search.texts import find_texts
from ivsearch.search.wording import READABLE
from ivsearch.settings import DIVERSE, MIN_LIKELY
from ivsearch.store.catalog import Catalog
from ivsearch.store.coverage import space_of_clip
from ivsearch.store.matching import fitting_first
from ivsearch.store.texts import Texts
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore

# Of Media that filters leave out, so many of the best are compared with so many hits, lest a copy be taken for a rival.
OUTSIDE = 20
# Hits wanted to differ are chosen from so many, whatever their number: more of them begin with the same ones.
MMR_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Search:
    """Everything a search reads. ``thumbs``: by which copies are told; without them none are. ``min_likely``: from
    where on something matches. ``diverse``: how much hits are to differ. ``complaints`` collects what was left out:
    damaged Media, or an index that is not all there."""

    catalog: Catalog
    vectors: VectorStore
    index: VectorIndex
    encoder: Encoder
    thumbs: Thumbs | None = None
    refinement: Refinement = field(default_factory=Refinement)
    min_likely: float = MIN_LIKELY
    diverse: float = DIVERSE
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
        if per_media is not None and per_media < 1:
            raise UsageError(
                f"at least 1 hit of one file must be wanted, not {per_media}; None: as few as fill the list"
            )
        if query.then:
            return self._find_sequences(query, k, per_media)
        # Every step is handed what the one before found; `found` is the spans of each Media, best first.
        composed = self.compose(query) if vector is None else Composed.of(vector)
        media_ids = retrieve(self.catalog, self.index, composed.wanted, query, k)
        terms = terms_of(query)
        # A Clip is the best answer to its own query, and the one nobody asked for.
        found = self._refine(composed, media_ids, {term.clip_id for term in terms}, self._hubness(terms))
        among_all = query.filters == Filters() and query.after_clip is None
        left = distinct(found, k, per_media, self._copies(list(found)))
        shown = diversify(left[: max(k, MMR_DEPTH)], k, self.diverse)
        shown = calibrated(shown, self._calibration(terms, composed, found, among_all, left))
        matched = any(span.likely is None or span.likely >= self.min_likely for _, span in shown)
        return Hits(query, self.encoder.space, self._hits(shown, query.filters), matched)

    def _find_sequences(self, query: Query, k: int, per_media: int | None) -> Hits:
        """Where one thing is followed by the next. Videos that match any step well are looked at, so that a step that
        is seen clearly brings along one that is not."""
        if query.filters.kind is MediaKind.IMAGE:
            raise UsageError("what follows what is found in videos: leave --kind image out")
        for then in query.then:
            check_terms(then.terms)
            if not 0 <= then.within_s < math.inf:
                raise UsageError(f"the next step must begin within 0 seconds or more, not {then.within_s:g}")
        background = self._background()
        wanted = [(terms_of(query), 0.0), *((then.terms, then.within_s) for then in query.then)]
        steps = [
            Step.of(self._composed(terms), background, within_s, self._hubness(terms)) for terms, within_s in wanted
        ]
        videos = replace(query, filters=replace(query.filters, kind=MediaKind.VIDEO))
        media_ids: dict[MediaId, None] = {}
        for step in steps:
            media_ids |= dict.fromkeys(retrieve(self.catalog, self.index, step.composed.wanted, videos, k))
        found = {
            media_id: spans
            for media_id, clips, frames, duration_s in self._read(list(media_ids), exclude=set())
            if (spans := sequences(steps, clips, frames, duration_s))
        }
        shown = collapse(found, k, per_media)
        return Hits(query, self.encoder.space, self._hits(shown, query.filters), matched=bool(shown))

    def find_words(self, text: str, filters: Filters, min_coverage: float) -> list[Hit]:
        """Where words of the text are written or said, best first, but for words that are everywhere. Each has one
        Contribution with those words; its score is the share of the text that they hold."""
        found = find_texts(self.catalog, self.encoder.space, text, min_coverage=min_coverage, filters=filters)
        telling = [each for each in found if each.rarity >= min(Fusion().whole_rarity, each.rarest)]
        return [
            replace(
                each.hit, rank=rank, contributions=(Contribution(each.modality, rank, each.coverage, 1.0, each.text),)
            )
            for rank, each in enumerate(telling, 1)
        ]

    def encode(self, query: Query) -> NDArray[np.float32]:
        """What the query wants as one unit vector (dim,) float32."""
        return self.compose(query).wanted

    def compose(self, query: Query) -> Composed:
        """The query's Terms as one wanted vector, and what counts against a Clip."""
        return self._composed(terms_of(query))

    def _composed(self, terms: Sequence[Term]) -> Composed:
        vectors = [
            encode_term(self.encoder, term) if term.clip_id is None else self._clip_vector(term) for term in terms
        ]
        if len(terms) == 1:
            return Composed.of(vectors[0])
        return compose(terms, np.stack(vectors), self._background())

    def _clip_vector(self, term: Term) -> NDArray[np.float32]:
        clip = self.catalog.clips([term.clip_id]).get(term.clip_id) if term.clip_id is not None else None
        owner = space_of_clip(self.catalog, clip.clip_id) if clip else None
        if clip and owner and owner != self.encoder.space:
            raise UsageError(
                f"clip {clip.clip_id} is one of {owner.key}, and this search is in {self.encoder.space.key}, which has "
                "clips of its own: find it again there, or `ivsearch spaces use` the other"
            )
        encodings = self.catalog.encodings(self.encoder.space, [clip.media_id]) if clip else {}
        if clip is None or not encodings:
            raise UsageError(
                f"there is no clip {term.clip_id} in this library; `ivsearch search --json` shows clip ids"
            )
        frames = self.vectors.read(encodings[clip.media_id].record)
        span = span_of(clip)
        if term.start_s is not None and term.end_s is not None:
            duration_s = self.catalog.media([clip.media_id])[clip.media_id].duration_s
            shown = (frames.pts_s < term.end_s) & (frame_ends_s(frames.pts_s, duration_s) > term.start_s)
            within = np.flatnonzero(shown[clip.first_frame : clip.first_frame + clip.n_frames]) + clip.first_frame
            if len(within) == 0:
                raise UsageError(
                    f"clip {clip.clip_id} runs from {clock(clip.start_s)} to {clock(clip.end_s)}: nothing of it is "
                    f"between {clock(term.start_s)} and {clock(term.end_s)}"
                )
            span = Span(int(within[0]), len(within), term.start_s, term.end_s)
        return pool(frames.vectors, [span])[0]

    def _background(self) -> NDArray[np.float32]:
        """Vectors of Clips evenly drawn from the library, (n, dim) float32."""
        sample = self.sample()
        return np.empty((0, self.encoder.space.dim), np.float32) if sample is None else sample.clips

    def sample(self) -> Sample | None:
        """Clips evenly drawn from the library; None for an empty one."""
        return sample_of(self.catalog, self.index)

    def gallery(self) -> Gallery | None:
        """What the library looks like to its encoder, which is asked for words; None for an empty library."""
        return gallery_of(self.catalog, self.index, self.encoder)

    def _calibration(
        self,
        terms: Sequence[Term],
        composed: Composed,
        found: Mapping[MediaId, Sequence[FoundSpan]],
        among_all: bool,
        left: Sequence[tuple[MediaId, FoundSpan]],
    ) -> Told | Shown | None:
        """None where scores cannot be told apart: in an empty library, or for texts composed with pictures."""
        if all(term.text is None for term in terms):
            return by_pictures(self.sample())
        gallery = self.gallery() if all(term.text is not None for term in terms) else None
        if gallery is None:
            return None
        copied = copied_in(left)
        if not among_all:
            copied |= self._copied_outside(terms, composed, found, left, gallery)
        return by_words(composed.wanted, found, gallery, among_all, copied)

    def _copied_outside(
        self,
        terms: Sequence[Term],
        composed: Composed,
        found: Mapping[MediaId, Sequence[FoundSpan]],
        left: Sequence[tuple[MediaId, FoundSpan]],
        gallery: Gallery,
    ) -> set[MediaId]:
        """Media left out by filters that show what a hit shows. Without filters they would be folded into it, and it
        need not stand out against them. Only those near enough to be rivals are looked at."""
        best_first = gallery.sample.owners[np.argsort(-gallery.fits(composed.wanted), kind="stable")]
        rivals = [each for each in dict.fromkeys(best_first.tolist()) if each not in found][:OUTSIDE]
        outside = self._refine(composed, rivals, set(), self._hubness(terms))
        shown = [*left[:OUTSIDE], *((media_id, spans[0]) for media_id, spans in outside.items())]
        return copied_in(fold(shown, self._copies([media_id for media_id, _ in shown])))

    def _copies(self, media_ids: Sequence[MediaId]) -> Copies | None:
        """What tells copies among these Media; None without thumbnails."""
        return None if self.thumbs is None else Copies(self.thumbs, self.frames_of(media_ids), self._words_on_screen)

    def _words_on_screen(self, clip: Clip) -> list[str]:
        """The rows of words that were read during a Clip; none where they cannot be relied on."""
        media = self.catalog.media([clip.media_id]).get(clip.media_id)
        if media is None or min(media.width, media.height) < READABLE:
            return []
        lines = Texts(self.catalog).lines(clip.media_id, clip.start_s, clip.end_s)
        return [line.text for source, line in lines if source is Modality.SCREEN]

    def _hubness(self, terms: Sequence[Term]) -> Hubness | None:
        """Only words are nearer to some pictures than they should be: a picture that is asked for is what it is."""
        gallery = self.gallery() if all(term.text is not None for term in terms) else None
        return None if gallery is None else Hubness(vocabulary_vectors(self.encoder), gallery.usual_hub)

    def _refine(
        self, composed: Composed, media_ids: Sequence[MediaId], exclude: Set[int | None], hubness: Hubness | None
    ) -> dict[MediaId, list[FoundSpan]]:
        return {
            media_id: refine(composed, clips, frames, duration_s, self.refinement, hubness)
            for media_id, clips, frames, duration_s in self._read(media_ids, exclude)
        }

    def _read(
        self, media_ids: Sequence[MediaId], exclude: Set[int | None]
    ) -> Iterator[tuple[MediaId, list[Clip], FrameVectors, float]]:
        """Each Media with its Clips in time order, its frame vectors and its duration in seconds; those that have gone
        meanwhile are passed over, damaged ones with a complaint."""
        space = self.encoder.space
        media = self.catalog.media(media_ids)
        encodings = self.catalog.encodings(space, media_ids)
        clips: dict[MediaId, list[Clip]] = {}
        for clip in self.catalog.clips_of(space, media_ids):
            if clip.clip_id not in exclude:
                clips.setdefault(clip.media_id, []).append(clip)
        for media_id in media_ids:
            if media_id not in media or media_id not in encodings or media_id not in clips:
                continue
            try:
                frames = self.vectors.read(encodings[media_id].record)
            except LibraryDamaged as error:
                self.complain(str(error))
                continue
            yield media_id, clips[media_id], frames, media[media_id].duration_s

    def frames(self, media_id: MediaId) -> FrameVectors | None:
        """A Media's frame vectors. None when they have gone."""
        return self.frames_of([media_id])(media_id)

    def frames_of(self, media_ids: Sequence[MediaId]) -> Callable[[MediaId], FrameVectors | None]:
        """What gives the frame vectors of these Media, or None of those that have gone."""
        encodings = self.catalog.encodings(self.encoder.space, media_ids)

        def frames(media_id: MediaId) -> FrameVectors | None:
            encoding = encodings.get(media_id)
            try:
                return None if encoding is None else self.vectors.read(encoding.record)
            except LibraryDamaged as error:
                self.complain(str(error))
                return None

        return frames

    def _hits(self, shown: Sequence[tuple[MediaId, FoundSpan]], filters: Filters) -> tuple[Hit, ...]:
        copied = (media_id for _, span in shown for media_id, _ in span.copies)
        media_ids = list(dict.fromkeys((*(media_id for media_id, _ in shown), *copied)))
        media: dict[MediaId, Media] = self.catalog.media(media_ids)
        paths = {each: fitting_first(held, filters) for each, held in self.catalog.media_paths(media_ids).items()}
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
                copies=(
                    *(Copy(path, media_id, span.start_s, span.end_s) for path in paths[media_id][1:]),
                    *(
                        Copy(paths[other][0], other, copy.start_s, copy.end_s)
                        for other, copy in span.copies
                        if other in paths
                    ),
                ),
                steps=span.steps,
            )
            for rank, (media_id, span) in enumerate(held, 1)
        )
