"""embed: texts, image files and video files → vectors in a .npz file. Needs no library.

Videos are sampled, gated and decoded as indexing does it, in worker processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivsearch.clips import Span, pool
from ivsearch.domain import MediaId, Skipped
from ivsearch.encode.encoder import Encoder
from ivsearch.encode.picture_files import read_batches
from ivsearch.errors import MediaError, UsageError
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.pool import DecodePool, Finished, Job, Kept, default_workers
from ivsearch.media.scan import Found, scan
from ivsearch.media.suffixes import IMAGE, VIDEO
from ivsearch.store.files import publish

LOADING = 16
"""Decoded pictures that wait for a loader thread, at most: they are large."""

MAX_INPUTS_BYTES = 1 << 30
CHARACTER_BYTES = 4
"""In a text array of NumPy, whose rows are all as long as the longest."""

Told = Callable[[int], None]
"""Told how many rows there are by now."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """``vectors`` (n, dim) float32 unit rows, ``inputs`` what each is of, ``skipped`` what could not be read.

    Of videos only: ``media`` (n,) text, the id (content fingerprint) of the Media a row belongs to; ``pts_s`` (n,)
    float64, its presentation time, or None when there is one vector a video.
    """

    vectors: NDArray[np.float32]
    inputs: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    media: NDArray[np.str_] | None = None
    pts_s: NDArray[np.float64] | None = None


def files_in(paths: Sequence[str], suffixes: frozenset[str]) -> Iterator[Path | Skipped]:
    """``paths`` in their order; folders give the files in them whose names end in one of ``suffixes``. Paths stay
    relative where they were given so; a file named twice comes twice."""
    for given in paths:
        if not Path(given).is_dir():
            yield Path(given)
            continue
        whole = Path(os.path.abspath(given))
        for each in scan([whole]):
            if isinstance(each, Found) and each.path.suffix.lower() not in suffixes:
                continue
            below = Path(given) / each.path.relative_to(whole)
            yield below if isinstance(each, Found) else Skipped(below, each.reason)


def embed_texts(encoder: Encoder, texts: Sequence[str], *, batch: int, told: Told = lambda n: None) -> Embedded:
    """Texts in any language, a row each, ``batch`` of them encoded at once. Raises UsageError as ``check_inputs``."""
    check_inputs(texts)
    rows = [np.empty((0, encoder.space.dim), np.float32)]
    for start in range(0, len(texts), batch):
        rows.append(encoder.encode_texts(texts[start : start + batch]).vectors)
        told(start + len(rows[-1]))
    return Embedded(np.concatenate(rows), tuple(texts))


def embed_image_files(encoder: Encoder, paths: Sequence[str], *, batch: int, told: Told = lambda n: None) -> Embedded:
    """Image files and folders of them, a row a readable file. Raises UsageError as ``check_inputs``."""
    files, skipped = _readable(paths, IMAGE)
    check_inputs([str(file) for file in files])
    rows = [np.empty((0, encoder.space.dim), np.float32)]
    inputs: list[str] = []
    for each in read_batches(encoder, files, batch):
        if isinstance(each, Skipped):
            skipped.append(each)
            continue
        rows.append(encoder.encode_images(each.batch).vectors)
        inputs += [str(files[place]) for place in each.places]
        told(len(inputs))
    return Embedded(np.concatenate(rows), tuple(inputs), tuple(skipped))


def embed_video_files(
    encoder: Encoder,
    paths: Sequence[str],
    *,
    batch: int,
    fps: float = 1.0,
    pooled: bool = False,
    told: Told = lambda n: None,
) -> Embedded:
    """Video files and folders of them, a row a sampled frame that differs from the one before it.

    ``pooled``: a row a video, the mean of its frames' unit vectors, normalised again (the InternVL-C video protocol).
    """
    files, skipped = _readable(paths, VIDEO)
    tracks, faults = _Videos(encoder, files, batch=batch, fps=fps, told=told).run()
    skipped += faults
    kept = [place for place in range(len(files)) if place in tracks]
    counts = [len(tracks[place].rows) for place in kept]
    rows = np.concatenate([np.empty((0, encoder.space.dim), np.float32), *(tracks[place].rows for place in kept)])
    names = [str(files[place]) for place in kept]
    media = np.array([tracks[place].media_id for place in kept], np.str_)
    if pooled:
        edges = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        spans = [Span(int(edges[at]), counts[at], 0.0, 0.0) for at in range(len(kept))]
        return Embedded(pool(rows, spans) if spans else rows, tuple(names), tuple(skipped), media)
    pts_s = np.array([time_s for place in kept for time_s in tracks[place].pts_s], np.float64)
    inputs = tuple(name for name, count in zip(names, counts, strict=True) for _ in range(count))
    return Embedded(rows, inputs, tuple(skipped), np.repeat(media, counts), pts_s)


def write_npz(path: Path, encoder: Encoder, embedded: Embedded) -> None:
    """Arrays ``embeddings`` (n, dim) float32, ``inputs`` (n,) text, ``encoder`` and ``revision`` (), and of videos
    ``media`` (n,) text and ``pts_s`` (n,) float64. Whoever looks at ``path`` sees the old file or the whole new one.
    """
    arrays: dict[str, NDArray[Any]] = {
        "embeddings": embedded.vectors.astype(np.float32, copy=False),
        "inputs": np.array(embedded.inputs, np.str_),
        "encoder": np.array(encoder.space.encoder),
        "revision": np.array(encoder.space.revision),
    }
    arrays |= {"media": embedded.media} if embedded.media is not None else {}
    arrays |= {"pts_s": embedded.pts_s} if embedded.pts_s is not None else {}
    _write_arrays(Path(os.path.realpath(path)), arrays)  # a link stays, and what it points to is replaced


def check_output(path: Path) -> None:
    """Raises UsageError when nothing can be written there, before hours of work are done for it."""
    if str(path) == "-":
        raise UsageError("vectors cannot be written to standard output: name a file, such as -o out.npz")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it, such as -o {path / 'out.npz'}")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is a device or pipe, which a file would replace: name a file, such as -o out.npz")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.absolute().parent}: make it, or write elsewhere (-o)")
    temporary = _temporary(path)
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be written ({reason}): write elsewhere (-o)") from error


def check_inputs(inputs: Sequence[str]) -> None:
    """Raises UsageError when the array of them would not fit in MAX_INPUTS_BYTES, before any is encoded."""
    longest = max(map(len, inputs), default=0)
    n_bytes = len(inputs) * longest * CHARACTER_BYTES
    if n_bytes > MAX_INPUTS_BYTES:
        raise UsageError(
            f"{len(inputs)} inputs, the longest of {longest} characters, would take {n_bytes / 1e9:.1f} GB in the "
            "array 'inputs', whose rows are all as long as the longest: shorten that one, or write several files"
        )


def _readable(paths: Sequence[str], suffixes: frozenset[str]) -> tuple[list[Path], list[Skipped]]:
    found = list(files_in(paths, suffixes))
    return [each for each in found if isinstance(each, Path)], [each for each in found if isinstance(each, Skipped)]


@dataclass(slots=True, eq=False)
class _Track:
    """The frames of one video so far."""

    media_id: MediaId
    pts_s: list[float] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    is_whole: bool = False

    @property
    def rows(self) -> NDArray[np.float32]:
        return np.stack(self.vectors)


class _Videos:
    """Decodes files in worker processes and encodes their frames, those of several files in one batch."""

    def __init__(self, encoder: Encoder, files: Sequence[Path], *, batch: int, fps: float, told: Told) -> None:
        self._encoder = encoder
        self._files = files
        self._batch = batch
        self._fps = fps
        self._told = told
        self._tracks: dict[str, _Track] = {}
        self._skipped: list[Skipped] = []
        self._waiting: deque[tuple[_Track, Future[NDArray[np.float32]]]] = deque()
        self._loading: deque[Future[NDArray[np.float32]]] = deque()
        self._n_rows = 0

    def run(self) -> tuple[dict[int, _Track], list[Skipped]]:
        """The tracks of readable files by the place of the file, and the other files."""
        with (
            ThreadPoolExecutor(default_workers(), "loader") as self._loader,
            DecodePool(fps=self._fps, transparency=self._encoder.transparency) as decoders,
        ):
            for event in decoders.run(self._jobs()):
                if isinstance(event, Kept):
                    self._keep(event)
                elif isinstance(event, Finished):
                    self._tracks[event.job.media_id].is_whole = True
                elif isinstance(event, Skipped):
                    self._skipped.append(event)
            self._encode()
        whole = {int(place): track for place, track in self._tracks.items() if track.is_whole and track.vectors}
        return whole, self._skipped

    def _jobs(self) -> Iterator[Job]:
        """A job a readable file. Its place stands for its content here: a file named twice is two inputs."""
        for place, path in enumerate(self._files):
            try:
                self._tracks[str(place)] = _Track(fingerprint(path))
            except MediaError as error:
                self._skipped.append(Skipped(path, str(error)))
                continue
            yield Job(path, str(place))

    def _keep(self, event: Kept) -> None:
        while len(self._loading) >= LOADING:
            self._loading.popleft().result()
        track = self._tracks[event.job.media_id]
        track.pts_s.append(event.frame.pts_s)
        picture = self._loader.submit(self._encoder.preprocess, [event.frame.pixels])
        self._loading.append(picture)
        self._waiting.append((track, picture))
        if len(self._waiting) >= self._batch:
            self._encode()

    def _encode(self) -> None:
        if not self._waiting:
            return
        batch = np.concatenate([picture.result() for _, picture in self._waiting])
        for (track, _), vector in zip(self._waiting, self._encoder.encode_images(batch).vectors, strict=True):
            track.vectors.append(vector)
        self._n_rows += len(self._waiting)
        self._waiting.clear()
        self._told(self._n_rows)


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")
