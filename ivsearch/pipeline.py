"""The pipeline: files → Media with a vector for every frame that was kept. What indexing and re-encoding share.

``decode, gate (worker processes) → preprocess (loader threads) → encode (batches across files, one device thread)``
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import Cutting, cut, middle_frame
from ivsearch.domain import FrameVectors, Media, MediaId, Skipped
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import LibraryDamaged
from ivsearch.media.pool import DecodePool, Event, Finished, Job, Kept, Opened, default_workers
from ivsearch.store.catalog import Encoded, Encoding, PathRow, Record
from ivsearch.store.thumbs import Thumbs

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

    def sampled_as(self, sampling: str) -> Options:
        """With the frames that such a note stands for. Raises LibraryDamaged when it makes no sense."""
        match = re.fullmatch(r"fps=([0-9.e+-]+) gate=(on|off)", sampling)
        if match is None:
            raise LibraryDamaged(f"nobody knows how frames were chosen by {sampling!r}: run `ivsearch verify`")
        return replace(self, fps=float(match[1]), gate=match[2] == "on")


@dataclass(slots=True)
class Progress:
    """How far a run is. Files and bytes count all that was found; frames, samples and seconds what this run added.

    ``task``: which words are read; empty while it is pictures. Each task counts from nothing.
    """

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
    task: str = ""


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


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """A Media all of whose kept frames are encoded. ``thumbnails``: a JPEG for each of them."""

    job: Job
    media: Media
    frames: FrameVectors
    thumbnails: Spool


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that cannot be decoded or encoded, and why."""

    job: Job
    reason: str


Result = Done | Failed


@dataclass(slots=True, eq=False)
class _Work:
    """A Media on its way: its frames are being decoded and encoded."""

    job: Job
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    thumbnails: Spool = field(default_factory=Spool)
    finished: Finished | None = None


@dataclass(frozen=True, slots=True)
class Unencodable:
    """What the encoder gave instead of a vector."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Frames that are being encoded, in order, each with the Work it belongs to."""

    works: list[_Work]
    vectors: Future[list[NDArray[np.float32] | Unencodable]]


class Pipeline:
    """Three things go on at once: worker processes decode, loader threads preprocess, one thread keeps the device
    busy. Every queue between them is bounded."""

    def __init__(
        self,
        encoder: Encoder,
        options: Options,
        progress: Progress,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._encoder = encoder
        self._options = options
        self._progress = progress
        self._on_progress = on_progress
        self._results: list[Result] = []
        self._works: dict[MediaId, _Work] = {}
        self._waiting: list[tuple[_Work, Future[NDArray[np.float32]]]] = []
        self._loading: deque[tuple[Future[NDArray[np.float32]], int]] = deque()
        self._batches: deque[_Batch] = deque()

    def run(self, jobs: Iterable[Job]) -> Iterator[list[Result]]:
        """Takes jobs one by one, no two of one Media at a time, as decoders become free. After every message of a
        decoder: the Media that have come to an end since then, often none."""
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
            for event in pool.run(self._begun(jobs)):
                self._take(event)
                yield self._taken()
            self._encode_waiting()
            self._collect(leave=0)
            yield self._taken()

    def hurry(self) -> list[Result]:
        """Frames wait for a full batch no longer; what comes to an end by that."""
        self._encode_waiting()
        self._collect(leave=BATCHES_AHEAD)
        return self._taken()

    def _begun(self, jobs: Iterable[Job]) -> Iterator[Job]:
        for job in jobs:
            self._works[job.media_id] = _Work(job)
            yield job

    def _taken(self) -> list[Result]:
        results, self._results = self._results, []
        return results

    # ---- what the decoders send ----

    def _take(self, event: Event) -> None:
        if isinstance(event, Opened):
            self._progress.current = event.job.path
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
            self._progress.decode_s += event.decode_s
            self._progress.gate_s += event.gate_s
            self._note_complete(work)

    def _give_up(self, path: Path, reason: str) -> None:
        work = next((work for work in self._works.values() if work.job.path == path), None)
        if work is not None:  # not given up before
            del self._works[work.job.media_id]
            self._results.append(Failed(work.job, reason))

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
        self._progress.encode_s += time.perf_counter() - started
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
                elif self._works.get(work.job.media_id) is work:
                    work.vectors.append(vector)
                    self._note_complete(work)
            self._progress.frames += len(batch.works)
            self._on_progress(self._progress)

    def _note_complete(self, work: _Work) -> None:
        finished = work.finished
        if finished is None or len(work.vectors) < len(finished.kept):
            return
        del self._works[work.job.media_id]
        dim = self._encoder.space.dim
        vectors = np.stack(work.vectors) if work.vectors else np.empty((0, dim))
        frames = FrameVectors(finished.sample_pts_s, finished.kept, vectors.astype(np.float16))
        self._results.append(Done(work.job, finished.media, frames, work.thumbnails))


def encoded_rows(done: Done, record: Record, paths: tuple[PathRow, ...], thumbs: Thumbs, options: Options) -> Encoded:
    """The rows of a Media that came out of the pipeline, cut into Clips; their thumbnails are written."""
    media, frames = done.media, done.frames
    spans = cut(frames, media.duration_s, options.cutting)
    for span in spans:
        thumbs.save(media.media_id, span.start_s, done.thumbnails[middle_frame(span)])
    encoding = Encoding(
        media.media_id, options.sampling, record, len(frames.sample_pts_s), len(frames.kept), len(spans)
    )
    return Encoded(media, paths, encoding, tuple(spans))
