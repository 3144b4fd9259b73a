"""Indexing: what has to be so before and after an ingest, in the folder and the manifest of a library; and its vector
indexes built anew."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ivsearch.encode.encoder import Encoder
from ivsearch.errors import UsageError
from ivsearch.settings import Settings, bytes_in
from ivsearch.spaces import check_not_dropping
from ivsearch.store import forgetting
from ivsearch.store.catalog import Catalog
from ivsearch.store.generation import IndexShape, shape_of
from ivsearch.store.index_plan import IndexKind
from ivsearch.store.index_writer import Wishes
from ivsearch.store.manifest import EncoderSource, manifest_of, write_manifest
from ivsearch.store.ownership import claim
from ivsearch.store.refresh import rebuild_index, save_index
from ivsearch.store.text_soundness import lost_texts
from ivsearch.store.texts import SCREEN, SPEECH
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.turns import writers_turn
from ivsearch.store.vector_store import VectorStore

if TYPE_CHECKING:
    from ivsearch.ingest import IngestEvent
    from ivsearch.media.ocr import ScreenReader
    from ivsearch.media.speech import Transcriber
    from ivsearch.pipeline import Options, Progress


def index(
    folder: Path,
    catalog: Catalog,
    roots: Sequence[Path],
    *,
    load: Callable[[], Encoder],
    source: EncoderSource,
    settings: Settings,
    fps: float | None,
    on_progress: Callable[[Progress], None],
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[IngestEvent]:
    """Brings the Space of the encoder that ``load`` gives up to date with files and folders, and makes it the active
    one when every Media is in it. Raises as ``Library.index`` does."""
    from ivsearch.ingest import Ingest

    read = _words_of(settings)
    with writers_turn(folder, catalog):
        manifest = manifest_of(folder)
        encoder = load()
        options = reading_options(settings, encoder, manifest.fps or settings.fps if fps is None else fps)
        space = encoder.space
        claim(folder, catalog)
        manifest = manifest_of(folder)
        check_not_dropping(manifest, space.key)
        catalog.add_space(space)
        # A path that is not there is reported, not remembered.
        there = {str(root) for root in roots if os.path.lexists(root)}
        others = {key: each for key, each in manifest.encoders.items() if key != space.key}
        manifest = dataclasses.replace(
            manifest,
            active=manifest.active or space,
            fps=options.fps,
            roots=tuple(sorted({*manifest.roots, *there})),
            encoders={**others, space.key: source},
        )
        write_manifest(folder, manifest)
        # Before new clip ids are given out: the index must not hold ids that this catalog will give again.
        wishes = Wishes(bytes_in(settings.memory_budget), tell=tell)
        save_index(folder, catalog, space, wishes)
        forgetting.end(folder, catalog)  # where a run was stopped
        ingest = Ingest(
            roots,
            catalog=catalog,
            vectors=VectorStore(folder / "vectors", space),
            thumbs=Thumbs(folder / "thumbs"),
            encoder=encoder,
            options=options,
            on_progress=on_progress,
            note_forgetting=lambda media_ids: forgetting.note(folder, media_ids),
        )
        try:
            yield from ingest.run()
        finally:
            # Also after Ctrl-C: what was committed is searchable at once and the next search starts quickly.
            save_index(folder, catalog, space, wishes)
        forgetting.end(folder, catalog, ingest.forgotten)
        gone = {str(event) for event in ingest.gone_roots()}
        manifest = dataclasses.replace(manifest, roots=tuple(r for r in manifest.roots if r not in gone))
        write_manifest(folder, manifest.switched(space) if catalog.is_complete(space) else manifest)
        yield from _index_texts(catalog, roots, settings, options.fps, read, tell, on_progress)


def reindex(folder: Path, catalog: Catalog, kind: str, wishes: Wishes) -> list[IndexShape]:
    """Builds the vector index of every Space anew, and remembers the ``kind`` that was asked for, empty for none.
    Raises as ``Library.reindex`` does."""
    known = [each.value for each in IndexKind]
    if kind and kind not in known:
        raise UsageError(f"unknown kind of index {kind!r}; known: {', '.join(known)}")
    wishes = dataclasses.replace(wishes, kind=IndexKind(kind) if kind else None)
    with writers_turn(folder, catalog):
        spaces = catalog.spaces()
        for space in spaces:
            rebuild_index(folder, catalog, space, wishes)
        budget_bytes = wishes.memory_budget_bytes
        asked = dataclasses.replace(manifest_of(folder), index_kind=kind, index_budget_bytes=budget_bytes)
        write_manifest(folder, asked)
    return [shape_of(folder / "index" / space.key, space) for space in spaces]


def _index_texts(
    catalog: Catalog,
    roots: Sequence[Path],
    settings: Settings,
    fps: float,
    read: ReadWords,
    tell: Callable[[str], None],
    on_progress: Callable[[Progress], None],
) -> Iterator[IngestEvent]:
    """The words beside and inside the media, after their pictures. Words on screen that were lost are read again, asked
    for or not; what was said is told of, for its model has to be named."""
    from ivsearch.ingest_screen import ScreenOptions, ScreenPass
    from ivsearch.ingest_texts import SidecarPass, hear, paths_in, read_embedded

    rows = paths_in(catalog, roots)
    if settings.subtitles:
        yield from SidecarPass(catalog, rows).run()
        yield from read_embedded(catalog, rows, stall_s=settings.stall_s, on_progress=on_progress)
    lost = lost_texts(catalog)
    if read.transcriber is not None:
        yield from hear(catalog, rows, read.transcriber, on_progress)
    elif SPEECH in lost:
        n = len(lost[SPEECH])
        tell(f"what is said in {n} files was lost: `ivsearch index --speech` with its weights writes it down again")
    make_reader = read.make_reader
    if make_reader is None and SCREEN in lost:
        unread = set(lost[SCREEN])
        rows = [row for row in rows if row.media_id in unread]
        make_reader = _reader_again(len(unread), tell)
    if make_reader is not None:
        reading = ScreenOptions(fps, settings.workers or None, settings.stall_s, settings.max_pixels)
        yield from ScreenPass(catalog, rows, options=reading, make_reader=make_reader, on_progress=on_progress).run()


def _reader_again(n: int, tell: Callable[[str], None]) -> Callable[[], ScreenReader] | None:
    """For the words on screen of ``n`` Media that were lost; None where it is not installed any more."""
    from ivsearch.media.ocr import RapidReader, check_rapidocr

    try:
        check_rapidocr()
    except UsageError as error:
        tell(f"the words on screen of {n} files were lost and cannot be read again: {error}")
        return None
    tell(f"the words on screen of {n} files were lost: reading them again")
    return RapidReader


@dataclass(frozen=True, slots=True)
class ReadWords:
    """What reads and hears words; None: nothing does."""

    make_reader: Callable[[], ScreenReader] | None
    transcriber: Transcriber | None


def _words_of(settings: Settings) -> ReadWords:
    """Before the pictures, which may take hours: what is missing is told at once. Raises UsageError, WeightsError."""
    from ivsearch.media.ocr import RapidReader, check_rapidocr
    from ivsearch.media.speech import Transcriber

    if settings.ocr:
        check_rapidocr()
    return ReadWords(
        RapidReader if settings.ocr else None,
        Transcriber(settings.speech_weights, device=settings.device) if settings.speech else None,
    )


def reading_options(settings: Settings, encoder: Encoder, fps: float) -> Options:
    """How files are read for ``encoder``. Raises UsageError for a rate that makes no sense."""
    from ivsearch.pipeline import Options

    if not 0 < fps <= 1000:
        raise UsageError(f"--fps must be above 0 and at most 1000, not {fps:g}")
    return Options(
        fps=fps,
        workers=settings.workers or None,
        batch=settings.batch or encoder.batch_size,
        stall_s=settings.stall_s,
        max_pixels=settings.max_pixels,
        strict_hash=settings.strict_hash,
    )
