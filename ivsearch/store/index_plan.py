"""Which structure an index gets: from how many vectors there are, how wide they are, how much memory it may take.

The figures behind the numbers are in benchmarks/LOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import log2

from ivsearch.store import machine_memory

# What an inverted list keeps for every vector beside its code: the row number; for RaBitQ also two factors and padding.
SQ8_EXTRA_BYTES = 8
RABITQ_EXTRA_BYTES = 20
# Of the machine's memory, what an index takes if nobody says.
MACHINE_SHARE = 0.25


class IndexKind(StrEnum):
    FLAT = "flat"
    IVF_SQ8 = "ivf-sq8"
    IVF_RABITQ = "ivf-rabitq"


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """``n_lists`` inverted lists (0: none, every row is scored), of which a search looks into ``nprobe``. Rows are
    found by their codes and then scored exactly: for k wanted, ``rerank_share`` · k + ``rerank_extra`` of them."""

    kind: IndexKind
    n_lists: int = 0
    nprobe: int = 0
    rerank_share: float = 1.0
    rerank_extra: int = 0

    def depth(self, k: int) -> int:
        """How many rows are scored exactly so that the k best are among them."""
        return int(self.rerank_share * k) + self.rerank_extra


@dataclass(frozen=True, slots=True)
class Upkeep:
    """When an index changes its structure, as numbers of rows and shares of them.

    ``flat_up_to``: so many rows are scored one by one. Rows added later are scored one by one too, until there are
    more than ``tail_share`` of all, at least ``tail_least``, at most ``tail_most``; then they go into the lists.
    ``growth``: lists are trained anew when there are so many times the rows they were trained for. ``dead_share``:
    with more removed rows than this, everything is written anew. ``exact_up_to``: where a filter leaves no more rows
    than this, those are scored and the lists are not looked at. ``points_per_list``: vectors to train a list with.
    """

    flat_up_to: int = 50_000
    tail_share: float = 0.05
    tail_least: int = 10_000
    tail_most: int = 100_000
    growth: float = 4.0
    dead_share: float = 0.2
    exact_up_to: int = 10_000
    points_per_list: int = 64

    def tail_limit(self, n: int) -> int:
        return int(min(max(n * self.tail_share, self.tail_least), self.tail_most))


UPKEEP = Upkeep()


def plan(
    n: int, dim: int, memory_budget_bytes: int, upkeep: Upkeep = UPKEEP, *, kind: IndexKind | None = None
) -> IndexPlan:
    """The structure for ``n`` vectors of ``dim``, whose codes are to fit ``memory_budget_bytes``; ``kind`` overrides.

    Up to ``upkeep.flat_up_to`` exact search; above, inverted lists over 8-bit codes where these fit the budget, else
    over 1-bit codes (Gao & Long, "RaBitQ", SIGMOD 2024), which take the least whether they fit or not.
    """
    if kind is None:
        if n <= upkeep.flat_up_to:
            kind = IndexKind.FLAT
        else:
            fits = memory_bytes(n, dim, IndexKind.IVF_SQ8) <= memory_budget_bytes
            kind = IndexKind.IVF_SQ8 if fits else IndexKind.IVF_RABITQ
    if kind is IndexKind.FLAT:
        return IndexPlan(kind)
    n_lists = lists_for(n)
    nprobe = min(n_lists, round(1.5 * n_lists**0.5))
    if kind is IndexKind.IVF_SQ8:
        return IndexPlan(kind, n_lists, nprobe, 1.5, 10)
    return IndexPlan(kind, n_lists, nprobe, 4.0, 200)


def lists_for(n: int) -> int:
    """The power of two nearest to 1.5 √n: with more, searches are faster and training takes as much longer."""
    return 1 << max(3, round(log2(1.5 * max(n, 1) ** 0.5)))


def memory_bytes(n: int, dim: int, kind: IndexKind) -> int:
    """What the codes and centroids of an index take; the rows themselves stay on disk, but for a flat one's."""
    if kind is IndexKind.FLAT:
        return n * (2 * dim + 16)
    code_bytes = dim + SQ8_EXTRA_BYTES if kind is IndexKind.IVF_SQ8 else dim // 8 + RABITQ_EXTRA_BYTES
    return n * code_bytes + lists_for(n) * dim * 4


def automatic_budget_bytes() -> int:
    """A quarter of the memory of this machine, or of what its container may use."""
    return int(machine_memory.memory_bytes() * MACHINE_SHARE)
