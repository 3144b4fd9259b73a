"""Inverted lists, compared with those that FAISS fills by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from ivsearch.store.clip_lists import ClipLists
from ivsearch.store.index_plan import IndexKind, IndexPlan

DIM = 32


def vectors_of(n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, DIM), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", [IndexKind.IVF_SQ8, IndexKind.IVF_RABITQ])
def test_lists_hold_what_faiss_puts_into_them(kind: IndexKind, tmp_path: Path) -> None:
    plan = IndexPlan(kind, 16, 4)
    vectors, numbers = vectors_of(3000, 1), np.random.default_rng(2).permutation(3000)
    ours = ClipLists.trained(plan, vectors)
    vectors[1234] = np.nan  # FAISS leaves it out
    ours.write(tmp_path / "empty")
    theirs = faiss.read_index(str(tmp_path / "empty"))

    def batches(start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(start, stop, 700):
            end = min(at + 700, stop)
            yield numbers[at:end], vectors[at:end]

    # Filled, one batch of it empty, and filled further after it was written.
    ours.fill(lambda: [*batches(0, 2000), (numbers[:0], vectors[:0])])
    ours.write(tmp_path / "ours")
    ours = ClipLists.opened(tmp_path / "ours", plan, to_grow=True)
    ours.fill(lambda: batches(2000, 3000))
    ours.write(tmp_path / "ours")
    theirs.add_with_ids(vectors, numbers)
    assert len(ours) == theirs.ntotal == 3000
    faiss.write_index(theirs, str(tmp_path / "theirs"))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_nothing_to_fill_in(tmp_path: Path) -> None:
    ours = ClipLists.trained(IndexPlan(IndexKind.IVF_SQ8, 16, 4), vectors_of(300, 3))
    ours.fill(lambda: [])
    assert len(ours) == 0
