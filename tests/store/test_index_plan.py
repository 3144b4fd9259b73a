from __future__ import annotations

import pytest

from ivsearch.store.index_plan import IndexKind, automatic_budget_bytes, lists_for, memory_bytes, plan

GB = 10**9


@pytest.mark.parametrize(
    ("n", "dim", "budget_bytes", "kind"),
    [
        (0, 768, GB, IndexKind.FLAT),
        (50_000, 768, GB, IndexKind.FLAT),
        (50_001, 768, GB, IndexKind.IVF_SQ8),
        (1_000_000, 768, 4 * GB, IndexKind.IVF_SQ8),
        (1_000_000, 768, GB // 2, IndexKind.IVF_RABITQ),
        (10_000_000, 384, 6 * GB, IndexKind.IVF_SQ8),
        (10_000_000, 384, 2 * GB, IndexKind.IVF_RABITQ),
        (100_000_000, 768, 1, IndexKind.IVF_RABITQ),
    ],
)
def test_the_kind_follows_size_and_memory(n: int, dim: int, budget_bytes: int, kind: IndexKind) -> None:
    planned = plan(n, dim, budget_bytes)
    assert planned.kind is kind
    assert kind is IndexKind.FLAT or memory_bytes(n, dim, kind) <= budget_bytes or kind is IndexKind.IVF_RABITQ
    assert 0 <= planned.nprobe <= planned.n_lists
    assert planned.depth(10) >= 10 and planned.depth(400) >= 400


def test_a_kind_that_is_asked_for_is_given() -> None:
    for kind in IndexKind:
        assert plan(100, 64, GB, kind=kind).kind is kind


def test_there_are_neither_too_few_nor_too_many_lists() -> None:
    for n in (1, 1000, 60_000, 10**6, 10**7, 10**8):
        assert lists_for(n).bit_count() == 1
        assert max(8, n**0.5) <= lists_for(n) <= max(8, 2.2 * n**0.5)


def test_the_automatic_budget_is_a_share_of_what_there_is() -> None:
    with open("/proc/meminfo") as file:  # noqa: PTH123
        total = int(next(line for line in file if line.startswith("MemTotal")).split()[1]) * 1024
    assert 0 < automatic_budget_bytes() <= 0.26 * total
