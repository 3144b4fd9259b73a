"""``kill -9`` at random moments of a compaction, and searches while one runs: nothing that is needed goes."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ivsearch.store import vector_store

from .conftest import PHOTOS, QUERIES, Counting, Whole, opened, outcomes, shown
from .fault_run import SCALE, Table
from .held import held_by
from .test_kill import check, killed_after, pytestmark, whole_s
from .zygote import Zygote

__all__ = ["pytestmark"]

COMPACT = "from ivsearch.store import compaction; compaction.SEGMENT_BYTES = more or 4000; say(str(library.compact()))"
KILLS = 10


@pytest.fixture(scope="module")
def worn(whole: Whole, counting: Counting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole library in several segments, half of their bytes dead: files were forgotten and read anew."""
    folder = whole.copy(tmp_path_factory.mktemp("worn") / "library")
    with pytest.MonkeyPatch.context() as patch, opened(counting, folder) as library:
        patch.setattr(vector_store, "SEGMENT_BYTES", 1)
        for name in (*PHOTOS[:2], "film.mp4"):
            library.remove(whole.media / name)
            outcomes(library, whole.media)
        assert library.stats().wants_compaction
    assert len(list((folder / "vectors").rglob("*.seg"))) > 2
    return folder


def dead_bytes(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        (live,) = connection.execute("select sum(size_bytes) from encoding").fetchone()
    return sum(path.stat().st_size for path in (folder / "vectors").rglob("*.seg")) - live


def test_compacting(worn: Path, zygote: Zygote, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("kill -9 of a compaction")
    run_s = whole_s(zygote, Path(shutil.copytree(worn, tmp_path / "whole")), COMPACT)
    rng = random.Random(9)
    for number in range(KILLS * SCALE):
        run.times += 1
        folder = Path(shutil.copytree(worn, tmp_path / f"{number}"))
        killed_after(zygote, rng.uniform(0.2, 1) * run_s, folder, COMPACT)
        check(run, counting, folder)
        run.lost_rows += whole.held.missing_in(held_by(folder))
        zygote.run(folder, COMPACT)
        assert dead_bytes(folder) == 0
        with opened(counting, folder) as library:
            assert list(library.verify()) == []
            run.clean += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
        run.lost_rows += whole.held.missing_in(held_by(folder))
        shutil.rmtree(folder)
    assert run.lost_rows == 0


def test_searching_while_another_process_compacts(
    worn: Path, zygote: Zygote, whole: Whole, counting: Counting, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(worn, tmp_path / "library"))
    with opened(counting, folder) as library, library.catalog.snapshot():
        before = library.catalog.encodings(counting.space)  # the state that this reader goes on seeing
        zygote.start(folder, COMPACT)
        ended = threading.Event()
        threading.Thread(target=lambda: (zygote.wait(), ended.set())).start()
        rounds = 0
        while not ended.is_set() or rounds < 2:
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
            assert library.searcher().complaints == []
            rounds += 1
        assert zygote.said()[-1] == "done" and dead_bytes(folder) == 0
        assert {each.record.segment for each in before.values()} - set(library.searcher().vectors.segments())
    with opened(counting, folder) as library:
        assert list(library.verify()) == []
