"""Saving a VectorIndex as a new generation: for the one writer of a library.

Adding Clips appends their rows and writes a table; removing some writes their row numbers. Inverted lists are written
anew when enough rows are not in them yet, trained anew when there are several times the rows they were trained for or
another kind is due, and everything is written anew when a good share of it was removed. Until ``current.json`` is
replaced readers know nothing of all that, and a writer that is killed leaves what was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.errors import LibraryDamaged
from ivsearch.store.changes import ClipStamp
from ivsearch.store.clip_lists import ClipLists
from ivsearch.store.clip_rows import ClipRows, append, mapped
from ivsearch.store.generation import (
    Generation,
    ListsFile,
    RowsFile,
    publish_lists,
    write_current,
    write_whole,
)
from ivsearch.store.index_plan import UPKEEP, IndexKind, IndexPlan, Upkeep, automatic_budget_bytes, plan
from ivsearch.store.vector_index import VectorIndex

SEED = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """How an index is to be built: ``memory_budget_bytes`` for its codes (0: as asked for before, else a share of the
    machine's memory), when to change its structure, and its ``kind`` where somebody asks for one (None: as asked for
    before, else as planned).
    ``tell`` is called with a line whenever something long begins."""

    memory_budget_bytes: int = 0
    upkeep: Upkeep = UPKEEP
    kind: IndexKind | None = None
    tell: Callable[[str], None] = lambda line: None

    def plan(self, n: int, dim: int) -> IndexPlan:
        return plan(n, dim, self.memory_budget_bytes or automatic_budget_bytes(), self.upkeep, kind=self.kind)


WISHES = Wishes()


def save(
    index: VectorIndex,
    folder: Path,
    stamp: Callable[[], ClipStamp],
    wishes: Wishes = WISHES,
    more: Iterable[ClipRows] = (),
) -> None:
    """Writes what ``index`` knows beyond its generation, and ``more`` rows after it, to ``folder``/``space.key``.

    ``stamp`` is asked where it stands when all rows are written.
    ``index`` was loaded from there, or stands for everything. Raises OSError (disk full) and LibraryDamaged (a row
    that was to be copied does not fit its checksum); what was there stays.
    """
    folder = folder / index.space.key
    folder.mkdir(parents=True, exist_ok=True)
    before = index.generation
    fresh = (part.rows for part in index.parts if not part.on_disk)
    dead = _dead_rows(index)
    if before is None or len(dead) > wishes.upkeep.dead_share * before.rows.n:
        build(folder, index.space.dim, chain(_alive_rows(index), more), stamp, wishes, before)
        return
    n = append(folder / before.rows.name, before.rows.n, chain(fresh, more))
    rows = mapped(folder / before.rows.name, n, index.space.dim)
    lists = _lists(folder, rows, dead, before, wishes)
    _publish(folder, before.number + 1, rows, before.rows.name, dead, lists, stamp())


def build(
    folder: Path,
    dim: int,
    batches: Iterable[ClipRows],
    stamp: Callable[[], ClipStamp],
    wishes: Wishes = WISHES,
    before: Generation | None = None,
) -> None:
    """Writes everything anew in the folder of a Space, lists trained anew, from ``batches`` of rows. No more than one
    batch, a sample and the codes are in memory. ``before``: what is there now and stays until this is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    number = _next_number(folder, before)
    name = f"rows-{number:06d}"
    n = append(folder / name, 0, iter(batches))
    rows = mapped(folder / name, n, dim)
    dead = np.empty(0, np.int64)
    asked = _asked(wishes, before)
    wanted = asked.plan(n, dim)
    lists = None
    if wanted.kind is not IndexKind.FLAT and n:
        lists = _trained_lists(folder, number, rows, dead, wanted, asked)
    _publish(folder, number, rows, name, dead, lists, stamp())


def _asked(wishes: Wishes, before: Generation | None) -> Wishes:
    """What is asked for now, and where nothing is, what was asked for before."""
    if before is None or before.lists is None:
        return wishes
    return replace(
        wishes,
        memory_budget_bytes=wishes.memory_budget_bytes or before.lists.budget_bytes,
        kind=wishes.kind or (before.lists.plan.kind if before.lists.pinned else None),
    )


