"""ingest: paths → Ingested | Skipped | Removed. Media, encode and store joined; the act behind ``ivsearch index``.

``scan → fingerprint → decode, gate (worker processes) → encode_frames (batches across files) → cut → append → commit``

Vectors are written and fsynced first, the Catalog commits last, and only the commit means done: whatever stops the
run, the next one goes on from there.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import Cutting, cut
from ivsearch.domain import FrameVectors, Ingested, Media, MediaId, Outcome, Removed, Skipped, Space
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import MediaError
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.pool import DecodePool, Event, Finished, Job, Kept, Opened, default_workers
from ivsearch.media.scan import Found, scan
from ivsearch.store.catalog import Catalog, Encoded, Encoding, PathRow, Record
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.vector_store import VectorStore

IngestEvent = Ingested | Skipped | Removed

# A commit costs two fsyncs: finished Media are committed together, but none waits longer than this.
COMMIT_MEDIA = 64
COMMIT_S = 2.0
# Batches under way while the next one is gathered.
BATCHES_AHEAD = 2
# Decoded pictures that wait for a loader thread, at most.
LOADING_BYTES = 256 << 20
SPOOL_BYTES = 4 << 20
# What an encoder raises over one odd picture, or when the device has no room for a batch.
ENCODER_FAULTS = (ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError)


@dataclass(frozen=True, slots=True)
class Options:
    """How files are read and cut. ``fps`` and ``gate`` decide which frames are stored; the rest only how."""

    fps: float = 1.0
    gate: bool = True
    workers: int | None = None
    batch: int = 16
    stall_s: float = 60.0
    max_pixels: int = 200_000_000
    strict_hash: bool = False
    cutting: Cutting = field(default_factory=Cutting)

    @property
    def sampling(self) -> str:
        """Noted with every Encoding: a Media sampled otherwise is encoded anew."""
        return f"fps={self.fps:g} gate={'on' if self.gate else 'off'}"


@dataclass(slots=True)
class Progress:
    """How far a run is. Files and bytes count all that was found; frames, samples and seconds what this run added."""

    files_total: int = 0
    files_done: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    frames: int = 0
    samples: int = 0
    media_s: float = 0.0
    current: Path | None = None
    decode_s: float = 0.0
    gate_s: float = 0.0
    encode_s: float = 0.0
    store_s: float = 0.0


class Spool:
    """Thumbnails of one Media until it is cut: in memory while they are few, in a temporary file when many."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - lives as long as the Media
        self._edges = [0]

    def append(self, jpeg: bytes) -> None:
        self._file.seek(self._edges[-1])
        self._file.write(jpeg)
        self._edges.append(self._file.tell())

    def __getitem__(self, index: int) -> bytes:
        self._file.seek(self._edges[index])
        return self._file.read(self._edges[index + 1] - self._edges[index])


@dataclass(slots=True, eq=False)
class _Work:
    """A Media on its way: its frames are being decoded and encoded."""

    job: Job
    files: list[Found]
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    thumbnails: Spool = field(default_factory=Spool)
    finished: Finished | None = None

    def is_complete(self) -> bool:
        return self.finished is not None and len(self.vectors) == len(self.finished.kept)


@dataclass(frozen=True, slots=True)
class Unencodable:
    """What the encoder gave instead of a vector."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Frames that are being encoded, in order, each with the Work it belongs to."""

    works: list[_Work]
    vectors: Future[list[NDArray[np.float32] | Unencodable]]


