"""``kill -9`` at random moments of indexing, forgetting and mending: it goes on, and nothing is lost.

A process of its own loads the encoder once and forks for every act, so that kills hit the work and not the loading.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import QUERIES, Counting, Whole, opened, shown
from .fault_run import SCALE, FaultRun, Table
from .held import Held, held_by

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")

KILLS = 30
IN_BENCH = 200

# Commits come after every file: as many different states as there can be.
ZYGOTE = """
import json, os, sys
import torch
from ivsearch import ingest
from ivsearch.encode import load_encoder
from ivsearch.library import open_library
from ivsearch.settings import Settings
torch.set_num_threads(1)  # no thread exists before the fork
ingest.COMMIT_MEDIA = 1
encoder = load_encoder("mini")
for line in sys.stdin:
    folder, act, paths, said = json.loads(line)
    pid = os.fork()
    if pid == 0:
        with open(said, "w", buffering=1) as out:
            library = open_library(folder, settings=Settings(batch=4, workers=1))
            library.__dict__["encoder"] = encoder
            if act == "index":
                for event in library.index(paths):
                    print(event.path.name, file=out)
            elif act == "rm":
                for event in library.remove(paths):
                    print(event.path.name, file=out)
            else:
                for action in library.repair():
                    pass
            print("done", file=out)
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


class Acts:
    """Acts on libraries, one at a time, each in a process of its own that can be killed."""

    def __init__(self, said: Path) -> None:
        self.said = said
        self.zygote = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, folder: Path, act: str, *paths: Path) -> int:
        """The process id of a new one."""
        self.said.unlink(missing_ok=True)
        assert self.zygote.stdin is not None
        self.zygote.stdin.write(json.dumps([str(folder), act, [str(path) for path in paths], str(self.said)]) + "\n")
        return int(self._read())

    def wait(self) -> list[str]:
        """Until it has ended: the names of the files it reported, and ``done`` if it came to its end."""
        assert self._read() == "ended"
        return self.said.read_text().splitlines() if self.said.exists() else []

    def _read(self) -> str:
        assert self.zygote.stdout is not None
        return self.zygote.stdout.readline().strip()

    def whole_s(self, folder: Path, act: str, *paths: Path) -> float:
        """How long one takes that nobody kills."""
        began = time.monotonic()
        self.start(folder, act, *paths)
        assert self.wait()[-1] == "done"
        return time.monotonic() - began

    def killed_after(self, delay_s: float, folder: Path, act: str, *paths: Path) -> tuple[list[str], list[int]]:
        """What it had reported, and the processes it had started."""
        deadline = time.monotonic() + delay_s
        pid = self.start(folder, act, *paths)
        children: list[int] = []
        while time.monotonic() < deadline:
            children = children_of(pid) or children
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.wait(), children


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acts]:
    acts = Acts(tmp_path_factory.mktemp("acts") / "said.txt")
    yield acts
    acts.zygote.kill()
    acts.zygote.wait()


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
    with opened(counting, folder) as library:
        assert list(library.verify()) == []
        run.silent += 1
        library.search("a cat")
        assert library.searcher().complaints == []
        run.answered += 1


def paths_in(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        return {Path(path).name for (path,) in connection.execute("select path from path")}


def finish(run: FaultRun, counting: Counting, whole: Whole, folder: Path, expected: Held) -> None:
    """The library is as one that met no fault."""
    with opened(counting, folder) as library:
        assert list(library.verify()) == []
        assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
    run.lost_rows += expected.missing_in(held_by(folder))


def test_indexing(acts: Acts, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("kill -9 of indexing")
    kills = IN_BENCH if SCALE > 1 else KILLS
    run_s = acts.whole_s(tmp_path / "whole", "index", whole.media)
    rng = random.Random(20261122)
    during, number = 0, 0
    began = time.monotonic()
    while run.times < kills:
        number += 1
        folder = tmp_path / f"{number}"
        started: list[int] = []
        while run.times < kills:
            run.times += 1
            # Half of a whole run at most: several kills fall into the making of one library.
            said, children = acts.killed_after(rng.uniform(0, run_s / 2), folder, "index", whole.media)
            started += children
            if folder.exists():
                check(run, counting, folder)
                # What was reported as done is in the library, whatever came after.
                assert set(said) - {"done"} <= paths_in(folder)
            else:
                run.silent, run.answered = run.silent + 1, run.answered + 1  # killed before there was anything
            if said and said[-1] == "done":
                break
            during += 1
        acts.start(folder, "index", whole.media)
        assert acts.wait()[-1] == "done"
        deadline = time.monotonic() + 20
        while not all(is_gone(pid) for pid in started):
            assert time.monotonic() < deadline, "decoding processes outlive the one that started them"
            time.sleep(0.05)
        finish(run, counting, whole, folder, whole.held)
        shutil.rmtree(folder)
    run.clean = run.times
    assert run.lost_rows == 0
    assert during >= 0.8 * run.times, "most kills must hit a run that is under way"
    print(f"{run.times} kills, {during} during work, {number} libraries, {time.monotonic() - began:.0f} s")


def test_forgetting(acts: Acts, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("kill -9 of rm")
    gone = [whole.media / "pet.jpg", whole.media / "film.mp4"]
    run_s = acts.whole_s(whole.copy(tmp_path / "whole"), "rm", *gone)
    rng = random.Random(7)
    for number in range(3 * SCALE):
        run.times += 1
        folder = whole.copy(tmp_path / f"{number}")
        acts.killed_after(rng.uniform(0, run_s), folder, "rm", *gone)
        check(run, counting, folder)
        # All or nothing.
        assert len({path.name for path in gone} & paths_in(folder)) in (0, 2)
        acts.whole_s(folder, "rm", *gone)
        assert not {path.name for path in gone} & paths_in(folder)
        check(run, counting, folder)
        run.silent, run.answered, run.clean = run.silent - 1, run.answered - 1, run.clean + 1
        acts.whole_s(folder, "index", whole.media)
        finish(run, counting, whole, folder, whole.held)
        shutil.rmtree(folder)
    assert run.lost_rows == 0


def test_mending(acts: Acts, whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("kill -9 of repair")
    broken = whole.copy(tmp_path / "broken")
    (broken / "catalog.db").write_bytes(b"rubbish" * 2000)
    (broken / "manifest.json").write_bytes(b"{")
    for path in (broken / "index").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    run_s = acts.whole_s(Path(shutil.copytree(broken, tmp_path / "whole")), "repair")
    rng = random.Random(8)
    for number in range(3 * SCALE):
        run.times += 1
        folder = Path(shutil.copytree(broken, tmp_path / f"{number}"))
        acts.killed_after(rng.uniform(0, run_s), folder, "repair")
        acts.whole_s(folder, "repair")
        run.repaired += 1
        with opened(counting, folder) as library:
            problems = list(library.verify())
            assert all("`ivsearch index` fills it again" in problem for problem in problems)
            run.found += bool(problems)
            library.search("a cat")
            assert "`ivsearch index` fills it again" in library.searcher().complaints[0]
            run.told += 1
        assert (folder / "catalog.db.damaged").read_bytes().startswith(b"rubbish")
        acts.whole_s(folder, "index", whole.media)
        finish(run, counting, whole, folder, whole.held)
        run.clean += 1
        shutil.rmtree(folder)
    assert run.lost_rows == 0
