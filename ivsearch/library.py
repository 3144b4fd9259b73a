"""A Library: one folder, and every act on it as one call. Wires media, encode, store, search and ask together.

Models are loaded on first use. Nothing here prints.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ivsearch import care, spaces
from ivsearch.chat_source import chat_when_needed, is_watching, load_chat_of
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
from ivsearch.encode.encoder import Encoder
from ivsearch.encode.table import encoder_row
from ivsearch.encoder_in_use import EncoderInUse
from ivsearch.errors import LibraryMissing, UsageError
from ivsearch.searching import Searching
from ivsearch.settings import Settings, bytes_in, load_settings
from ivsearch.spaces import SpaceState
from ivsearch.store.catalog import Catalog
from ivsearch.store.compaction import Compacted
from ivsearch.store.files import sync_folder
from ivsearch.store.generation import IndexShape
from ivsearch.store.index_writer import Wishes
from ivsearch.store.manifest import NAME as MANIFEST
from ivsearch.store.manifest import EncoderSource, Manifest, manifest_of, write_manifest
from ivsearch.store.ownership import catalog_place, open_catalog
from ivsearch.store.reencoding_state import ReencodingState, read_state
from ivsearch.store.room import Stats, measure
from ivsearch.store.saved_queries import SavedQueries, SavedQuery
from ivsearch.store.thumbs import Thumbs

if TYPE_CHECKING:
    from ivsearch.ask.chat import ChatModel
    from ivsearch.ingest import IngestEvent
    from ivsearch.pipeline import Progress
    from ivsearch.search.search import Search


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
        self._in_use = EncoderInUse(folder, settings)
        self._searching = Searching(folder, settings, lambda: self.catalog, self.thumbs, self._in_use)

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

    @property
    def encoder(self) -> Encoder:
        return self._in_use.encoder

    @encoder.setter
    def encoder(self, loaded: Encoder) -> None:
        """One that is loaded already, instead of the one that the settings name."""
        self._in_use.encoder = loaded

    @property
    def source(self) -> EncoderSource:
        """How the encoder is loaded: as the settings say, and where they say nothing, as it was the last time."""
        return self._in_use.source

    @source.setter
    def source(self, source: EncoderSource) -> None:
        self._in_use.source = source

    @cached_property
    def chat(self) -> ChatModel | None:
        """The language model of ``ask``; None: answers are composed plainly."""
        return load_chat_of(self.folder, self.settings)

    @property
    def chat_watches(self) -> bool:
        """Whether the chat model is shown the footage that was found; it need not be loaded for that."""
        return is_watching(self.settings)

    def manifest(self) -> Manifest:
        return manifest_of(self.folder)

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
            self._searching.forget()

    def reindex(self, kind: str = "", *, tell: Callable[[str], None] = lambda line: None) -> list[IndexShape]:
        """Builds the vector index of every Space anew from the stored vectors, while searches go on with the old one.

        ``kind``: flat, ivf-sq8 or ivf-rabitq (default: what suits the size and ``memory_budget``); one that is asked
        for is kept until the next time. ``tell`` is called with a line at every step. Raises UsageError for another
        kind, LibraryBusy.
        """
        from ivsearch.indexing import reindex

        shapes = reindex(self.folder, self.catalog, kind, dataclasses.replace(self._wishes(), tell=tell))
        self._searching.forget()
        return shapes

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
        return self._searching.find(query, k, per_media, rerank, only)

    @property
    def saved_queries(self) -> SavedQueries:
        """Queries by name, kept in the library."""
        return SavedQueries(self.folder)

    def last_clip(self) -> int:
        """The highest clip id there is to search: taken before a query is run, what is indexed meanwhile is new."""
        return self._searching.last_clip()

    def save_query(
        self, name: str, query: Query, *, k: int = 10, per_media: int | None = None, last_clip: int | None = None
    ) -> None:
        """Keeps a query that has been run when ``last_clip()`` was the highest id (None: now). Raises UsageError when
        the name is taken."""
        seen = {self._searching.space().key: self.last_clip() if last_clip is None else last_clip}
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
        return self._searching.find_saved(name, k, per_media, rerank, only_new=new)

    def explain(self, hits: Hits) -> Hits:
        """The same hits, each with its ``explanation``: the curve of its file, what words it shares with the query,
        where its score lies in the library."""
        from ivsearch.search.explain import explain

        return explain(hits, self.searcher())

    def why_not(
        self, query: Query, path: str | Path, *, k: int = 10, per_media: int | None = None, only: Only | None = None
    ) -> Absence:
        """Why a file is not among the k hits of ``find``: not indexed, skipped, filtered out, a copy, or what matches
        better. Raises UsageError for a query of steps."""
        from ivsearch.search.explain import why_not

        def find(k: int, per_media: int | None) -> Hits:
            return self.find(query, k=k, per_media=per_media, only=only)

        return why_not(query, Path(os.path.abspath(path)), k, per_media, self.searcher(), find, only=only)

    def searcher(self) -> Search:
        """What searches: opened once, and anew when the library has changed since."""
        return self._searching.searcher()

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
        from ivsearch.ask.answer import answer_events, manner_of

        manner = manner_of(k, filters or Filters(), verify, unsupported)
        chat = chat_when_needed(self.settings, lambda: self.chat)
        yield from answer_events(question, self.searcher(), chat=chat, manner=manner, history=history)

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
        self._searching.forget()
        return care.remove(self.folder, self.catalog, _absolute(paths), self._wishes())

    def compact(self, *, tell: Callable[[str], None] = lambda line: None) -> list[Compacted]:
        """Frees the room of vectors that nothing needs: of files that were forgotten, or read anew. Searches go on
        meanwhile. ``tell`` is called with a line for each segment.

        Raises LibraryError where there is no room for a copy of a segment, LibraryBusy.
        """
        return care.compact(self.folder, self.catalog, tell)

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
        self._searching.forget()
        yield from care.repair(self.folder, self._catalog_url(), self._wishes())


def _is_library(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / "catalog.db").exists()


def _absolute(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path or several, absolute, links not followed."""
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return [Path(os.path.abspath(path)) for path in several]
