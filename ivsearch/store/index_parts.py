"""The parts of a VectorIndex: some rows and what searches them, and which of them still count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ivsearch.store.clip_lists import ClipLists, FlatRows
from ivsearch.store.clip_rows import ClipRows


@dataclass(frozen=True, eq=False)
class Allowed:
    """Which of n rows may be found: ``mask`` (n,) bool, true for ``count`` of them."""

    mask: NDArray[np.bool_]
    count: int

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Their numbers, (count,) int64, ascending."""
        return np.flatnonzero(self.mask)

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """A bit a row, as FAISS takes them: (ceil(n / 8),) uint8."""
        return np.packbits(self.mask, bitorder="little")


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the rows and what searches them; never changed. ``alive``: None while none was removed. ``on_disk``:
    whether a generation holds these rows already."""

    rows: ClipRows
    searched: ClipLists | FlatRows
    alive: Allowed | None = None
    on_disk: bool = False

    @property
    def count(self) -> int:
        return len(self.rows) if self.alive is None else self.alive.count

    def among(self, clip_ids: NDArray[np.int64] | None) -> Allowed | None:
        """What may be found of these Clips; None when everything."""
        if clip_ids is None:
            return self.alive
        rows = self.rows.rows_of(clip_ids)
        if self.alive is not None:
            rows = rows[self.alive.mask[rows]]
        mask = np.zeros(len(self.rows), bool)
        mask[rows] = True
        return Allowed(mask, len(rows))

    def without(self, clip_ids: NDArray[np.int64]) -> Part:
        return self.without_rows(self.rows.rows_of(clip_ids))

    def without_rows(self, rows: NDArray[np.int64]) -> Part:
        if not len(rows):
            return self
        mask = np.ones(len(self.rows), bool) if self.alive is None else self.alive.mask.copy()
        mask[rows] = False
        return replace(self, alive=Allowed(mask, int(mask.sum())))

    def alive_rows(self) -> NDArray[np.int64]:
        return np.arange(len(self.rows)) if self.alive is None else self.alive.rows
