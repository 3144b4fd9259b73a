"""Image files → batches for an encoder, and their vectors."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Embeddings, Skipped
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import MediaError, UsageError
from ivsearch.pictures import FAULTS, Transparency, load_picture, open_picture, upright_rgb

MAX_READERS = 8


@dataclass(frozen=True, slots=True, eq=False)
class PictureBatch:
    """Preprocessed pictures, and the place each has among the files: ``places`` (n,), ``batch`` (n, …) float32."""

    places: tuple[int, ...]
    batch: NDArray[np.float32]


def read_picture(path: Path, transparency: Transparency) -> NDArray[np.uint8]:
    """An image file as displayed: (h, w, 3) uint8 sRGB, read as indexing reads it; of an animation, its first picture.

    A cut-off one is taken when at least half of it is there. Raises MediaError, its text without the path.
    """
    try:
        image, _ = load_picture(open_picture(path), path)
        with image:
            return upright_rgb(image, transparency)
    except FileNotFoundError:
        raise MediaError("no such file") from None
    except FAULTS as error:
        raise MediaError(f"cannot be read as an image ({error})") from error


def read_batches(encoder: Encoder, paths: Sequence[Path], batch_size: int) -> Iterator[PictureBatch | Skipped]:
    """Image files as batches for ``encoder``, in order. Threads read and preprocess ahead of whoever takes them."""
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, not {batch_size}")

    def prepare(path: Path) -> NDArray[np.float32] | Skipped:
        try:
            return encoder.preprocess([read_picture(path, encoder.transparency)])
        except MediaError as error:
            return Skipped(path, str(error))

    waiting: deque[Future[NDArray[np.float32] | Skipped]] = deque()
    places: list[int] = []
    rows: list[NDArray[np.float32]] = []
    readers = min(os.cpu_count() or 1, MAX_READERS)
    with ThreadPoolExecutor(readers, "reader") as threads:
        try:
            for place in range(len(paths)):
                while len(waiting) <= batch_size + readers and place + len(waiting) < len(paths):
                    waiting.append(threads.submit(prepare, paths[place + len(waiting)]))
                prepared = waiting.popleft().result()
                if isinstance(prepared, Skipped):
                    yield prepared
                    continue
                places.append(place)
                rows.append(prepared)
                if len(rows) == batch_size:
                    yield PictureBatch(tuple(places), np.concatenate(rows))
                    places, rows = [], []
            if rows:
                yield PictureBatch(tuple(places), np.concatenate(rows))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def embed_images(encoder: Encoder, paths: Sequence[str | Path], batch_size: int | None = None) -> Embeddings:
    """Image files to (n, dim) unit vectors, in the order of ``paths``. The first unreadable file raises MediaError.

    ``batch_size`` None: the encoder's own.
    """
    rows = [np.empty((0, encoder.space.dim), np.float32)]
    size = encoder.batch_size if batch_size is None else batch_size
    for each in read_batches(encoder, [Path(path) for path in paths], size):
        if isinstance(each, Skipped):
            raise MediaError(f"{each.path}: {each.reason}")
        rows.append(encoder.encode_images(each.batch).vectors)
    return Embeddings(encoder.space, np.concatenate(rows))
