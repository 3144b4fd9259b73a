"""Words on screen: Media → lines read by OCR. A pass of its own after the pictures, also for Media indexed before.

The frames are the ones the gate keeps, decoded once more in worker processes; readers run in threads, one each. A
Media is committed when all of it has been read: a run that is stopped goes on with the next one.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import MediaId, MediaKind, Modality, Skipped, TextRead
from ivsearch.errors import MediaError
from ivsearch.media.ocr import ScreenReader, Words
from ivsearch.media.pool import DecodePool, Event, Finished, Job, Kept, Opened, default_workers
from ivsearch.media.screen_lines import screen_lines
from ivsearch.pipeline import Progress
from ivsearch.reading_progress import ReadingProgress
from ivsearch.store.catalog import Catalog, PathRow
from ivsearch.store.texts import SCREEN, Texts, TextTrack

# Frames that wait for a reader, for each of them: decoding is faster by far.
AHEAD = 2


@dataclass(frozen=True, slots=True)
class ScreenOptions:
    """``readers``: threads that read, each as many megabytes as its models; None: one a core, at most 8."""

    fps: float
    readers: int | None = None
    stall_s: float = 60.0
    max_pixels: int = 200_000_000


@dataclass(slots=True)
class _Work:
    path: Path
    rows: list[tuple[float, Future[list[Words]]]] = field(default_factory=list)


class ScreenPass:
    """One run over indexed files. Iterate ``run()``; what it yielded is committed.

    ``make_reader`` is called once for each reader.
    """

    def __init__(
        self,
        catalog: Catalog,
        rows: Sequence[PathRow],
        *,
        options: ScreenOptions,
        make_reader: Callable[[], ScreenReader],
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._catalog = catalog
        self._texts = Texts(catalog)
        self._rows = rows
        self._options = options
        self._make_reader = make_reader
        self._on_progress = on_progress
        self._own = threading.local()
        self._works: dict[MediaId, _Work] = {}
        self._reading: deque[Future[list[Words]]] = deque()

    def run(self) -> Iterator[TextRead | Skipped]:
        options = self._options
        self._spare = [self._make_reader()]
        self._how = f"{self._spare[0].reading} fps={options.fps:g}"
        jobs = self._jobs()
        if not jobs:
            return
        size_of = {row.path: row.size_bytes for row in self._rows}
        sizes = {job.path: size_of[job.path] for job in jobs}
        self._progress = ReadingProgress("words on screen", sizes, self._on_progress)
        readers = options.readers or default_workers()
        with (
            ThreadPoolExecutor(readers, "reader") as self._threads,
            DecodePool(fps=options.fps, workers=1, stall_s=options.stall_s, max_pixels=options.max_pixels) as pool,
        ):
            for event in pool.run(jobs):
                if isinstance(event, Finished | Skipped):
                    read = self._finish(event)
                    self._progress.end(read.path)
                    yield read
                else:
                    self._take(event, AHEAD * readers)

    def _jobs(self) -> list[Job]:
        """A job for each Media that was not read in this way before."""
        read = self._texts.readings(SCREEN)
        wanted: dict[MediaId, Path] = {}
        for row in self._rows:
            if read.get(row.media_id) != self._how:
                wanted.setdefault(row.media_id, row.path)
        return [Job(path, media_id) for media_id, path in wanted.items()]

    def _take(self, event: Event, ahead: int) -> None:
        if isinstance(event, Opened):
            self._progress.begin(event.job.path)
        elif isinstance(event, Kept):
            while len(self._reading) >= ahead:
                self._reading.popleft().exception()  # waits; what it raised is raised where its words are needed
            future = self._threads.submit(self._read, event.frame.pixels)
            self._reading.append(future)
            work = self._works.setdefault(event.job.media_id, _Work(event.job.path))
            work.rows.append((event.frame.pts_s, future))
            self._progress.count_frame()

    def _read(self, pixels: NDArray[np.uint8]) -> list[Words]:
        if not hasattr(self._own, "reader"):
            with contextlib.suppress(IndexError):
                self._own.reader = self._spare.pop()
        if not hasattr(self._own, "reader"):
            self._own.reader = self._make_reader()
        reader: ScreenReader = self._own.reader
        return reader.read(pixels)

    def _finish(self, event: Finished | Skipped) -> TextRead | Skipped:
        if isinstance(event, Skipped):
            self._works = {media_id: work for media_id, work in self._works.items() if work.path != event.path}
            return event
        media, path = event.media, event.job.path
        work = self._works.pop(media.media_id, _Work(path))
        starts_s = [start_s for start_s, _ in work.rows]
        ends_s = [*starts_s[1:], max(media.duration_s, starts_s[-1])] if starts_s else []
        if media.kind is MediaKind.IMAGE:
            starts_s, ends_s = [0.0] * len(starts_s), [0.0] * len(starts_s)
        frames: list[tuple[float, float, list[Words]]] = []
        warnings: dict[str, None] = {}
        for start_s, end_s, (_, future) in zip(starts_s, ends_s, work.rows, strict=True):
            try:
                frames.append((start_s, end_s, future.result()))
            except MediaError as error:
                warnings[str(error)] = None  # once, for the next frame is as odd
        lines = screen_lines(frames)
        track = TextTrack(media.media_id, Modality.SCREEN)
        # One without words is noted too, so that it is not read again.
        self._texts.put_reading(media.media_id, SCREEN, self._how, [(track, lines)])
        return TextRead(path, media.media_id, Modality.SCREEN, "", len(lines), tuple(warnings))
