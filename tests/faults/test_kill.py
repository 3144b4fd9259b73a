"""``kill -9`` at random moments of indexing, forgetting and mending: it goes on, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import QUERIES, Counting, Whole, opened, shown
from .fault_run import SCALE, FaultRun, Table
from .held import Held, held_by
from .zygote import INDEX, REPAIR, RM, Zygote

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")

KILLS = 30
IN_BENCH = 200


def killed_after(zygote: Zygote, delay_s: float, folder: Path, code: str, *paths: Path) -> tuple[list[str], list[int]]:
    """What it had said, and the processes it had started."""
    deadline = time.monotonic() + delay_s
    pid = zygote.start(folder, code, *paths)
    children: list[int] = []
    while time.monotonic() < deadline:
        children = children_of(pid) or children
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    zygote.wait()
    return zygote.said(), children


def whole_s(zygote: Zygote, folder: Path, code: str, *paths: Path) -> float:
    """How long one takes that nobody kills."""
    began = time.monotonic()
    zygote.run(folder, code, *paths)
    return time.monotonic() - began


def children_of(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    with contextlib.suppress(OSError):
        return [int(pid) for pid in children.read_text().split()]
    return []


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def check(run: FaultRun, counting: Counting, folder: Path) -> None:
    """Whatever state a kill left: verify finds nothing, and a search answers without a complaint."""
    sound(counting, folder)
    run.silent += 1
    with opened(counting, folder) as library:
        library.search("a cat")
        assert library.searcher().complaints == []
        run.answered += 1


def sound(counting: Counting, folder: Path) -> None:
    with opened(counting, folder) as library:
        assert list(library.verify()) == []


def first_said_s(zygote: Zygote, folder: Path, code: str, *paths: Path) -> float:
    """How long one takes until it says something."""
    began = time.monotonic()
    zygote.start(folder, code, *paths)
    while not zygote.said():
        time.sleep(0.002)
    said_s = time.monotonic() - began
    assert zygote.wait() == 0
    return said_s


def drawn_in(folder: Path) -> set[str]:
    """Media that have thumbnails."""
    return {path.name for path in (folder / "thumbs").glob("??/*")}


def media_in(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        return {media_id for (media_id,) in connection.execute("select media_id from media")}


def paths_in(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        return {Path(path).name for (path,) in connection.execute("select path from path")}


def finish(run: FaultRun, counting: Counting, whole: Whole, folder: Path, expected: Held) -> None:
    """The library is as one that met no fault."""
    sound(counting, folder)
    with opened(counting, folder) as library:
        assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
    run.lost_rows += expected.missing_in(held_by(folder))


def test_indexing(zygote: Zygote, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("kill -9 of indexing")
    kills = IN_BENCH if SCALE > 1 else KILLS
    # A third of a whole run at most: several kills fall into the making of one library. Whatever the machine does to
    # that time, it is found again: a run that was through is no kill, and the next are sooner; before it begins, later.
    most_s = whole_s(zygote, tmp_path / "whole", INDEX, whole.media) / 3
    rng = random.Random(20261122)
    under_way, number = 0, 0
    began = time.monotonic()
    while run.times < kills:
        number += 1
        folder = tmp_path / f"{number}"
        started: list[int] = []
        kills_before = run.times
        while run.times < kills:
            said, children = killed_after(zygote, rng.uniform(0, most_s), folder, INDEX, whole.media)
            started += children
            if said and said[-1] == "done":
                most_s *= 0.8
                break
            run.times += 1
            under_way += bool(said)
            most_s *= 1.0 if said else 1.1
            if folder.exists():
                check(run, counting, folder)
                # What was reported as done is in the library, whatever came after.
                assert set(said) <= paths_in(folder)
            else:
                run.silent += 1  # killed before there was anything to be broken, or to be searched
        zygote.run(folder, INDEX, whole.media)
        deadline = time.monotonic() + 300
        while not all(is_gone(pid) for pid in started):
            assert time.monotonic() < deadline, "decoding processes outlive the one that started them"
            time.sleep(0.05)
        finish(run, counting, whole, folder, whole.held)
        run.clean += run.times - kills_before  # what they all left is in this one library
        shutil.rmtree(folder)
    assert run.lost_rows == 0
    assert under_way >= 0.1 * run.times, "kills must hit runs that have got on, too"
    print(f"{run.times} kills, {under_way} after the first file, {number} libraries, {time.monotonic() - began:.0f} s")


def test_beginning(zygote: Zygote, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    """Every time from an empty folder: between manifest, catalog, first segment and first row."""
    run = table.run("kill -9 of the first moments of a library")
    most_s = first_said_s(zygote, tmp_path / "whole", INDEX, whole.media)
    rng = random.Random(6)
    for number in range(3 * SCALE):
        run.times += 1
        folder = tmp_path / f"{number}"
        said, _ = killed_after(zygote, rng.uniform(0, most_s), folder, INDEX, whole.media)
        if folder.exists():
            check(run, counting, folder)
            assert set(said) - {"done"} <= paths_in(folder)
        else:
            run.silent += 1
        zygote.run(folder, INDEX, whole.media)
        finish(run, counting, whole, folder, whole.held)
        run.clean += 1
        shutil.rmtree(folder)
    assert run.lost_rows == 0


def test_forgetting(zygote: Zygote, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("kill -9 of rm")
    gone = [whole.media / "pet.jpg", whole.media / "film.mp4"]
    run_s = whole_s(zygote, whole.copy(tmp_path / "whole"), RM, *gone)
    rng = random.Random(7)
    for number in range(2 * SCALE):
        run.times += 1
        folder = whole.copy(tmp_path / f"{number}")
        killed_after(zygote, rng.uniform(0, run_s), folder, RM, *gone)
        check(run, counting, folder)
        # All or nothing.
        assert len({path.name for path in gone} & paths_in(folder)) in (0, 2)
        whole_s(zygote, folder, RM, *gone)
        assert not {path.name for path in gone} & paths_in(folder)
        assert drawn_in(folder) == media_in(folder), "no thumbnail without its media"
        sound(counting, folder)
        run.clean += 1
        whole_s(zygote, folder, INDEX, whole.media)
        finish(run, counting, whole, folder, whole.held)
        shutil.rmtree(folder)
    assert run.lost_rows == 0


def test_mending(zygote: Zygote, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("kill -9 of repair")
    broken = whole.copy(tmp_path / "broken")
    (broken / "catalog.db").write_bytes(b"rubbish" * 2000)
    (broken / "manifest.json").write_bytes(b"{")
    for path in (broken / "index").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    run_s = whole_s(zygote, Path(shutil.copytree(broken, tmp_path / "whole")), REPAIR)
    rng = random.Random(8)
    for number in range(2 * SCALE):
        run.times += 1
        folder = Path(shutil.copytree(broken, tmp_path / f"{number}"))
        killed_after(zygote, rng.uniform(0, run_s), folder, REPAIR)
        whole_s(zygote, folder, REPAIR)
        run.repaired += 1
        with opened(counting, folder) as library:
            problems = list(library.verify())
            assert all("`ivsearch index` fills it again" in problem for problem in problems)
            run.found += bool(problems)
            library.search("a cat")
            assert "`ivsearch index` fills it again" in library.searcher().complaints[0]
            run.told += 1
        assert (folder / "catalog.db.damaged").read_bytes().startswith(b"rubbish")
        whole_s(zygote, folder, INDEX, whole.media)
        finish(run, counting, whole, folder, whole.held)
        run.clean += 1
        shutil.rmtree(folder)
    assert run.lost_rows == 0
