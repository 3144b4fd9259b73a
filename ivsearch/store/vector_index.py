"""The VectorIndex: finds the Clips of a Space that are most similar to a vector.

It is derived: whatever happens to its files, it is built again from the VectorStore and the Catalog. Scores are exact
cosines of the Clips' float16 vectors, which lie on disk in row order (``clip_rows``). In a large library most rows are
also in inverted lists of short codes (``clip_lists``), by which a search chooses the rows that it scores; the others,
and those added since, are scored one by one. ``index_plan`` says when a library is large. What is on disk never changes
under a reader (``generation``); what a reader or writer learns later is in memory until ``index_writer`` saves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Space
from ivsearch.errors import SpaceMismatch
from ivsearch.store.changes import ClipStamp
from ivsearch.store.clip_lists import ClipLists, FlatRows
from ivsearch.store.clip_rows import ClipRows, joined, mapped, rows_in_memory
from ivsearch.store.files import set_aside
from ivsearch.store.generation import (
    COPY,
    CURRENT,
    Generation,
    check_lists_head,
    read_current,
    removed_rows,
)
from ivsearch.store.index_parts import Allowed, Part
from ivsearch.store.index_plan import UPKEEP, IndexKind, Upkeep

# Rows that are scored exactly without lists are read so many at a time, some tens of megabytes.
BATCH_ROWS = 16_384
# Small additions are merged in memory until there are so many.
MERGED_ROWS = 8192
# A writer may replace the generation between our reading its name and opening it; not many times in a row.
ATTEMPTS = 5
# No state of any catalog: whoever stands there is compared with the catalog Clip by Clip.
UNKNOWN_VERSION = -1
# Where a filter allows less than this share of the rows, or more than so many are wanted, more lists are looked into:
# by these powers of how much less or more. benchmarks/LOG.md has the recall.
FEW_SHARE, FEW_POWER = 0.3, 0.6
MANY_K, MANY_POWER = 10, 0.1
# Where a filter allows less than this share, so many rows must have been met, or lists further off are looked into.
MOST_SHARE, MET_ROWS = 0.9, 1000


class _Unreadable(Exception):
    """A file of the current generation is not there, or not as it was written."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Clips found for one query vector, best first: ``clip_ids`` (k,) int64, ``scores`` (k,) float32 cosines."""

    clip_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


