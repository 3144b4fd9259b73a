"""A Library: one folder, and every act on it as one call. Wires media, encode, store, search and ask together.

Models are loaded on first use. Nothing here prints.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from ivsearch import care
from ivsearch.domain import (
    Answer,
    Filters,
    Hit,
    Hits,
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
from ivsearch.errors import LibraryMissing, SpaceMismatch, UsageError, WeightsError
from ivsearch.settings import DEFAULT_ENCODER, Settings, load_settings
from ivsearch.store.catalog import Catalog, Totals
from ivsearch.store.lock import writer_lock
from ivsearch.store.manifest import NAME as MANIFEST
from ivsearch.store.manifest import EncoderSource, Manifest, read_manifest, write_manifest
from ivsearch.store.refresh import refresh, save_index
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore
from ivsearch.store.visual_tokens import NAME as VISUAL_TOKENS
from ivsearch.store.visual_tokens import VisualTokens
from ivsearch.store.visual_tokens import keep_only as keep_only_seen

if TYPE_CHECKING:
    from ivsearch.ask.chat import ChatModel
    from ivsearch.ingest import IngestEvent
    from ivsearch.pipeline import Progress
    from ivsearch.search.search import Search

Choice = TypeVar("Choice", bound=StrEnum)

COMPOSED = ("", "mini", "composed")
"""Names of the chat that is no language model: its answers are put together from the evidence."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a Library holds and how much room it takes."""

    folder: Path
    space: Space | None
    spaces: tuple[Space, ...]
    totals: Totals
    skipped: tuple[Skipped, ...]
    catalog_bytes: int
    vector_bytes: int
    index_bytes: int
    thumb_bytes: int
    visual_token_bytes: int


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
        self._make()
        return Catalog(self._catalog_url())

    def _catalog_url(self) -> str | Path:
        return self.settings.catalog or self.folder / "catalog.db"

    @cached_property
    def encoder(self) -> Encoder:
        source = self.source
        if not self.settings.weights:
            _check_remembered(source.weights, "--weights DIR")
        if not self.settings.encoder and not source.weights:
            path = _path_in(source.name)
            _check_remembered(path, f"--encoder {source.name.removesuffix(path)}PATH")
        return self._load(source)

    @cached_property
    def source(self) -> EncoderSource:
        """How the encoder is loaded: as the settings say, and where they say nothing, as it was the last time."""
        settings, manifest = self.settings, self.manifest()
        name = _absolute_name(settings.encoder) or _active_name(manifest) or DEFAULT_ENCODER
        before = manifest.source_of(name) or EncoderSource(name)
        return EncoderSource(
            name,
            _absolute_folder(settings.weights) if settings.weights else before.weights,
            settings.preprocess or before.preprocess,
        )

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
            write_manifest(self.folder, Manifest())

    # ---- index ----

    def index(
        self,
        paths: str | Path | Sequence[str | Path] = (),
        *,
        fps: float | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Iterator[IngestEvent]:
        """Brings the library up to date with files and folders; without any, with all it was ever given.

        Yields Ingested, Skipped and Removed as they happen; a bad file never ends the run. Raises LibraryBusy when
        another process is writing, OSError when the disk is full; what was committed before stays.
        """
        from ivsearch.ingest import Ingest

        roots = _absolute(paths) or [Path(root) for root in self.manifest().roots]
        if not roots:
            raise UsageError("nothing to index yet: name a file or folder, such as `ivsearch index ./videos`")
        if not _is_library(self.folder):
            # An encoder that cannot be loaded, or a rate that makes no sense, must not leave an empty library behind.
            self._ingest_options(self.settings.fps if fps is None else fps)
            self._make()
        with writer_lock(self.folder):
            manifest = self.manifest()
            options = self._ingest_options(manifest.fps or self.settings.fps if fps is None else fps)
            space = self.encoder.space
            self.catalog.add_space(space)
            # A path that is not there is reported, not remembered.
            there = {str(root) for root in roots if os.path.lexists(root)}
            manifest = dataclasses.replace(
                manifest,
                active=manifest.active or space,
                fps=options.fps,
                roots=tuple(sorted({*manifest.roots, *there})),
                encoders={**_without(manifest.encoders, space.key), space.key: self.source},
            )
            write_manifest(self.folder, manifest)
            # Before new clip ids are given out: the index must not hold ids that this catalog will give again.
            self._save_index(space)
            ingest = Ingest(
                roots,
                catalog=self.catalog,
                vectors=VectorStore(self.folder / "vectors", space),
                thumbs=self.thumbs,
                encoder=self.encoder,
                options=options,
                on_progress=on_progress,
            )
            try:
                yield from ingest.run()
            finally:
                # Also after Ctrl-C: what was committed is searchable at once and the next search starts quickly.
                self._save_index(space)
            self.thumbs.keep_only(self.catalog.encodings(space))
            keep_only_seen(self.folder / VISUAL_TOKENS, self.catalog.encodings(space))
            gone = {str(event) for event in ingest.gone_roots()}
            manifest = dataclasses.replace(manifest, roots=tuple(r for r in manifest.roots if r not in gone))
            if self.catalog.is_complete(space):
                manifest = dataclasses.replace(manifest, active=space)
            write_manifest(self.folder, manifest)
            yield from self._index_texts(roots)

    def _index_texts(self, roots: Sequence[Path]) -> Iterator[IngestEvent]:
        """The words beside and inside the media, after their pictures."""
        from ivsearch.ingest_texts import SidecarPass, paths_in, read_embedded

        if not self.settings.subtitles:
            return
        rows = paths_in(self.catalog, roots)
        yield from SidecarPass(self.catalog, rows).run()
        yield from read_embedded(self.catalog, rows, stall_s=self.settings.stall_s)

    def _ingest_options(self, fps: float):  # type: ignore[no-untyped-def]
        from ivsearch.pipeline import Options

        settings = self.settings
        if not 0 < fps <= 1000:
            raise UsageError(f"--fps must be above 0 and at most 1000, not {fps:g}")
        return Options(
            fps=fps,
            workers=settings.workers or None,
            batch=settings.batch or self.encoder.batch_size,
            stall_s=settings.stall_s,
            max_pixels=settings.max_pixels,
            strict_hash=settings.strict_hash,
        )

    def _save_index(self, space: Space) -> None:
        save_index(self.folder, self.catalog, space)
        self._search = None

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

    def find(self, query: Query, *, k: int = 10, per_media: int | None = None, rerank: Reranking | None = None) -> Hits:
        """Like ``search``, with the query, the Space and whether anything matched.

        ``rerank``: more hits are found, the best of them judged again, and the first k of the new order are given.
        """
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

    def _reranker(self, wanted: Reranking) -> Encoder:
        """The encoder that ranks again, loaded once; the library's own when it is the same."""
        name, row = _absolute_name(wanted.encoder), encoder_row(wanted.encoder)[0]
        kin = row.needs_weights and row.module == encoder_row(self.source.name)[0].module
        fresh = dataclasses.replace(self.source, name=name) if kin else EncoderSource(name)
        source = self.manifest().source_of(name) or fresh
        if wanted.weights:
            source = dataclasses.replace(source, weights=_absolute_folder(wanted.weights))
        if source == self.source:
            return self.encoder
        if row.needs_weights and not source.weights:
            raise UsageError(f"re-ranker {source.name!r} needs weights: give a folder or a hub id (--rerank-weights)")
        if not wanted.weights:
            _check_remembered(source.weights, "--rerank-weights DIR")
        if source not in self._rerankers:
            self._rerankers[source] = self._sibling(source) or self._load(source)
        return self._rerankers[source]

    def _sibling(self, source: EncoderSource) -> Encoder | None:
        """The encoder out of the weights that the library's own has loaded already, where they are the same."""
        same = source == dataclasses.replace(self.source, name=source.name)
        return self.encoder.sibling(source.name) if same and isinstance(self.encoder, Shared) else None

    def _load(self, source: EncoderSource) -> Encoder:
        from ivsearch.encode import load_encoder

        return load_encoder(
            source.name,
            weights=source.weights or None,
            device=self.settings.device,
            dtype=self.settings.dtype,
            preprocess=source.preprocess or None,
            attention=self.settings.attention,
        )

    def searcher(self) -> Search:
        """What searches: opened once, and anew when the library has changed since."""
        space = self._space()
        with self._search_lock:
            search = self._search
            if search is None or self._stamp != self.catalog.clip_stamp(space):
                if search is None or search.index.is_outdated(self.folder / "index"):
                    search = self._opened_search(space)
                self._stamp, more = refresh(search.index, self._stamp, self.catalog, search.vectors)
                for complaint in more:
                    search.complain(complaint)
                self._search = search
            return search

    def _opened_search(self, space: Space) -> Search:
        from ivsearch.search.search import Search

        index, self._stamp = VectorIndex.load(self.folder / "index", space, mend=False)
        vectors = VectorStore(self.folder / "vectors", space)
        search = Search(self.catalog, vectors, index, self.encoder)
        index.complaints = search.complaints
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

    # ---- care ----

    def remove(self, paths: str | Path | Sequence[str | Path]) -> list[Removed]:
        """Forgets files, or everything below folders. The files themselves are not touched."""
        self._make()
        self._search = None
        return care.remove(self.folder, self.catalog, _absolute(paths))

    def stats(self) -> Stats:
        spaces = tuple(self.catalog.spaces())
        active = self.manifest().active
        return Stats(
            folder=self.folder,
            space=active,
            spaces=spaces,
            totals=self.catalog.totals(active),
            skipped=tuple(self.catalog.skipped()),
            catalog_bytes=_bytes_of(self.folder.glob("catalog.db*")),
            vector_bytes=_bytes_of((self.folder / "vectors").rglob("*")),
            index_bytes=_bytes_of((self.folder / "index").rglob("*")),
            thumb_bytes=_bytes_of((self.folder / "thumbs").rglob("*")),
            visual_token_bytes=_bytes_of((self.folder / VISUAL_TOKENS).rglob("*")),
        )

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
        yield from care.repair(self.folder, self._catalog_url())


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


def _active_name(manifest: Manifest) -> str:
    """The encoder of the active Space as it was typed; in older libraries, as it calls itself."""
    if manifest.active is None:
        return ""
    source = manifest.encoders.get(manifest.active.key)
    return source.name if source else manifest.active.encoder


def _absolute_folder(weights: str) -> str:
    """A folder so that it is found from anywhere; a hub id as it is."""
    path = Path(weights).expanduser()
    return os.path.abspath(path) if path.exists() else weights


def _absolute_name(name: str) -> str:
    """An encoder's name, found from anywhere: its variant made absolute where that is a folder, or for open_clip a
    model and the file of its weights."""
    stem, _, variant = name.partition(":")
    model, _, file = variant.partition("/")
    if variant and Path(variant).expanduser().is_dir():
        return f"{stem}:{_absolute_folder(variant)}"
    if stem == "openclip" and Path(file).expanduser().is_file():
        return f"{stem}:{model}/{_absolute_folder(file)}"
    return name


def _path_in(name: str) -> str:
    """The folder or file at the end of a name that ``_absolute_name`` gave; empty when there is none."""
    variant = name.partition(":")[2]
    candidates = (variant, variant.partition("/")[2])
    return next((each for each in candidates if Path(each).is_absolute()), "")


def _check_remembered(path: str, advice: str) -> None:
    """Raises WeightsError when the folder or file that the library remembers is not there any more."""
    if Path(path).is_absolute() and not Path(path).exists():
        raise WeightsError(
            f"the weights this library was made with were in {path}, which is not there any more: "
            f"say where they are now ({advice})"
        )


def _without(encoders: Mapping[str, EncoderSource], key: str) -> dict[str, EncoderSource]:
    return {each: source for each, source in encoders.items() if each != key}


def _bytes_of(paths: Iterator[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
