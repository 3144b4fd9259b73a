"""``kill -9`` at random moments of an indexing run: it goes on, nothing is lost, and the hits are the same."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ivsearch.domain import Hit
from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library

from .conftest import library_with

KILLS = int(os.environ.get("IVSEARCH_TEST_KILLS", "30"))
QUERIES = ("a cat", "骑自行车的人", "صاروخ", "a cup of coffee", "stars")

# One process loads the encoder once and then forks for every run, so that kills hit the work and not the loading.
# Commits come after every file: as many different states as there can be.
ZYGOTE = """
import os, sys
from pathlib import Path
import torch
from ivsearch import ingest
from ivsearch.encode import load_encoder
from ivsearch.library import open_library
from ivsearch.settings import Settings
torch.set_num_threads(1)  # no thread exists before the fork
ingest.COMMIT_MEDIA = 1
encoder = load_encoder("mini")
for line in sys.stdin:
    folder, media, said = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if pid == 0:
        with open(said, "w", buffering=1) as out:
            library = open_library(folder, settings=Settings(batch=4))
            library.__dict__["encoder"] = encoder
            for event in library.index([Path(media)], fps=2):
                print(event.path.name, file=out)
            print("done", file=out)
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


class Runs:
    """Indexing runs over ``media``, one at a time, each in a process of its own that can be killed."""

    def __init__(self, media: Path, said: Path) -> None:
        self.media, self.said = media, said
        self.zygote = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, folder: Path) -> int:
        """The process id of a new run."""
        self.said.unlink(missing_ok=True)
        assert self.zygote.stdin is not None
        self.zygote.stdin.write(f"{folder}\t{self.media}\t{self.said}\n")
        return int(self._read())

    def wait(self) -> list[str]:
        """Until the run has ended: the names of the files it reported, and ``done`` if it came to its end."""
        assert self._read() == "ended"
        return self.said.read_text().splitlines() if self.said.exists() else []

    def _read(self) -> str:
        assert self.zygote.stdout is not None
        return self.zygote.stdout.readline().strip()


@pytest.fixture
def runs(sample_media: Path, tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(sample_media, tmp_path / "said.txt")
    yield runs
    runs.zygote.kill()
    runs.zygote.wait()


def shown(hits: list[Hit]) -> list[tuple]:
    """What a user sees of hits: everything but the ids."""
    return [(h.path.name, round(h.score, 5), h.start_s, h.end_s, h.moment.start_s, h.moment.end_s) for h in hits]


def workers_of(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def open_and_check(encoder: Encoder, folder: Path) -> Library:
    library = library_with(encoder, folder)
    assert list(library.verify()) == []
    library.search("a cat")
    assert library.searcher().complaints == []
    return library


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_at_random_moments_nothing_is_lost(runs: Runs, mini: Encoder, tmp_path: Path) -> None:
    began = time.monotonic()
    runs.start(tmp_path / "whole")
    assert runs.wait()[-1] == "done"
    run_s = time.monotonic() - began
    with open_and_check(mini, tmp_path / "whole") as library:
        expected = {query: shown(library.search(query, k=8)) for query in QUERIES}
        media = {row.path: row.media_id for row in library.catalog.paths()}
        clips = library.stats().totals.clips

    rng = random.Random(20261122)
    kills, interrupted, number = 0, 0, 0
    while kills < KILLS:
        number += 1
        folder = tmp_path / f"killed-{number}"
        workers: list[int] = []
        while True:
            pid = runs.start(folder)
            if kills < KILLS:
                kills += 1
                # A third of a whole run at most: several kills fall into the making of one library.
                deadline = time.monotonic() + rng.uniform(0, run_s / 3)
                while time.monotonic() < deadline:
                    workers = workers_of(pid) or workers
                    time.sleep(0.01)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            said = runs.wait()
            with open_and_check(mini, folder) as library:
                done = {row.path.name for row in library.catalog.paths()}
                # What was reported as done is in the library, whatever came after.
                assert set(said) - {"done"} <= done
            if said and said[-1] == "done":
                break
            interrupted += 1
        deadline = time.monotonic() + 20
        while not all(is_gone(pid) for pid in workers):
            assert time.monotonic() < deadline, "decoding processes outlive the one that started them"
            time.sleep(0.1)
        with open_and_check(mini, folder) as library:
            assert {row.path: row.media_id for row in library.catalog.paths()} == media
            assert library.stats().totals.clips == clips
            for query, hits in expected.items():
                assert shown(library.search(query, k=8)) == hits
    assert interrupted >= 0.8 * KILLS, "most kills must hit a run that is under way"
    print(f"{kills} kills, {interrupted} of them during work, {number} libraries, {time.monotonic() - began:.0f} s")
