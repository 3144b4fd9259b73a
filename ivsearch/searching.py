"""Searching a Library that others write to meanwhile: what is open follows them, and every answer is of one Space."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from ivsearch.domain import Hits, Only, Query, Reranking, Space
from ivsearch.encoder_in_use import EncoderInUse
from ivsearch.errors import SpaceMismatch, UsageError
from ivsearch.rerankers import Rerankers
from ivsearch.settings import Settings
from ivsearch.store.catalog import Catalog, ClipStamp
from ivsearch.store.refresh import refresh
from ivsearch.store.saved_queries import SavedQueries
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore

if TYPE_CHECKING:
    from ivsearch.search.rerank import Reranker
    from ivsearch.search.search import Search
    from ivsearch.search.texts import TextHit


class Searching:
    """What searches one Library. ``catalog`` gives the open one: a repair closes it and opens another. One thread may
    index while others search."""

    def __init__(
        self, folder: Path, settings: Settings, catalog: Callable[[], Catalog], thumbs: Thumbs, encoder: EncoderInUse
    ) -> None:
        self.rerankers = Rerankers(folder, settings, encoder)
        self._folder = folder
        self._settings = settings
        self._catalog = catalog
        self._thumbs = thumbs
        self._in_use = encoder
        self._lock = Lock()
        self._search: Search | None = None
        self._stamp: ClipStamp | None = None

    def searcher(self) -> Search:
        """What searches: opened once, and anew when the library has changed since. Raises as ``space`` does."""
        with self._lock:
            self._in_use.follow(self._catalog())
            space = self.space()
            search = self._search
            if search is not None and search.encoder is not self._in_use.encoder:
                search = None
            if search is None or self._stamp != self._catalog().clip_stamp(space):
                if search is None or search.index.is_outdated(self._folder / "index"):
                    search, self._stamp = self._opened(space)
                self._stamp, more = refresh(search.index, self._stamp, self._catalog(), search.vectors)
                for complaint in more:
                    search.complain(complaint)
                self._search = search
            if self._in_use.not_followed:
                search.complain(self._in_use.not_followed)
            return search

    def forget(self) -> None:
        """Has the next search opened anew: this process has changed the library."""
        self._search = None

    def space(self) -> Space:
        """The Space to search in. Raises SpaceMismatch when this encoder's vectors are not in the library."""
        space, source = self._in_use.encoder.space, self._in_use.source
        known = self._catalog().spaces()
        if space in known or not known:
            return space
        made_with = ", ".join(f"{each.encoder} {each.revision[:12]}" for each in known)
        raise SpaceMismatch(
            f"this library has no vectors of {space.encoder} {space.revision[:12]}, only of {made_with}. "
            f"Add them (the old ones stay): ivsearch index --encoder {source.name}"
            + (f" --weights {source.weights}" if source.weights else "")
            + (f" --preprocess {source.preprocess}" if source.preprocess else "")
            + f" --library {self._folder}"
        )

    def last_clip(self) -> int:
        """The highest clip id there is to search."""
        return self._catalog().clip_stamp(self.space()).last_id

    def find(self, query: Query, k: int, per_media: int | None, rerank: Reranking | None, only: Only | None) -> Hits:
        """As ``Library.find``."""
        while True:
            space = self.searcher().encoder.space
            hits = self._find(query, k, per_media, rerank, only)
            # Where searches were switched to another Space meanwhile, or this one was dropped: once more, all of it
            # in one.
            if hits.space == space and space in (self._catalog().spaces() or [space]):
                return hits

    def find_saved(
        self, name: str, k: int | None, per_media: int | None, rerank: Reranking | None, only_new: bool
    ) -> Hits:
        """As ``Library.find_saved``."""
        queries = SavedQueries(self._folder)
        saved = queries.get(name, f". To search for the words, write text:@{name}")
        space = self.space()
        last = self.last_clip()  # what is indexed while it runs counts as new the next time
        query = saved.query
        if only_new:
            query = dataclasses.replace(query, after_clip=saved.seen.get(space.key))
            if space.key not in saved.seen:
                self.searcher().complain(f"@{name} was not run with {space.encoder} yet: all counts as new this once")
        k, per_media = saved.k if k is None else k, saved.per_media if per_media is None else per_media
        hits = self.find(query, k, per_media, rerank, None)
        try:
            queries.note_run(name, space, last)
        except OSError as error:
            self.searcher().complain(
                f"cannot note that @{name} was run ({error.strerror}): --new will show these again"
            )
        return hits

    def _opened(self, space: Space) -> tuple[Search, ClipStamp | None]:
        from ivsearch.search.search import Search

        catalog, settings = self._catalog(), self._settings
        index, stamp = VectorIndex.load(self._folder / "index", space)
        vectors = VectorStore(self._folder / "vectors", space)
        search = Search(
            catalog,
            vectors,
            index,
            self._in_use.encoder,
            self._thumbs,
            min_likely=settings.min_likely,
            diverse=settings.diverse,
        )
        index.complaints = search.complaints
        if vectors.segments() and space not in catalog.spaces():
            search.complain("the catalog knows nothing of the vectors there are: `ivsearch index` fills it again")
        if not catalog.is_complete(space):
            search.complain(
                f"some media have no vectors of {space.encoder} {space.revision[:12]} yet and are not searched: "
                "run `ivsearch index`"
            )
        return search, stamp

    def _find(self, query: Query, k: int, per_media: int | None, rerank: Reranking | None, only: Only | None) -> Hits:
        """Words and pictures are found in one state of the library, whatever writers do meanwhile."""
        from ivsearch.search.fuse import Fusion, fuse
        from ivsearch.search.rerank import spread

        fusion = Fusion()
        if only is Only.TEXT:
            self._check_words(query, rerank)
            with self._catalog().snapshot():
                texts = self._texts(query, fusion.min_coverage)
                return spread(fuse(Hits(query, self.space(), (), False), texts, fusion), k, per_media)
        # Loading it may take long, as does its look at pictures: no snapshot is held meanwhile.
        reranker = None if rerank is None else self._reranker(query, rerank)
        with self._catalog().snapshot():
            texts = [] if only is Only.PICTURE else self._texts(query, fusion.min_coverage)
            n = max(k, fusion.picture_depth) if texts else k
            depth = n if rerank is None or n < 1 else max(n, rerank.depth)
            pictures = self.searcher().find(query, depth, per_media)
            rows = None if reranker is None else reranker.rows(pictures, self._catalog())
        if rerank is not None and reranker is not None and rows is not None:
            pictures = spread(reranker.rank(pictures, rows, depth=rerank.depth, itm=rerank.itm), n, per_media)
        return spread(fuse(pictures, texts, fusion), k, per_media) if texts else pictures

    def _check_words(self, query: Query, rerank: Reranking | None) -> None:
        """Raises UsageError where ``only`` words cannot be looked for."""
        if query.text is None or query.then:
            raise UsageError("--only text looks for words: give a text, and no image, clip, --then, + or -")
        if rerank is not None:
            raise UsageError("words are not ranked again: leave --rerank out, or --only text")

    def _reranker(self, query: Query, wanted: Reranking) -> Reranker:
        from ivsearch.search.rerank import Reranker

        if query.then:
            raise UsageError("what follows what is not ranked again: leave --rerank out")
        encoder = self.rerankers.encoder(wanted)
        vectors = VectorStore(self._folder / "vectors", encoder.space)
        return Reranker(encoder, vectors, self.searcher().complain, self._settings.max_pixels)

    def _texts(self, query: Query, min_coverage: float) -> list[TextHit]:
        """Words in the footage that fit the query's text; none where it is more or less than a text."""
        from ivsearch.search.texts import find_texts

        if query.text is None or query.then:
            return []
        found = find_texts(self._catalog(), self.space(), query.text, min_coverage=min_coverage, filters=query.filters)
        after = query.after_clip
        return found if after is None else [each for each in found if each.hit.clip_id > after]
