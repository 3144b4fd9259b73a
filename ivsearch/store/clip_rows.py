"""Clip vectors in row order, float16, each row with a checksum: what an index scores exactly.

On disk two files that only ever grow: ``NAME.rows``, n rows of 8-byte words (a checksum of row and Clip id, then the
vector, zero-padded), and ``NAME.ids``, n Clip ids. How many rows count is said elsewhere (``current.json``); bytes
beyond are of a writer that was killed. Readers map the rows and touch only those they score.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.store.files import sync_folder
from ivsearch.store.machine_memory import memory_bytes

WORD_BYTES = 8
# Of the memory that this process may use, so much may be rows that it touched. More than one file is rarely open.
RESIDENT_SHARE = 0.125
# A row that is touched brings its neighbours on Linux: so much, and up to 2 MiB where the file was just written.
FAULT_BYTES = 65_536
CHECK_ROWS = 16_384  # rows looked at together where all are: some tens of megabytes


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """Rows that were read: ``halves`` (m, dim) float16; ``sound`` (m,) bool: whether each fits its checksum."""

    halves: NDArray[np.float16]
    sound: NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class Mapping:
    """Keeps the part of a mapped file that counts as this process's memory small: what was touched stays in the
    system's cache, but is let go of here after ``at_most`` rows. To touch it again costs a page fault a row, twice
    the time of scoring it."""

    pages: mmap.mmap
    at_most: int
    rows: int = 0

    def __post_init__(self) -> None:
        # Rows are read here and there: what the system would read ahead for each takes the memory of others.
        self._advise("MADV_RANDOM")

    def touched(self, rows: int) -> None:
        """Threads may count wrongly together; it does no harm."""
        self.rows += rows
        if self.rows > self.at_most:
            self.rows = 0
            self._advise("MADV_DONTNEED")

    @contextmanager
    def in_order(self) -> Iterator[None]:
        """While all rows are read, one after another."""
        self._advise("MADV_SEQUENTIAL")
        try:
            yield
        finally:
            self._advise("MADV_RANDOM")

    def _advise(self, how: str) -> None:
        if hasattr(mmap, how):  # as on Linux and most others
            self.pages.madvise(getattr(mmap, how))


@dataclass(frozen=True, eq=False)
class ClipRows:
    """``clip_ids`` (n,) int64 and ``words`` (n, 1 + ⌈dim/4⌉) uint64, in memory or mapped. Never changed."""

    clip_ids: NDArray[np.int64]
    words: NDArray[np.uint64]
    dim: int
    mapping: Mapping | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, rows: NDArray[np.int64]) -> Taken:
        """The rows of these numbers (m,)."""
        words = np.take(self.words, rows, axis=0)
        if self.mapping is not None:
            self.mapping.touched(len(rows))
        sums = _checksums(self.clip_ids[rows], words[:, 1:])
        return Taken(np.ascontiguousarray(words[:, 1:]).view(np.float16)[:, : self.dim], sums == words[:, 0])

    def halves(self) -> NDArray[np.float16]:
        """(n, dim), unchecked."""
        return np.ascontiguousarray(self.words[:, 1:]).view(np.float16)[:, : self.dim]

    def between(self, start: int, stop: int) -> ClipRows:
        return ClipRows(self.clip_ids[start:stop], self.words[start:stop], self.dim, self.mapping)

    def batches(self) -> Iterator[tuple[int, Taken]]:
        """All rows in order: the number of the first, and some thousands of them."""
        with self.mapping.in_order() if self.mapping else nullcontext():
            for start in range(0, len(self), CHECK_ROWS):
                yield start, self.take(np.arange(start, min(start + CHECK_ROWS, len(self))))

    @cached_property
    def _order(self) -> NDArray[np.int64] | None:
        """What sorts the ids; None where they are sorted, as they are when Clips were added as they came."""
        return None if np.all(self.clip_ids[1:] > self.clip_ids[:-1]) else np.argsort(self.clip_ids, kind="stable")

    def rows_of(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row numbers of those Clips that are here, ascending. ``clip_ids`` in any order."""
        if not len(self):
            return np.empty(0, np.int64)
        ids, order = self.clip_ids, self._order
        at = np.minimum(np.searchsorted(ids, clip_ids, sorter=order), len(ids) - 1)
        rows = at if order is None else order[at]
        rows = rows[ids[rows] == clip_ids]
        return rows if bool(np.all(rows[1:] > rows[:-1])) else np.unique(rows)