class VectorIndex:
    """Search by inner product of unit vectors, with Clip ids as labels. Reading is thread-safe, also while another
    thread adds and removes. ``complaints``: what was found damaged while searching."""

    def __init__(self, space: Space, upkeep: Upkeep = UPKEEP) -> None:
        self.space = space
        self.upkeep = upkeep
        self.generation: Generation | None = None
        self.complaints: list[str] = []
        self._parts: tuple[Part, ...] = ()
        self._lock = Lock()

    def __len__(self) -> int:
        return sum(part.count for part in self._parts)

    @property
    def kind(self) -> IndexKind:
        """How most of it is searched."""
        lists = [part.searched.plan.kind for part in self._parts if isinstance(part.searched, ClipLists)]
        return lists[0] if lists else IndexKind.FLAT

    @property
    def parts(self) -> tuple[Part, ...]:
        """For the writer: rows on disk first, in their order there."""
        return self._parts

    def clip_ids(self) -> NDArray[np.int64]:
        """(n,) int64, in no particular order."""
        return np.concatenate([np.empty(0, np.int64), *(p.rows.clip_ids[p.alive_rows()] for p in self._parts)])

    def has(self, clip_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) bool: which of these Clips are in it."""
        known = [part.rows.clip_ids[allowed.rows] for part in self._parts if (allowed := part.among(clip_ids))]
        return np.isin(clip_ids, np.concatenate([np.empty(0, np.int64), *known]))

    # ---- changes, in memory ----

    def add(self, clip_ids: NDArray[np.int64], vectors: NDArray[np.floating]) -> None:
        """``vectors`` (n, dim) unit rows, kept as float16. A Clip that is there already is replaced. Raises
        SpaceMismatch when the width is another."""
        self._check(vectors)
        if len(vectors):
            self.add_rows(rows_in_memory(np.asarray(clip_ids, np.int64), vectors))

    def add_rows(self, rows: ClipRows) -> None:
        with self._lock:
            parts = [part.without(rows.clip_ids) for part in self._parts]
            last = parts[-1] if parts else None
            if last and not last.on_disk and last.alive is None and len(last.rows) < MERGED_ROWS:
                rows = joined(parts.pop().rows, rows)
            parts.append(Part(rows, FlatRows(rows.halves())))
            self._parts = tuple(parts)

    def clear(self) -> None:
        with self._lock:
            self._parts, self.generation = (), None

    def remove(self, clip_ids: NDArray[np.int64]) -> None:
        if len(clip_ids):
            with self._lock:
                self._parts = tuple(part.without(np.asarray(clip_ids, np.int64)) for part in self._parts)

    # ---- search ----

    def search(
        self, vector: NDArray[np.float32], k: int, among: Sequence[int] | NDArray[np.int64] | None = None
    ) -> Found:
        """The k Clips most similar to ``vector`` (dim,), optionally only among these ids. Fewer if there are fewer."""
        return self.search_many(vector[None], k, among)[0]

    def search_many(
        self, vectors: NDArray[np.float32], k: int, among: Sequence[int] | NDArray[np.int64] | None = None
    ) -> list[Found]:
        """As ``search``, for each of ``vectors`` (m, dim)."""
        self._check(vectors)
        vectors = np.ascontiguousarray(vectors, np.float32)
        clip_ids = None if among is None else np.asarray(among, np.int64)
        found = [self._in_part(part, vectors, k, part.among(clip_ids)) for part in self._parts]
        if len(found) == 1:
            return found[0]
        return [_merged([each[i] for each in found], k) for i in range(len(vectors))]

    def _in_part(self, part: Part, vectors: NDArray[np.float32], k: int, allowed: Allowed | None) -> list[Found]:
        n = len(part.rows) if allowed is None else allowed.count
        k = min(k, n)
        if k < 1:
            return [Found(np.empty(0, np.int64), np.empty(0, np.float32))] * len(vectors)
        if isinstance(part.searched, FlatRows):
            scores, rows = part.searched.search(vectors, k, _bits(allowed))
            # FAISS finds no row whose score is not a number, and says -1.
            there = rows >= 0
            return [Found(part.rows.clip_ids[rows[i][there[i]]], scores[i][there[i]]) for i in range(len(vectors))]
        if n <= max(self.upkeep.exact_up_to, part.searched.plan.depth(k)):
            chosen = np.arange(n) if allowed is None else allowed.rows
            return [self._scored(part, vector, chosen, np.empty(0, np.float32), k) for vector in vectors]
        rough, rows = _candidates(part.searched, vectors, k, n, part.count, allowed)
        candidates = [_distinct(rows[i], rough[i], len(part.rows)) for i in range(len(vectors))]
        return [self._scored(part, vectors[i], *candidates[i], k) for i in range(len(vectors))]

    def _scored(
        self, part: Part, vector: NDArray[np.float32], rows: NDArray[np.int64], rough: NDArray[np.float32], k: int
    ) -> Found:
        """The k best of ``rows`` (m,), ascending, by their own vectors. A damaged row has to do with its ``rough``
        score (m,); where there is none (0,), it is left out."""
        best = []
        for start in range(0, len(rows), BATCH_ROWS):
            some = rows[start : start + BATCH_ROWS]
            taken = part.rows.take(some)
            halves = taken.halves
            if not taken.sound.all():
                self._complain()
                best.append(_best(part.rows.clip_ids[some], rough[start:][: len(some)], ~taken.sound))
                some, halves = some[taken.sound], halves[taken.sound]
            if len(some):
                scores, order = FlatRows(halves).search(vector[None], min(k, len(some)))
                best.append(Found(part.rows.clip_ids[some[order[0]]], scores[0]))
        return best[0] if len(best) == 1 else _merged(best, k)

    def _complain(self) -> None:
        complaint = f"the index of {self.space.key} has damaged rows; run `ivsearch repair`"
        if complaint not in self.complaints:
            self.complaints.append(complaint)

    def sample(self, n: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most n Clips evenly drawn, the same for the same ``seed`` and index: their ids (m,) int64, in the order
        of the rows, and their vectors (m, dim) float32 unit rows. All of them when there are not more than n."""
        parts = self._parts
        total = sum(part.count for part in parts)
        n = min(n, total)
        # One out of each of n equal stretches.
        places = ((np.arange(n) + np.random.default_rng(seed).random(n)) * total / max(n, 1)).astype(np.int64)
        ids, vectors = [np.empty(0, np.int64)], [np.empty((0, self.space.dim), np.float32)]
        start = 0
        for part in parts:
            here = places[(places >= start) & (places < start + part.count)] - start
            rows = here if part.alive is None else part.alive.rows[here]
            taken = part.rows.take(rows)
            ids.append(part.rows.clip_ids[rows[taken.sound]])
            vectors.append(taken.halves[taken.sound].astype(np.float32))
            start += part.count
        return np.concatenate(ids), np.concatenate(vectors)

    def _check(self, vectors: NDArray[np.floating]) -> None:
        if vectors.shape[1] != self.space.dim:
            raise SpaceMismatch(
                f"vectors of {vectors.shape[1]} dimensions do not belong in the space {self.space.key} "
                f"of {self.space.dim}"
            )

    # ---- from disk ----

    def is_outdated(self, folder: Path) -> bool:
        """Whether a writer has saved another generation in ``folder`` since this one was opened."""
        try:
            return read_current(folder / self.space.key) != self.generation
        except ValueError:
            return False

    @classmethod
    def load(cls, folder: Path, space: Space, *, upkeep: Upkeep = UPKEEP) -> tuple[VectorIndex, ClipStamp | None]:
        """The current generation and its stamp; an empty index and None when there is none that can be used.

        Little is read: ids, the rows that are scored one by one, and the digests of the lists' centroids. Those rows
        that are damaged are left out, and the stamp is then one that no catalog knows: ``refresh`` finds what is
        missing. Other damage shows when it is read (``complaints``) or in ``check_generation``.
        """
        try:
            opened = cls._current(folder / space.key, space, upkeep)
        except (_Unreadable, ValueError):
            opened = None
        return opened or (cls(space, upkeep), None)

    @classmethod
    def load_to_write(
        cls, folder: Path, space: Space, *, upkeep: Upkeep = UPKEEP
    ) -> tuple[VectorIndex, ClipStamp | None]:
        """As ``load``, for the one writer: files that are damaged are set aside."""
        folder = folder / space.key
        try:
            opened = cls._current(folder, space, upkeep)
        except _Unreadable:
            opened = None
            _set_aside_damaged(folder)
        except ValueError:
            opened = None
            _set_aside_all(folder)
        return opened or (cls(space, upkeep), None)

    @classmethod
    def _current(cls, folder: Path, space: Space, upkeep: Upkeep) -> tuple[VectorIndex, ClipStamp] | None:
        """None when there is none of this width. Raises ValueError when the table that names its files cannot be read,
        _Unreadable when one of them cannot."""
        for _ in range(ATTEMPTS):
            generation = read_current(folder)
            if generation is None or generation.dim != space.dim:
                return None
            try:
                return cls._opened(folder, space, generation, upkeep)
            except (ValueError, RuntimeError, OSError):
                # Perhaps a writer has just replaced it; then there is another by now.
                if _still(folder, generation):
                    break
        raise _Unreadable

    @classmethod
    def _opened(
        cls, folder: Path, space: Space, generation: Generation, upkeep: Upkeep
    ) -> tuple[VectorIndex, ClipStamp]:
        """Raises OSError, ValueError or RuntimeError when a file is not there or not as it was written."""
        index = cls(space, upkeep)
        rows = mapped(folder / generation.rows.name, generation.rows.n, space.dim)
        dead = removed_rows(folder, generation)
        listed = 0
        parts = []
        if generation.lists:
            check_lists_head(folder, generation.lists, space.dim)
            listed = generation.lists.n
            lists = ClipLists.opened(folder / generation.lists.name, generation.lists.plan, to_grow=False)
            part = Part(rows.between(0, listed), lists, on_disk=True)
            parts.append(part.without_rows(dead[dead < listed]))
        stamp = generation.stamp
        if listed < len(rows):
            rest = rows.between(listed, len(rows))
            taken = rest.take(np.arange(len(rest)))
            part = Part(rest, FlatRows(taken.halves), on_disk=True)
            gone = dead[dead >= listed] - listed
            damaged = np.setdiff1d(np.flatnonzero(~taken.sound), gone)
            if len(damaged):
                stamp = replace(stamp, version=UNKNOWN_VERSION)
            parts.append(part.without_rows(np.union1d(gone, damaged)))
        index._parts, index.generation = tuple(parts), generation
        return index, stamp


