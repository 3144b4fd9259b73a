"""The words of Media, after their pictures: paths → TextRead | TextRemoved | Skipped.

Files beside a video are read when they are new or changed, the streams inside it once; neither needs the pictures
decoded. What was committed stays: a run that is stopped goes on from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from ivsearch.domain import MediaId, Modality, Skipped, TextLine, TextRead, TextRemoved
from ivsearch.errors import MediaError
from ivsearch.media.sidecars import Sidecar, sidecars
from ivsearch.media.speech import Transcriber
from ivsearch.media.suffixes import VIDEO
from ivsearch.media.text_reader import read_text_streams
from ivsearch.pipeline import Progress
from ivsearch.reading_progress import ReadingProgress
from ivsearch.store.catalog import Catalog, PathRow
from ivsearch.store.texts import EMBEDDED, SPEECH, HeldTrack, Texts, TextTrack

TextEvent = TextRead | TextRemoved | Skipped

EMBEDDED_READING = "1"
"""What the subtitle streams of a video are read with."""
# A commit costs an fsync: files are committed together, but none waits longer than this.
COMMIT_TRACKS = 64
COMMIT_S = 2.0


def paths_in(catalog: Catalog, roots: Sequence[Path]) -> list[PathRow]:
    """The indexed files that a run over ``roots`` looks at, and those beside them."""
    folders = {row.path.parent for row in catalog.paths_below(roots)}
    rows = catalog.paths_below(_outermost(folders))
    return [row for row in rows if row.path.parent in folders]


def _outermost(folders: Set[Path]) -> list[Path]:
    """Those that are inside no other of them."""
    return [folder for folder in folders if not any(parent in folders for parent in folder.parents)]


class SidecarPass:
    """Brings the text tracks of files beside videos up to date. ``run()`` once."""

    def __init__(self, catalog: Catalog, rows: Sequence[PathRow]) -> None:
        self._catalog = catalog
        self._texts = Texts(catalog)
        self._rows = rows
        self._media_of = {row.path: row.media_id for row in rows}
        self._waiting: list[tuple[TextTrack, Sequence[TextLine]]] = []
        self._committed_at = time.monotonic()

    def run(self) -> Iterator[TextEvent]:
        held = {
            (each.track.media_id, each.track.source, each.track.origin): each
            for each in self._texts.tracks()
            if each.track.origin is not None
        }
        here = set()
        skipped = []
        for sidecar in sidecars(self._media_of):
            key = (self._media_of[sidecar.media_path], sidecar.source, sidecar.path)
            if key in here:
                continue  # beside two files with the same content
            here.add(key)
            if _is_current(held.get(key), sidecar):
                continue
            event = self._read(sidecar, key[0])
            if isinstance(event, Skipped):
                skipped.append(event)
                here.discard(key)  # what it held before is no longer what it says
            yield event
        self._commit()
        self._catalog.note_skipped(skipped)
        yield from self._remove_gone([each for key, each in held.items() if key not in here])

    def _read(self, sidecar: Sidecar, media_id: MediaId) -> TextEvent:
        try:
            language, lines = sidecar.read()
        except MediaError as error:
            return Skipped(sidecar.path, str(error))
        kept, warning = within(self._catalog, media_id, lines)
        size_bytes, mtime_ns = sidecar.size_bytes, sidecar.mtime_ns
        track = TextTrack(media_id, sidecar.source, language, sidecar.path, -1, size_bytes, mtime_ns)
        self._waiting.append((track, kept))
        if len(self._waiting) >= COMMIT_TRACKS or time.monotonic() - self._committed_at > COMMIT_S:
            self._commit()
        warnings = (f"{warning}: does {sidecar.path.name} belong to it?",) if warning else ()
        return TextRead(sidecar.path, media_id, sidecar.source, language, len(kept), warnings)

    def _commit(self) -> None:
        if self._waiting:
            self._texts.put(self._waiting)
        self._waiting = []
        self._committed_at = time.monotonic()

    def _remove_gone(self, absent: Sequence[HeldTrack]) -> Iterator[TextRemoved]:
        """Forgets files that were in the folders of this run and do not belong to a video any more."""
        folders = {row.path.parent for row in self._rows}
        gone = [each for each in absent if each.track.origin is not None and self._is_gone(each.track.origin, folders)]
        self._texts.drop(each.track_id for each in gone)
        for each in gone:
            assert each.track.origin is not None
            yield TextRemoved(each.track.origin, each.track.media_id, each.track.source)

    def _is_gone(self, origin: Path, folders: set[Path]) -> bool:
        """A folder that is not there, or is empty, may be a disk that is not mounted: its files are kept."""
        try:
            return origin.parent in folders and any(origin.parent.iterdir())
        except OSError:
            return False


def within(catalog: Catalog, media_id: MediaId, lines: Sequence[TextLine]) -> tuple[Sequence[TextLine], str]:
    """The lines that begin in the video, for no search shows others, and what to say of those; empty for nothing."""
    media = catalog.media([media_id]).get(media_id)
    kept = [line for line in lines if media is None or line.start_s < (media.duration_s or math.inf)]
    left = len(lines) - len(kept)
    if not left:
        return lines, ""
    return kept, f"{'1 line lies' if left == 1 else f'{left} lines lie'} after the end of the video"


def _unread(rows: Sequence[PathRow], read: Mapping[MediaId, str], reading: str) -> list[PathRow]:
    """The videos, one path of each, that were not read in this way before."""
    wanted: dict[MediaId, PathRow] = {}
    for row in rows:
        if row.path.suffix.lower() in VIDEO and read.get(row.media_id) != reading:
            wanted.setdefault(row.media_id, row)
    return list(wanted.values())


def read_embedded(
    catalog: Catalog,
    rows: Sequence[PathRow],
    *,
    stall_s: float,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[TextEvent]:
    """Reads the subtitle streams of the videos whose streams were not read before."""
    texts = Texts(catalog)
    unread = _unread(rows, texts.readings(EMBEDDED), EMBEDDED_READING)
    wanted = {row.path: row.media_id for row in unread}
    progress = ReadingProgress("subtitles", {row.path: row.size_bytes for row in unread}, on_progress)
    for path, found in read_text_streams(_told(wanted, progress), stall_s=stall_s):
        progress.end(path)
        if isinstance(found, Skipped):
            # Its pictures are fine; looked at again by the next run, for the file may be on its way.
            yield TextRead(path, wanted[path], Modality.SUBTITLE, "", 0, (found.reason,))
            continue
        media_id = wanted[path]
        streams = [(each, *within(catalog, media_id, each.lines)) for each in found]
        tracks = [
            (TextTrack(media_id, Modality.SUBTITLE, each.language, stream=each.stream), kept)
            for each, kept, _ in streams
            if kept
        ]
        texts.put_reading(media_id, EMBEDDED, EMBEDDED_READING, tracks)
        for each, kept, warning in streams:
            warnings = tuple(filter(None, (each.unreadable, warning)))
            yield TextRead(path, media_id, Modality.SUBTITLE, each.language, len(kept), warnings)


def _told(paths: Iterable[Path], progress: ReadingProgress) -> Iterator[Path]:
    for path in paths:
        progress.begin(path)
        yield path


def _is_current(held: HeldTrack | None, sidecar: Sidecar) -> bool:
    return held is not None and (held.track.size_bytes, held.track.mtime_ns) == (sidecar.size_bytes, sidecar.mtime_ns)


def hear(
    catalog: Catalog,
    rows: Sequence[PathRow],
    transcriber: Transcriber,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[TextEvent]:
    """Writes down what is said in the videos that were not heard in this way before."""
    texts = Texts(catalog)
    unheard = _unread(rows, texts.readings(SPEECH), transcriber.reading)
    progress = ReadingProgress("speech", {row.path: row.size_bytes for row in unheard}, on_progress)
    for row in unheard:
        path, media_id = row.path, row.media_id
        progress.begin(path)
        try:
            language, lines = transcriber.hear(path)
        except MediaError as error:
            progress.end(path)
            yield TextRead(path, media_id, Modality.SPEECH, "", 0, (str(error),))
            continue
        progress.end(path)
        kept, warning = within(catalog, media_id, lines)
        track = TextTrack(media_id, Modality.SPEECH, language)
        texts.put_reading(media_id, SPEECH, transcriber.reading, [(track, kept)])
        yield TextRead(path, media_id, Modality.SPEECH, language, len(kept), (warning,) if warning else ())