def rows_in_memory(clip_ids: NDArray[np.int64], vectors: NDArray[np.floating]) -> ClipRows:
    """``vectors`` (n, dim), rounded to float16."""
    n, dim = vectors.shape
    words = np.zeros((n, 1 + -(-dim // 4)), np.uint64)
    words[:, 1:].view(np.float16)[:, :dim] = vectors
    ids = np.ascontiguousarray(clip_ids, np.int64)
    words[:, 0] = _checksums(ids, words[:, 1:])
    return ClipRows(ids, words, dim)


def joined(first: ClipRows, second: ClipRows) -> ClipRows:
    return ClipRows(
        np.concatenate([first.clip_ids, second.clip_ids]), np.concatenate([first.words, second.words]), first.dim
    )


def mapped(path: Path, n: int, dim: int) -> ClipRows:
    """The first ``n`` rows of a file; ``path`` without suffix. Raises OSError or ValueError when there are fewer."""
    width = 1 + -(-dim // 4)
    ids = np.fromfile(ids_file(path), np.int64, n)
    if len(ids) < n or rows_file(path).stat().st_size < n * width * WORD_BYTES:
        raise ValueError(f"{rows_file(path)} holds fewer than {n} rows")
    if not n:
        return ClipRows(ids, np.empty((0, width), np.uint64), dim)
    with rows_file(path).open("rb") as file:
        pages = mmap.mmap(file.fileno(), n * width * WORD_BYTES, access=mmap.ACCESS_READ)
    share_bytes = memory_bytes() * RESIDENT_SHARE
    # A file that fits the share never has to be let go of.
    mapping = Mapping(pages, int(share_bytes / FAULT_BYTES)) if len(pages) > share_bytes else None
    return ClipRows(ids, np.frombuffer(pages, np.uint64).reshape(n, width), dim, mapping)


def append(path: Path, n: int, batches: Iterator[ClipRows]) -> int:
    """Writes rows after the first ``n`` of a file (made when ``n`` is 0) and fsyncs. Returns how many there are then.

    What stood after them is of a writer that was killed: no reader has ever mapped it.
    """
    with _opened(rows_file(path)) as rows, _opened(ids_file(path)) as ids:
        ids.truncate(n * WORD_BYTES)
        ids.seek(0, os.SEEK_END)
        cut = False
        for batch in batches:
            if not cut:
                rows.truncate(n * batch.words.shape[1] * WORD_BYTES)
                rows.seek(0, os.SEEK_END)
                cut = True
            rows.write(batch.words.data)
            ids.write(batch.clip_ids.data)
            n += len(batch)
        for file in (rows, ids):
            file.flush()
            os.fsync(file.fileno())
    sync_folder(path.parent)
    return n


def rows_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.rows")


def ids_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.ids")


def _opened(path: Path):  # type: ignore[no-untyped-def]
    return path.open("r+b" if path.exists() else "w+b")


def _checksums(clip_ids: NDArray[np.int64], words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(n,) and (n, width) to (n,): a sum of words times odd numbers modulo 2^64 (Dietzfelbinger et al., "A Reliable
    Randomized Algorithm for the Closest-Pair Problem", 1997: multiply-shift). Any one flipped bit changes it."""
    multipliers = _multipliers(words.shape[1] + 1)
    # einsum and not @: it is twice as fast for integers.
    sums: NDArray[np.uint64] = np.einsum("ij,j->i", words, multipliers[1:])
    return sums + clip_ids.view(np.uint64) * multipliers[0] + multipliers[0]


@lru_cache(maxsize=8)
def _multipliers(n: int) -> NDArray[np.uint64]:
    """Fixed for ever: they are part of the format. SplitMix64 (Steele et al., OOPSLA 2014, figure 17), made odd."""
    seeds = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (seeds ^ (seeds >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) | np.uint64(1)
