"""A Library: one folder, and every act on it as one call. Wires media, encode, store, search and ask together.

Models are loaded on first use. Nothing here prints.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from ivsearch import care, spaces
from ivsearch.domain import (
    Absence,
    Answer,
    Filters,
    Hit,
    Hits,
    Ingested,
    Only,
    Piece,
    Query,
    Region,
    Removed,
    Reranking,
    Skipped,
    Space,
    Term,
    Then,
    Turn,
)
from ivsearch.encode.encoder import Encoder, Shared
from ivsearch.encode.table import encoder_row
from ivsearch.encoder_source import absolute_folder, absolute_name, check_remembered, check_source, load, source_of
from ivsearch.errors import IvsearchError, LibraryMissing, SpaceMismatch, UsageError
from ivsearch.settings import Settings, bytes_in, load_settings
from ivsearch.spaces import SpaceState
from ivsearch.store.catalog import Catalog, ClipStamp
from ivsearch.store.files import sync_folder
from ivsearch.store.generation import IndexShape, shape_of
from ivsearch.store.index_plan import IndexKind
from ivsearch.store.index_writer import Wishes
from ivsearch.store.manifest import NAME as MANIFEST
from ivsearch.store.manifest import EncoderSource, Manifest, read_manifest, write_manifest
from ivsearch.store.ownership import catalog_place, open_catalog
from ivsearch.store.reencoding_state import ReencodingState, read_state
from ivsearch.store.refresh import rebuild_index, refresh
from ivsearch.store.room import Stats, measure
from ivsearch.store.saved_queries import SavedQueries, SavedQuery
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.turns import writers_turn
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore
from ivsearch.store.visual_tokens import NAME as VISUAL_TOKENS
from ivsearch.store.visual_tokens import VisualTokens

if TYPE_CHECKING:
    from ivsearch.ask.chat import ChatModel
    from ivsearch.ingest import IngestEvent
    from ivsearch.pipeline import Progress
    from ivsearch.search.search import Search
    from ivsearch.search.texts import TextHit

Choice = TypeVar("Choice", bound=StrEnum)

COMPOSED = ("", "mini", "composed")
"""Names of the chat that is no language model: its answers are put together from the evidence."""


def open_library(
    folder: str | Path, encoder: str | None = None, *, create: bool = True, settings: Settings | None = None
) -> Library:
    """The library in ``folder``. One that is absent is made when it is first written to, or with ``create`` False, is
    LibraryMissing.

    ``encoder`` (default: the one the library was made with, ``mini`` for a new one) encodes queries and new files.
    """
    folder = Path(folder)
    settings = settings or load_settings()
    if encoder is not None:
        settings = dataclasses.replace(settings, encoder=encoder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a library is a folder: name another --library")
    if not create and not _is_library(folder):
        raise LibraryMissing(f"there is no library at {folder}. Make one: ivsearch index FOLDER --library {folder}")
    if settings.encoder:
        encoder_row(settings.encoder)  # a typo is told at once
    return Library(folder, settings)


class Library:
    """Opened by ``open_library``. A context manager; ``close()`` lets go of the catalog."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.thumbs = Thumbs(folder / "thumbs")
        self._search: Search | None = None
        # One thread may index while others search.
        self._search_lock = Lock()
        self._stamp: ClipStamp | None = None
        # The Space that was active when we last looked, and why we do not search in the one that is now.
        self._active: Space | None = None
        self._not_followed = ""
        self._rerankers: dict[EncoderSource, Encoder] = {}

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        if "catalog" in self.__dict__:
            self.catalog.close()

    # ---- what is loaded on first use ----

    @cached_property
    def catalog(self) -> Catalog:
        place = self._catalog_url()
        if isinstance(place, Path):
            self._make()
        return open_catalog(self.folder, place)

    def _catalog_url(self) -> str | Path:
        return catalog_place(self.folder, self.settings.catalog)

    @cached_property
    def encoder(self) -> Encoder:
        self._active = self.manifest().active
        check_source(self.source, self.settings)
        return load(self.source, self.settings)

    @cached_property
    def source(self) -> EncoderSource:
        """How the encoder is loaded: as the settings say, and where they say nothing, as it was the last time."""
        return source_of(self.settings, self.manifest())

    @cached_property
    def chat(self) -> ChatModel | None:
        """The language model of ``ask``; None: answers are composed plainly."""
        from ivsearch.ask.table import load_chat, server_of

        settings = self.settings
        if settings.chat in COMPOSED:
            return None
        return load_chat(
            settings.chat,
            weights=settings.chat_weights or None,
            device=settings.chat_device or settings.device,
            dtype=settings.chat_dtype,
            attention=settings.attention,
            visual_tokens=self._visual_tokens if settings.visual_tokens_bytes else None,
            server=server_of(settings),
            evidence_frames=settings.chat_frames or None,
        )

    @property
    def chat_watches(self) -> bool:
        """Whether the chat model is shown the footage that was found; it need not be loaded for that."""
        from ivsearch.ask.table import chat_row

        settings = self.settings
        if settings.chat in COMPOSED:
            return False
        row = chat_row(settings.chat)
        return row.watches and (settings.chat_pictures or row.name != "openai")

    def _chat_when_needed(self) -> ChatModel | None:
        """``chat``, without loading it yet."""
        from ivsearch.ask.lazy_chat import LazyChat

        if self.settings.chat in COMPOSED:
            return None

        def load() -> ChatModel:
            assert self.chat is not None
            return self.chat

        return LazyChat(self.settings.chat, self.chat_watches, load)

    def _visual_tokens(self, model_key: str) -> VisualTokens:
        """What the chat model of that key has seen of the media."""
        return VisualTokens(self.folder / VISUAL_TOKENS, model_key, self.settings.visual_tokens_bytes)

    def manifest(self) -> Manifest:
        return read_manifest(self.folder) or Manifest()

    def _make(self) -> None:
        if not _is_library(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            write_manifest(self.folder, Manifest())

    def _wishes(self) -> Wishes:
        """How its indexes are to be built, as far as the settings say."""
        return Wishes(bytes_in(self.settings.memory_budget, "memory_budget"))

    # ---- index ----

    def index(
        self,
        paths: str | Path | Sequence[str | Path] = (),
        *,
        fps: float | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> Iterator[IngestEvent]:
        """Brings the library up to date with files and folders; without any, with all it was ever given. ``tell`` is
        called with a line when the vector index of a large library is trained or filled.

        Yields Ingested, Skipped and Removed as they happen; a bad file never ends the run. Raises LibraryBusy when
        another process is writing, OSError when the disk is full; what was committed before stays.
        """
        from ivsearch.indexing import index, reading_options

        roots = _absolute(paths) or [Path(root) for root in self.manifest().roots]
        if not roots:
            raise UsageError("nothing to index yet: name a file or folder, such as `ivsearch index ./videos`")
        if not _is_library(self.folder):
            # An encoder that cannot be loaded, or a rate that makes no sense, must not leave an empty library behind.
            reading_options(self.settings, self.encoder, self.settings.fps if fps is None else fps)
        catalog = self.catalog  # nor a server that is away, or does not let us in
        self._make()
        try:
            yield from index(
                self.folder,
                catalog,
                roots,
                load=lambda: self.encoder,
                source=self.source,
                settings=self.settings,
                fps=fps,
                on_progress=on_progress,
                tell=tell,
            )
        finally:
            self._search = None

    def reindex(self, kind: str = "", *, tell: Callable[[str], None] = lambda line: None) -> list[IndexShape]:
        """Builds the vector index of every Space anew from the stored vectors, while searches go on with the old one.

        ``kind``: flat, ivf-sq8 or ivf-rabitq (default: what suits the size and ``memory_budget``); one that is asked
        for is kept until the next time. ``tell`` is called with a line at every step. Raises UsageError for another
        kind, LibraryBusy.
        """
        known = [each.value for each in IndexKind]
        if kind and kind not in known:
            raise UsageError(f"unknown kind of index {kind!r}; known: {', '.join(known)}")
        wishes = dataclasses.replace(self._wishes(), kind=IndexKind(kind) if kind else None, tell=tell)
        with writers_turn(self.folder, self.catalog):
            spaces = self.catalog.spaces()
            for space in spaces:
                rebuild_index(self.folder, self.catalog, space, wishes)
            self._search = None
        return [shape_of(self.folder / "index" / space.key, space) for space in spaces]

    # ---- search and ask ----

    def search(
        self,
        text: str | None = None,
        *,
        image: str | Path | None = None,
        clip: int | None = None,
        terms: Sequence[Term] = (),
        then: Sequence[Then] = (),
        region: Region | None = None,
        k: int = 10,
        filters: Filters | None = None,
        per_media: int | None = None,
        rerank: Reranking | None = None,
    ) -> list[Hit]:
        """The k best hits for a text in any language, an image file or a ``region`` of it, a Clip of this library, or
        ``terms`` composed of them (``ivsearch.search.terms.read_terms`` reads them from words); with ``then``, where
        those steps follow in the same video."""
        query = Query(
            text,
            Path(image) if image is not None else None,
            clip,
            filters or Filters(),
            terms=tuple(terms),
            then=tuple(then),
            region=region,
        )
        return list(self.find(query, k=k, per_media=per_media, rerank=rerank).hits)

    def find(
        self,
        query: Query,
        *,
        k: int = 10,
        per_media: int | None = None,
        rerank: Reranking | None = None,
        only: Only | None = None,
    ) -> Hits:
        """Like ``search``, with the query, the Space and whether anything matched.

        ``rerank``: more hits are found, the best of them judged again, and the first k of the new order are given.
        ``only``: look at the pictures or the words in the footage alone. Raises UsageError when there are no words in
        the query to look for.
        """
        while True:
            space = self.searcher().encoder.space
            hits = self._find(query, k, per_media, rerank, only)
            # Where searches were switched to another Space meanwhile, or this one was dropped: once more, all of it
            # in one.
            if hits.space == space and space in (self.catalog.spaces() or [space]):
                return hits

    def _find(self, query: Query, k: int, per_media: int | None, rerank: Reranking | None, only: Only | None) -> Hits:
        from ivsearch.search.fuse import Fusion, fuse
        from ivsearch.search.rerank import spread

        fusion = Fusion()
        texts = [] if only is Only.PICTURE else self._texts(query, fusion.min_coverage)
        if only is Only.TEXT:
            if query.text is None or query.then:
                raise UsageError("--only text looks for words: give a text, and no image, clip, --then, + or -")
            return spread(fuse(Hits(query, self._space(), (), False), texts, fusion), k, per_media)
        if not texts:
            return self._find_pictures(query, k, per_media, rerank)
        pictures = self._find_pictures(query, max(k, fusion.picture_depth), per_media, rerank)
        return spread(fuse(pictures, texts, fusion), k, per_media)

    def _texts(self, query: Query, min_coverage: float) -> list[TextHit]:
        """Words in the footage that fit the query's text; none where it is more or less than a text."""
        from ivsearch.search.texts import find_texts

        if query.text is None or query.then:
            return []
        found = find_texts(self.catalog, self._space(), query.text, min_coverage=min_coverage, filters=query.filters)
        after = query.after_clip
        return found if after is None else [each for each in found if each.hit.clip_id > after]

    def _find_pictures(self, query: Query, k: int, per_media: int | None, rerank: Reranking | None) -> Hits:
        if rerank is None:
            with self.catalog.snapshot():
                return self.searcher().find(query, k, per_media)
        if query.then:
            raise UsageError("what follows what is not ranked again: leave --rerank out")
        from ivsearch.search.rerank import Reranker, spread

        encoder, searcher = self._reranker(rerank), self.searcher()
        vectors = VectorStore(self.folder / "vectors", encoder.space)
        found = searcher.find(query, max(k, rerank.depth) if k > 0 else k, per_media)
        reranker = Reranker(encoder, self.catalog, vectors, searcher.complain, self.settings.max_pixels)
        return spread(reranker.rank(found, depth=rerank.depth, itm=rerank.itm), k, per_media)

    @property
    def saved_queries(self) -> SavedQueries:
        """Queries by name, kept in the library."""
        return SavedQueries(self.folder)

    def last_clip(self) -> int:
        """The highest clip id there is to search: taken before a query is run, what is indexed meanwhile is new."""
        return self.catalog.clip_stamp(self._space()).last_id

    def save_query(
        self, name: str, query: Query, *, k: int = 10, per_media: int | None = None, last_clip: int | None = None
    ) -> None:
        """Keeps a query that has been run when ``last_clip()`` was the highest id (None: now). Raises UsageError when
        the name is taken."""
        seen = {self._space().key: self.last_clip() if last_clip is None else last_clip}
        self.saved_queries.add(name, SavedQuery(query, k, per_media, seen))

    def find_saved(
        self,
        name: str,
        *,
        k: int | None = None,
        per_media: int | None = None,
        rerank: Reranking | None = None,
        new: bool = False,
    ) -> Hits:
        """Runs a saved query; ``new``: only in Media indexed since it was last run. Notes that it has been run."""
        saved = self.saved_queries.get(name, f". To search for the words, write text:@{name}")
        space = self._space()
        last = self.last_clip()  # what is indexed while it runs counts as new the next time
        query = dataclasses.replace(saved.query, after_clip=saved.seen.get(space.key)) if new else saved.query
        if new and space.key not in saved.seen:
            self.searcher().complain(f"@{name} was not run with {space.encoder} yet: all counts as new this once")
        hits = self.find(query, k=k or saved.k, per_media=per_media or saved.per_media, rerank=rerank)
        try:
            self.saved_queries.note_run(name, space, last)
        except OSError as error:
            self.searcher().complain(
                f"cannot note that @{name} was run ({error.strerror}): --new will show these again"
            )
        return hits

    def explain(self, hits: Hits) -> Hits:
        """The same hits, each with its ``explanation``: the curve of its file, what words it shares with the query,
        where its score lies in the library."""
        from ivsearch.search.explain import explain

        return explain(hits, self.searcher())

    def why_not(self, query: Query, path: str | Path, *, k: int = 10, only: Only | None = None) -> Absence:
        """Why a file is not among the k hits of ``find``: not indexed, skipped, filtered out, a copy, or what matches
        better. Raises UsageError for a query of steps."""
        from ivsearch.search.explain import why_not

        def find(k: int, per_media: int) -> Hits:
            return self.find(query, k=k, per_media=per_media, only=only)

        return why_not(query, Path(os.path.abspath(path)), k, self.searcher(), find, only=only)

    def _reranker(self, wanted: Reranking) -> Encoder:
        """The encoder that ranks again, loaded once; the library's own when it is the same."""
        name, row = absolute_name(wanted.encoder), encoder_row(wanted.encoder)[0]
        kin = row.needs_weights and row.module == encoder_row(self.source.name)[0].module
        fresh = dataclasses.replace(self.source, name=name) if kin else EncoderSource(name)
        source = self.manifest().source_of(name) or fresh
        if wanted.weights:
            source = dataclasses.replace(source, weights=absolute_folder(wanted.weights))
        if source == self.source:
            return self.encoder
        if row.needs_weights and not source.weights:
            raise UsageError(f"re-ranker {source.name!r} needs weights: give a folder or a hub id (--rerank-weights)")
        if not wanted.weights:
            check_remembered(source.weights, "--rerank-weights DIR")
        if source not in self._rerankers:
            self._rerankers[source] = self._sibling(source) or load(source, self.settings)
        return self._rerankers[source]

    def _sibling(self, source: EncoderSource) -> Encoder | None:
        """The encoder out of the weights that the library's own has loaded already, where they are the same."""
        same = source == dataclasses.replace(self.source, name=source.name)
        return self.encoder.sibling(source.name) if same and isinstance(self.encoder, Shared) else None

    def searcher(self) -> Search:
        """What searches: opened once, and anew when the library has changed since."""
        with self._search_lock:
            self._follow()
            space = self._space()
            search = self._search
            if search is None or self._stamp != self.catalog.clip_stamp(space):
                if search is None or search.index.is_outdated(self.folder / "index"):
                    search = self._opened_search(space)
                self._stamp, more = refresh(search.index, self._stamp, self.catalog, search.vectors)
                for complaint in more:
                    search.complain(complaint)
                self._search = search
            if self._not_followed:
                search.complain(self._not_followed)
            return search

    def _follow(self) -> None:
        """Another process may have switched to another Space. Its encoder is loaded, unless this one was named; where
        that cannot be done, searches go on in the Space they were in while that is there."""
        space, manifest = self.encoder.space, self.manifest()
        before, self._active = self._active, manifest.active
        is_named = self.settings.encoder or self.settings.weights or self.settings.preprocess
        if is_named or before is None or manifest.active in (None, before, space):
            return
        source = source_of(self.settings, manifest)
        try:
            check_source(source, self.settings)
            encoder = load(source, self.settings)
        except IvsearchError as error:
            if space not in self.catalog.spaces():
                raise
            self._not_followed = (
                f"this library was switched to {source.name}, which cannot be loaded here: {error}. "
                f"Searching with {self.source.name} meanwhile"
            )
            return
        self.__dict__["encoder"], self.__dict__["source"] = encoder, source
        self._search, self._not_followed = None, ""

    def _opened_search(self, space: Space) -> Search:
        from ivsearch.search.search import Search

        index, self._stamp = VectorIndex.load(self.folder / "index", space, mend=False)
        vectors = VectorStore(self.folder / "vectors", space)
        search = Search(
            self.catalog,
            vectors,
            index,
            self.encoder,
            self.thumbs,
            min_likely=self.settings.min_likely,
            diverse=self.settings.diverse,
        )
        index.complaints = search.complaints
        if vectors.segments() and space not in self.catalog.spaces():
            search.complain("the catalog knows nothing of the vectors there are: `ivsearch index` fills it again")
        if not self.catalog.is_complete(space):
            search.complain(
                f"some media have no vectors of {space.encoder} {space.revision[:12]} yet and are not searched: "
                "run `ivsearch index`"
            )
        return search

    def ask(
        self,
        question: str,
        *,
        k: int = 8,
        filters: Filters | None = None,
        history: Sequence[Turn] = (),
        verify: str = "encoder",
        unsupported: str = "withhold",
    ) -> Answer:
        """Answers a question from what the library shows, with checked citations; says so when it shows nothing.

        As ``ask_stream``, all at once.
        """
        wanted = self.ask_stream(
            question, k=k, filters=filters, history=history, verify=verify, unsupported=unsupported
        )
        *_, answer = wanted
        assert isinstance(answer, Answer)
        return answer

    def ask_stream(
        self,
        question: str,
        *,
        k: int = 8,
        filters: Filters | None = None,
        history: Sequence[Turn] = (),
        verify: str = "encoder",
        unsupported: str = "withhold",
    ) -> Iterator[Piece | Answer]:
        """Pieces of the answer's text, each when it is checked; at last the Answer, whose text they make up.

        ``verify`` "strict": the chat model is also asked about each sentence with the cited clip alone before it.
        ``unsupported``: sentences that fail are left out ("withhold") or shown with a mark ("mark"). Raises UsageError
        for an empty question or for what the chat model cannot do.
        """
        from ivsearch.ask.answer import Manner, Unsupported, Verify, answer_events

        manner = Manner(k, filters or Filters(), _choice(Verify, verify), _choice(Unsupported, unsupported))
        yield from answer_events(
            question, self.searcher(), chat=self._chat_when_needed(), manner=manner, history=history
        )

    def _space(self) -> Space:
        """The Space to search in. Raises SpaceMismatch when this encoder's vectors are not in the library."""
        space = self.encoder.space
        known = self.catalog.spaces()
        if space in known or not known:
            return space
        made_with = ", ".join(f"{each.encoder} {each.revision[:12]}" for each in known)
        raise SpaceMismatch(
            f"this library has no vectors of {space.encoder} {space.revision[:12]}, only of {made_with}. "
            f"Add them (the old ones stay): ivsearch index --encoder {self.source.name}"
            + (f" --weights {self.source.weights}" if self.source.weights else "")
            + (f" --preprocess {self.source.preprocess}" if self.source.preprocess else "")
            + f" --library {self.folder}"
        )

    # ---- Spaces ----

    def spaces(self) -> list[SpaceState]:
        """The Spaces side by side, the active one first."""
        return spaces.list_spaces(self.folder, self.catalog, self.manifest())

    def add_space(
        self, *, switches: bool = True, on_progress: Callable[[ReencodingState], None] = lambda state: None
    ) -> Iterator[Ingested | Skipped]:
        """Encodes all that the library holds with this encoder, beside the Space in use; goes on where it stopped.

        Yields what was encoded, and the files that could not be. ``switches``: when no Media is missing, searches use
        it. Raises LibraryBusy when another re-encoding is under way, UsageError when there is nothing to encode.
        """
        from ivsearch.indexing import reading_options
        from ivsearch.reencoding import Reencoding

        rate = self.manifest().fps or self.settings.fps
        reencoding = Reencoding(
            self.folder,
            self.catalog,
            self.source,
            lambda: self.encoder,
            lambda encoder: reading_options(self.settings, encoder, rate),
            switches=switches,
            wishes=self._wishes(),
            on_progress=on_progress,
        )
        yield from reencoding.run()

    def reencoding(self) -> ReencodingState | None:
        """How far the latest re-encoding is, in whichever process; None when there was none."""
        return read_state(self.folder)

    def use_space(self, wanted: str, *, anyway: bool = False) -> Space:
        """Makes searches use the Space of that key or encoder. Raises UsageError when it lacks Media, unless
        ``anyway``."""
        return spaces.use(self.folder, self.catalog, wanted, anyway=anyway, wishes=self._wishes())

    def switch_back(self) -> Space:
        """Makes searches use the Space that they used before the last switch. Raises UsageError when it lacks Media."""
        return spaces.back(self.folder, self.catalog, self._wishes())

    def drop_space(self, wanted: str) -> str:
        """Frees what a Space takes; its key. Raises UsageError for the active one."""
        return spaces.drop(self.folder, self.catalog, wanted)

    # ---- care ----

    def remove(self, paths: str | Path | Sequence[str | Path]) -> list[Removed]:
        """Forgets files, or everything below folders. The files themselves are not touched."""
        self._make()
        self._search = None
        return care.remove(self.folder, self.catalog, _absolute(paths), self._wishes())

    def stats(self) -> Stats:
        return measure(self.folder, self.catalog, self.manifest().active)

    def verify(self) -> Iterator[str]:
        """Reads everything there is and yields what is wrong, in words; nothing when all is well."""
        yield from care.verify(self.folder, self._catalog_url())

    def repair(self) -> Iterator[str]:
        """Mends what ``verify`` finds, from what is durable, and yields what was done. Nothing is deleted: damaged
        files are set aside. Media whose vectors are lost are encoded again by the next ``index``."""
        self._make()
        self.close()
        self.__dict__.pop("catalog", None)
        self._search = None
        yield from care.repair(self.folder, self._catalog_url(), self._wishes())


def _choice(choices: type[Choice], wanted: str) -> Choice:
    """Raises UsageError for a name that is none of them."""
    known = [choice.value for choice in choices]
    if wanted not in known:
        raise UsageError(f"unknown way {wanted!r} to answer; known: {', '.join(known)}")
    return choices(wanted)


def _is_library(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / "catalog.db").exists()


def _absolute(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path or several, absolute, links not followed."""
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return [Path(os.path.abspath(path)) for path in several]
