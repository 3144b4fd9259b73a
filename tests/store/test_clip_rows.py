"""Rows of a file larger than its share of the memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ivsearch.store import clip_rows
from ivsearch.store.clip_rows import append, mapped, rows_file, rows_in_memory

MB = 1 << 20
N, DIM = 80_000, 64


def resident_bytes(path: Path) -> int:
    """Of the mapped file, as the kernel counts it for this process."""
    smaps = Path("/proc/self/smaps").read_text()
    found = re.search(rf"{re.escape(str(path))}\n(?:\w+: .*\n)*?Rss: +(\d+) kB", smaps)
    assert found, "the file is not mapped"
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_rows_beyond_their_share_of_the_memory_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    vectors, ids = rng.standard_normal((N, DIM)).astype(np.float16), np.arange(N) * 7
    path = tmp_path / "rows"
    append(path, 0, iter([rows_in_memory(ids, vectors)]))
    size_bytes = rows_file(path).stat().st_size

    monkeypatch.setattr(clip_rows, "memory_bytes", lambda: 16 * MB)
    limited = mapped(path, N, DIM)
    resident = []
    for _ in range(50):  # 32 pieces of 64 KiB are an eighth of that memory
        some = np.sort(rng.choice(N, 8, replace=False))
        taken = limited.take(some)
        assert taken.sound.all() and np.array_equal(taken.halves, vectors[some])
        resident.append(resident_bytes(rows_file(path)))
    assert [each == 0 for each in resident] == ([False] * 4 + [True]) * 10
    # All of them in order, and some again.
    found = np.concatenate([taken.halves for _, taken in limited.batches()])
    assert np.array_equal(found, vectors)
    assert np.array_equal(limited.take(some).halves, vectors[some])
    del limited

    monkeypatch.setattr(clip_rows, "memory_bytes", lambda: 1024 * MB)
    whole = mapped(path, N, DIM)
    for _ in whole.batches():
        pass
    assert resident_bytes(rows_file(path)) >= size_bytes - 65_536
