"""Two writers, a writer that was killed, and readers that search all the time while one writes."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from ivsearch.errors import LibraryBusy

from .conftest import PHOTOS, QUERIES, Counting, Whole, opened, outcomes, shown
from .fault_run import SCALE, Table, trials
from .held import held_by
from .zygote import Zygote

HOLD = """
from ivsearch.store.lock import writer_lock
import time
with writer_lock(folder):
    say("holding")
    time.sleep(3600)
"""
# Adds, removes and adds again, all the time: so many rounds, and more (20 at most) until whoever reads has seen enough.
RESTLESS = """
import shutil
media, spare, enough, rounds = Path(paths[0]), Path(paths[1]), Path(paths[2]), more
for n in range(max(rounds, 20)):
    if n >= rounds and enough.exists():
        break
    for path in sorted(spare.iterdir()):
        shutil.copy(path, media / f"{n}-{path.name}")
        list(library.index([media]))
    library.remove(media / f"{n}-{sorted(spare.iterdir())[0].name}")
    for path in media.glob(f"{n}-*"):
        path.unlink()
    list(library.index([media]))
"""


def test_two_writers(whole: Whole, counting: Counting, zygote: Zygote, table: Table, tmp_path: Path) -> None:
    run = table.run("two writers, the first is killed")
    for number, rng in enumerate(trials(run, 2)):
        folder = whole.copy(tmp_path / f"{number}")
        first = zygote.start(folder, HOLD)
        while "holding" not in zygote.said():
            time.sleep(0.01)
        with opened(counting, folder) as library:
            began = time.monotonic()
            busy = rf"another ivsearch \(process {first}\) is writing to .*; wait until it ends, or stop it"
            with pytest.raises(LibraryBusy, match=busy):
                list(library.index([whole.media]))
            with pytest.raises(LibraryBusy, match=busy):
                library.remove(whole.media)
            with pytest.raises(LibraryBusy, match=busy):
                list(library.repair())
            assert time.monotonic() - began < 300, "nobody waits"
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
            assert list(library.verify()) == []
            run.answered, run.silent = run.answered + 1, run.silent + 1
            time.sleep(rng.uniform(0, 0.1))
            os.kill(first, signal.SIGKILL)
            zygote.wait()
            # No stale lock: the very next one may write.
            assert set(outcomes(library, whole.media).values()) == {"unchanged"}
            assert list(library.verify()) == []
            run.clean += 1
        run.lost_rows += whole.held.missing_in(held_by(folder))
    assert run.lost_rows == 0


def test_readers_while_one_writes(
    whole: Whole, counting: Counting, zygote: Zygote, table: Table, tmp_path: Path
) -> None:
    run = table.run("searches while another process indexes and forgets")
    folder, media, spare = whole.copy(tmp_path / "library"), tmp_path / "media", tmp_path / "spare"
    spare.mkdir()
    shutil.copytree(whole.media, media)
    for name in PHOTOS[1:3]:
        shutil.move(media / name, spare / name)
    with opened(counting, folder) as library:
        outcomes(library, media)
        library.remove(whole.media)
    enough = tmp_path / "enough"
    zygote.start(folder, RESTLESS, media, spare, enough, more=2 * SCALE)
    ended = threading.Event()
    threading.Thread(target=lambda: (zygote.wait(), ended.set())).start()
    seen = set()
    with opened(counting, folder) as library:
        while not ended.is_set():
            query = QUERIES[run.times % len(QUERIES)]
            run.times += 1
            with library.catalog.snapshot():
                hits = library.search(query, k=9)
                known = {row.path for row in library.catalog.paths()}
            assert {hit.path for hit in hits} <= known, "no hit whose file is not there"
            assert {path.name for path in known} - {"table.jpg", "night.jpg"} >= {"film.mp4", "call.mp4"}
            assert len(hits) >= 4
            assert library.searcher().complaints == []
            seen.add(frozenset(hit.path.name for hit in hits))
            if len(seen) > 2:
                enough.touch()
            run.answered += 1
            if run.times % 10 == 1:
                assert list(library.verify()) == []
                run.silent += 1
        assert zygote.said()[-1] == "done"
        assert len(seen) > 2, "the reader saw the library change"
        assert list(library.verify()) == []
        run.clean += 1
        for path in spare.iterdir():
            shutil.move(path, media / path.name)
        outcomes(library, media)
        assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