def _candidates(
    lists: ClipLists, vectors: NDArray[np.float32], k: int, n: int, alive: int, allowed: Allowed | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Of n rows that may be found, ``alive`` when there is no filter, those worth scoring, and their rough scores:
    (m, depth) each, rows of -1 where there are too few."""
    plan = lists.plan
    depth = min(plan.depth(k), n)
    few = max(1.0, (FEW_SHARE * len(lists) / n) ** FEW_POWER)
    many = max(1.0, (k / MANY_K) ** MANY_POWER)
    nprobe = min(round(plan.nprobe * few * many), plan.n_lists)
    # What a filter allows may lie elsewhere than the query: a search must have met as large a share of that as it would
    # of everything. Clips that were removed are no filter.
    least = depth if n >= MOST_SHARE * alive else min(n, max(depth, min(MET_ROWS, n * nprobe // plan.n_lists)))
    while True:
        rough, rows = lists.search(vectors, least, nprobe, _bits(allowed))
        if nprobe == plan.n_lists or bool((rows[:, -1] >= 0).all()):
            return rough[:, :depth], rows[:, :depth]
        nprobe = min(4 * nprobe, plan.n_lists)


def _bits(allowed: Allowed | None) -> NDArray[np.uint8] | None:
    return None if allowed is None else allowed.bits


def _distinct(
    rows: NDArray[np.int64], rough: NDArray[np.float32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """In the order of the file. Lists that are damaged may name rows twice, or some that there are not."""
    order = np.argsort(rows)
    rows = rows[order]
    there = (rows >= 0) & (rows < n)
    there[1:] &= rows[1:] != rows[:-1]
    return rows[there], rough[order[there]]


def _best(clip_ids: NDArray[np.int64], rough: NDArray[np.float32], chosen: NDArray[np.bool_]) -> Found:
    """The chosen ones with their rough scores; none when there are no scores."""
    known = len(rough) > 0
    return Found(clip_ids[chosen] if known else clip_ids[:0], rough[chosen] if known else rough)


def _merged(found: Sequence[Found], k: int) -> Found:
    ids = np.concatenate([np.empty(0, np.int64), *(each.clip_ids for each in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(each.scores for each in found)])
    best = np.argsort(-scores, kind="stable")[:k]
    return Found(ids[best], scores[best])


def _still(folder: Path, generation: Generation) -> bool:
    try:
        return read_current(folder) == generation
    except ValueError:
        return True


def _set_aside_damaged(folder: Path) -> None:
    """Every file of the generation that is there and may be at fault, and the tables that name them."""
    generation = read_current(folder)
    assert generation is not None
    for name in [*generation.files(), COPY, CURRENT]:
        if (folder / name).exists():
            set_aside(folder / name)


def _set_aside_all(folder: Path) -> None:
    """A table that cannot be read does not say which files are worth nothing: none may go with the next generation."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".tmp" and ".damaged" not in path.name:
            set_aside(path)