def _lists(
    folder: Path, rows: ClipRows, dead: NDArray[np.int64], before: Generation, wishes: Wishes
) -> ListsFile | None:
    """The lists as they are, grown or trained anew, whatever is due."""
    n, lists = len(rows), before.lists
    asked = _asked(wishes, before)
    wanted = asked.plan(n - len(dead), rows.dim)
    if wanted.kind is IndexKind.FLAT:
        # Lists that are there serve on; the next time that everything is written anew they go.
        return lists
    number = before.number + 1
    # Codes that shrink for want of memory are due at once; that they might grow is no reason to.
    shrunk = lists is not None and (lists.plan.kind, wanted.kind) == (IndexKind.IVF_SQ8, IndexKind.IVF_RABITQ)
    if lists is None or shrunk or n > wishes.upkeep.growth * lists.trained_for:
        return _trained_lists(folder, number, rows, dead, wanted, asked)
    if n - lists.n > wishes.upkeep.tail_limit(n):
        wishes.tell(f"vector index: putting {n - lists.n:,} new clips into {lists.plan.n_lists:,} lists")
        grown = ClipLists.opened(folder / lists.name, lists.plan, to_grow=True)
        return _filled(folder, number, grown, rows, dead, lists.n, lists.trained_for, asked)
    return lists


def _trained_lists(
    folder: Path,
    number: int,
    rows: ClipRows,
    dead: NDArray[np.int64],
    wanted: IndexPlan,
    asked: Wishes,
) -> ListsFile:
    n = len(rows) - len(dead)
    asked.tell(f"vector index: training {wanted.n_lists:,} lists for {n:,} clips ({wanted.kind.value})")
    sample = _sample(rows, dead, wanted.n_lists * asked.upkeep.points_per_list)
    trained = ClipLists.trained(wanted, sample, SEED)
    del sample
    asked.tell(f"vector index: filling {wanted.n_lists:,} lists")
    return _filled(folder, number, trained, rows, dead, 0, n, asked)


def _filled(
    folder: Path,
    number: int,
    lists: ClipLists,
    rows: ClipRows,
    dead: NDArray[np.int64],
    start: int,
    trained_for: int,
    asked: Wishes,
) -> ListsFile:
    """Adds the rows from ``start`` on that are alive, and writes the lists."""

    def batches() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for first, taken in rows.between(start, len(rows)).batches():
            numbers = np.arange(start + first, start + first + len(taken.halves))
            wanted = taken.sound & ~np.isin(numbers, dead)
            yield numbers[wanted], taken.halves[wanted].astype(np.float32)

    lists.fill(batches)
    path = folder / f"lists-{number:06d}.faiss"
    temporary = path.with_suffix(".tmp")
    lists.write(temporary)
    size_bytes, blocks = publish_lists(temporary, path)
    pinned, budget_bytes = asked.kind is not None, asked.memory_budget_bytes
    return ListsFile(path.name, len(rows), trained_for, pinned, budget_bytes, lists.plan, size_bytes, blocks)


def _sample(rows: ClipRows, dead: NDArray[np.int64], n: int) -> NDArray[np.float32]:
    """At most n vectors (m, dim) float32, drawn with a fixed seed."""
    drawn = np.arange(len(rows))
    if len(drawn) > n:
        drawn = np.sort(np.random.default_rng(SEED).choice(len(rows), n, replace=False))
    taken = rows.take(np.setdiff1d(drawn, dead))
    return taken.halves[taken.sound].astype(np.float32)


def _publish(
    folder: Path,
    number: int,
    rows: ClipRows,
    name: str,
    dead: NDArray[np.int64],
    lists: ListsFile | None,
    stamp: ClipStamp,
) -> None:
    removed = write_whole(folder / f"removed-{number:06d}", dead.astype(np.int64).tobytes()) if len(dead) else None
    write_current(folder, Generation(number, rows.dim, RowsFile(name, len(rows)), removed, lists, stamp))


def _dead_rows(index: VectorIndex) -> NDArray[np.int64]:
    """Row numbers, as a new generation will count them, of the rows that are there but do not count."""
    dead, start = [np.empty(0, np.int64)], 0
    for part in sorted(index.parts, key=lambda part: not part.on_disk):
        if part.alive is not None:
            dead.append(start + np.flatnonzero(~part.alive.mask))
        start += len(part.rows)
    return np.concatenate(dead)


def _alive_rows(index: VectorIndex) -> Iterator[ClipRows]:
    """Everything that counts, in batches. Raises LibraryDamaged for a row that does not fit its checksum."""
    for part in index.parts:
        for start, taken in part.rows.batches():
            stop = start + len(taken.halves)
            kept = np.ones(stop - start, bool) if part.alive is None else part.alive.mask[start:stop]
            if not taken.sound[kept].all():
                raise LibraryDamaged("the vector index has damaged rows; run `ivsearch repair`")
            batch = part.rows.between(start, stop)
            yield ClipRows(batch.clip_ids[kept], batch.words[kept], batch.dim)


def _next_number(folder: Path, before: Generation | None) -> int:
    """One that no file here has: readers may still have those of a generation whose table was lost."""
    there = [int(path.name.split("-")[1][:6]) for path in folder.glob("rows-*") if path.name[5:11].isdigit()]
    return max([before.number if before else 0, *there]) + 1