class Ingest:
    """One run over ``roots``. Iterate ``run()`` to drive it; stop (or Ctrl-C) and what is committed stays.

    Three things go on at once: worker processes decode, loader threads preprocess, one thread keeps the device
    busy. Every queue between them is bounded.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        catalog: Catalog,
        vectors: VectorStore,
        thumbs: Thumbs,
        encoder: Encoder,
        options: Options,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.progress = Progress()
        self._roots = [Path(root).absolute() for root in roots]
        self._catalog = catalog
        self._vectors = vectors
        self._thumbs = thumbs
        self._encoder = encoder
        self._options = options
        self._on_progress = on_progress
        self._events: deque[IngestEvent] = deque()
        self._works: dict[MediaId, _Work] = {}
        self._complete: list[_Work] = []
        self._waiting: list[tuple[_Work, Future[NDArray[np.float32]]]] = []
        self._loading: deque[tuple[Future[NDArray[np.float32]], int]] = deque()
        self._batches: deque[_Batch] = deque()
        self._links: list[PathRow] = []
        self._skipped: dict[Path, Skipped] = {}
        self._replaced: set[Path] = set()
        self._committed_at = time.monotonic()

    def run(self) -> Iterator[IngestEvent]:
        space = self._encoder.space
        self._known = {row.path: row for row in self._catalog.paths()}
        self._encodings = self._catalog.encodings(space)
        self._media = self._catalog.media(list(self._encodings))
        found = self._scan()
        yield from self._drain()
        options = self._options
        with (
            ThreadPoolExecutor(options.workers or default_workers(), "loader") as self._loader,
            ThreadPoolExecutor(1, "device") as self._device,
            DecodePool(
                fps=options.fps,
                workers=options.workers,
                stall_s=options.stall_s,
                gate=options.gate,
                max_pixels=options.max_pixels,
                transparency=self._encoder.transparency,
            ) as pool,
        ):
            for event in pool.run(self._jobs(found)):
                self._take(event)
                yield from self._drain()
            yield from self._drain()
            self._encode_waiting()
            self._collect(leave=0)
            self._commit()
        self._remove_gone(found)
        yield from self._drain()

    def _drain(self) -> Iterator[IngestEvent]:
        while self._events:
            yield self._events.popleft()

    # ---- which files need work ----

    def _scan(self) -> list[Found]:
        found = []
        for each in scan(self._roots):
            if isinstance(each, Skipped):
                if not (each.path in self._known and _is_gone(each.path)):  # that will be a Removed
                    self._skip(each)
            else:
                found.append(each)
        self.progress.files_total = len(found)
        self.progress.bytes_total = sum(each.size_bytes for each in found)
        self._on_progress(self.progress)
        return found

    def _jobs(self, found: Sequence[Found]) -> Iterator[Job]:
        """Jobs for what has to be decoded; everything else is settled on the way."""
        for each in found:
            row = self._known.get(each.path)
            if row and self._is_current(row.media_id) and _same_file(row, each):
                self._settle(each, row.media_id, Outcome.UNCHANGED)
                continue
            try:
                media_id = fingerprint(each.path, strict=self._options.strict_hash)
            except (OSError, MediaError) as error:
                self._fail(each, str(error))
                continue
            if self._is_current(media_id):
                self._links.append(_path_row(each, media_id))
                same = row is not None and row.media_id == media_id
                self._settle(each, media_id, Outcome.UNCHANGED if same else Outcome.LINKED)
            elif media_id in self._works:
                self._works[media_id].files.append(each)
            else:
                job = Job(each.path, media_id)
                self._works[media_id] = _Work(job, [each])
                yield job

    def _is_current(self, media_id: MediaId) -> bool:
        encoding = self._encodings.get(media_id)
        return encoding is not None and encoding.sampling == self._options.sampling

    def _settle(self, found: Found, media_id: MediaId, outcome: Outcome) -> None:
        self._done(found)
        if time.monotonic() - self._committed_at > COMMIT_S:
            self._commit()
        self._events.append(_ingested(found, self._media[media_id], self._encodings[media_id], outcome))

    # ---- what the decoders send ----

    def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            self.progress.current = event.job.path
        elif isinstance(event, Skipped):
            self._give_up(event.path, event.reason)
        elif (work := self._works.get(event.job.media_id)) is None:
            pass  # given up before
        elif isinstance(event, Kept):
            work.thumbnails.append(event.thumbnail)
            self._waiting.append((work, self._load(event.frame.pixels)))
            if len(self._waiting) >= self._options.batch:
                self._encode_waiting()
                self._collect(leave=BATCHES_AHEAD)
        else:
            work.finished = event
            self.progress.decode_s += event.decode_s
            self.progress.gate_s += event.gate_s
            self._note_complete(work)
        if len(self._complete) >= COMMIT_MEDIA or time.monotonic() - self._committed_at > COMMIT_S:
            self._encode_waiting()
            self._collect(leave=BATCHES_AHEAD)
            self._commit()

    def _give_up(self, path: Path, reason: str) -> None:
        """The file cannot be decoded or encoded, and neither can its copies."""
        work = next((work for work in self._works.values() if work.job.path == path), None)
        if work is None:
            return  # given up before
        del self._works[work.job.media_id]
        for file in work.files:
            same = f"holds the same as {path}, which could not be read: {reason}"
            self._fail(file, reason if file.path == path else same)
            row = self._known.get(file.path)
            if row is not None and row.media_id != work.job.media_id:
                self._replaced.add(file.path)

    # ---- frames become vectors ----

    def _load(self, pixels: NDArray[np.uint8]) -> Future[NDArray[np.float32]]:
        """Preprocesses a picture in a loader thread; waits while too many bytes of pictures are there."""
        while self._loading and sum(n_bytes for _, n_bytes in self._loading) + pixels.nbytes > LOADING_BYTES:
            wait([self._loading.popleft()[0]])
        while self._loading and self._loading[0][0].done():
            self._loading.popleft()
        future = self._loader.submit(self._encoder.preprocess, [pixels])
        self._loading.append((future, pixels.nbytes))
        return future

    def _encode_waiting(self) -> None:
        if self._waiting:
            works = [work for work, _ in self._waiting]
            pictures = [picture for _, picture in self._waiting]
            self._batches.append(_Batch(works, self._device.submit(self._encode, pictures)))
            self._waiting.clear()

    def _encode(self, pictures: Sequence[Future[NDArray[np.float32]]]) -> list[NDArray[np.float32] | Unencodable]:
        """A vector a picture; one picture that cannot be encoded costs its own file, not the others."""
        wait(pictures)
        started = time.perf_counter()
        try:
            vectors = self._encoder.encode_images(np.concatenate([picture.result() for picture in pictures])).vectors
        except ENCODER_FAULTS as error:
            if len(pictures) > 1:
                return [each for picture in pictures for each in self._encode([picture])]
            return [Unencodable(f"cannot be encoded: {error}")]
        self.progress.encode_s += time.perf_counter() - started
        sound = [bool(np.isfinite(vector).all()) for vector in vectors]
        return [
            vector if fine else Unencodable("cannot be encoded: the encoder gives no finite numbers")
            for vector, fine in zip(vectors, sound, strict=True)
        ]

    def _collect(self, *, leave: int) -> None:
        """Takes the vectors of finished batches; waits until at most ``leave`` batches are under way."""
        while len(self._batches) > leave or (self._batches and self._batches[0].vectors.done()):
            batch = self._batches.popleft()
            for work, vector in zip(batch.works, batch.vectors.result(), strict=True):
                if isinstance(vector, Unencodable):
                    self._give_up(work.job.path, vector.reason)
                elif work.job.media_id in self._works:
                    work.vectors.append(vector)
                    self._note_complete(work)
            self.progress.frames += len(batch.works)
            self._on_progress(self.progress)

    def _note_complete(self, work: _Work) -> None:
        if work.is_complete():
            self._complete.append(work)

    # ---- what is durable ----

    def _commit(self) -> None:
        started = time.perf_counter()
        self._committed_at = time.monotonic()
        self._catalog.link(self._links)
        self._links = []
        works, self._complete = self._complete, []
        if works:
            frames = [_frame_vectors(work, self._encoder.space) for work in works]
            records = self._vectors.append(
                [(work.job.media_id, each) for work, each in zip(works, frames, strict=True)]
            )
            encoded = [
                self._encoded(work, each, record) for work, each, record in zip(works, frames, records, strict=True)
            ]
            self._catalog.add(self._encoder.space, encoded)
            for each, work in zip(encoded, works, strict=True):
                self._report(each, work)
        self.progress.store_s += time.perf_counter() - started
        self._on_progress(self.progress)

    def _encoded(self, work: _Work, frames: FrameVectors, record: Record) -> Encoded:
        assert work.finished is not None  # only complete works come here
        media, media_id = work.finished.media, work.job.media_id
        spans = cut(frames, media.duration_s, self._options.cutting)
        for span in spans:
            middle = span.first_frame + span.n_frames // 2
            self._thumbs.save(media_id, span.start_s, work.thumbnails[middle])
        encoding = Encoding(
            media_id, self._options.sampling, record, len(frames.sample_pts_s), len(frames.kept), len(spans)
        )
        paths = tuple(_path_row(file, media_id) for file in work.files)
        return Encoded(media, paths, encoding, tuple(spans))

    def _report(self, encoded: Encoded, work: _Work) -> None:
        media, encoding = encoded.media, encoded.encoding
        del self._works[media.media_id]
        self._media[media.media_id], self._encodings[media.media_id] = media, encoding
        self.progress.media_s += media.duration_s
        self.progress.samples += encoding.n_samples
        outcome = Outcome.INDEXED
        for file in work.files:
            self._done(file)
            self._events.append(_ingested(file, media, encoding, outcome))
            outcome = Outcome.LINKED

    # ---- what is not there, or no good ----

    def _fail(self, found: Found, reason: str) -> None:
        self._done(found)
        self._skip(Skipped(found.path, reason))

    def _skip(self, skipped: Skipped) -> None:
        self._skipped[skipped.path] = skipped
        self._events.append(skipped)

    def _done(self, found: Found) -> None:
        self.progress.files_done += 1
        self.progress.bytes_done += found.size_bytes

    def _remove_gone(self, found: Sequence[Found]) -> None:
        """Forgets paths that are gone or hold something unreadable now, and Media that no path holds any more."""
        here = {each.path for each in found}
        roots = [root for root in self._roots if self._is_present(root)]
        gone = [
            path
            for path in self._known
            if path not in here and _is_gone(path) and any(path.is_relative_to(root) for root in roots)
        ]
        self._catalog.remove_paths([*gone, *self._replaced])
        here |= set(self._skipped)
        self._catalog.forget_skipped(
            each.path
            for each in self._catalog.skipped()
            if each.path not in here and any(each.path.is_relative_to(root) for root in self._roots)
        )
        self._catalog.note_skipped(list(self._skipped.values()))
        self._events.extend(Removed(path, self._known[path].media_id) for path in gone)

    def gone_roots(self) -> list[Path]:
        """Files that were named once, are not there any more and need not be looked for again."""
        return [root for root in self._roots if root in self._known and _is_gone(root)]

    def _is_present(self, root: Path) -> bool:
        """Whether what is missing under ``root`` is really gone: a disk that is not mounted looks like a folder
        without files, and must not empty the library."""
        if not root.is_dir():
            return root in self._known
        if any(root.iterdir()):
            return True
        missing = sum(path.is_relative_to(root) for path in self._known)
        if missing:
            self._skip(
                Skipped(
                    root,
                    f"is empty, although {missing} indexed files were in it: is a disk not mounted? They are kept; "
                    f"to forget them: ivsearch rm {root}",
                )
            )
        return False


def _is_gone(path: Path) -> bool:
    """Whether it is certain that nothing is there: a folder without permission or a network error is no proof."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _same_file(row: PathRow, found: Found) -> bool:
    return (row.size_bytes, row.mtime_ns) == (found.size_bytes, found.mtime_ns)


def _path_row(found: Found, media_id: MediaId) -> PathRow:
    return PathRow(found.path, media_id, found.size_bytes, found.mtime_ns)


def _ingested(found: Found, media: Media, encoding: Encoding, outcome: Outcome) -> Ingested:
    return Ingested(found.path, media, outcome, encoding.n_samples, encoding.n_frames, encoding.n_clips)


def _frame_vectors(work: _Work, space: Space) -> FrameVectors:
    assert work.finished is not None  # only complete works come here
    vectors = np.stack(work.vectors) if work.vectors else np.empty((0, space.dim))
    return FrameVectors(work.finished.sample_pts_s, work.finished.kept, vectors.astype(np.float16))
