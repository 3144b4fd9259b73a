"""The disk is full at the moment of one write: the run ends and names it, searches go on, and with room all is done.

Full for real: a small tmpfs is filled to the last byte just before the write that is to fail, or, where nothing may be
mounted, the system is told that no file may grow any more (RLIMIT_FSIZE). Each in a process of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import QUERIES, Counting, Whole, opened, outcomes, shown
from .fault_run import FaultRun, Table, trials
from .held import held_by
from .zygote import Zygote

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits on Windows")

DISK_BYTES = 8 << 20
WRITES = ("manifest", "segment", "thumb", "catalog", "index")

# Indexes one more file; the named write finds the disk full but for some bytes.
INDEX_ON_A_FULL_DISK = """
import resource
from ivsearch.store import manifest
from ivsearch.store.catalog import Catalog
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.vector_store import VectorStore

write, left, way = more

def fill():
    if way == "rlimit":
        # A segment is appended to; the others are written anew.
        there = max(path.stat().st_size for path in folder.glob("vectors/*/*.seg")) if write == "segment" else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (there + left, resource.RLIM_INFINITY))
        return
    with open(folder.parent / "ballast", "wb", buffering=0) as ballast:
        for n_bytes in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    ballast.write(bytes(n_bytes))
            except OSError:
                pass
        ballast.truncate(max(0, ballast.tell() - left))

def filling(act):
    def first_fill(*arguments, **named):
        fill()
        return act(*arguments, **named)
    return first_fill

for noun, name, of in (
    (VectorStore, "append", "segment"),
    (Thumbs, "save", "thumb"),
    (Catalog, "add", "catalog"),
    (manifest, "replace_file", "manifest"),
):
    if of == write:
        setattr(noun, name, filling(getattr(noun, name)))
for event in library.index(paths):
    if write == "index":
        fill()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of DISK_BYTES."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refuse_and_go_on(run: FaultRun, way: str, where: Path, whole: Whole, counting: Counting, zygote: Zygote) -> None:
    for number, rng in enumerate(trials(run, len(WRITES))):
        write = WRITES[number % len(WRITES)]
        folder = whole.copy(where / f"{number}")
        with opened(counting, folder) as library:
            library.remove(whole.media / "pet.jpg")
            smaller = {query: shown(library.search(query, k=4)) for query in QUERIES}
        left = rng.choice((0, rng.randrange(1, 200)))
        zygote.start(folder, INDEX_ON_A_FULL_DISK, whole.media / "pet.jpg", more=[write, left, way])
        code, said = zygote.wait(), "\n".join(zygote.said())
        assert code == 1, (write, said)
        # The disk is named, and what to do. (SQLite only knows of files that cannot grow that the disk failed.)
        named = re.search(
            rf"(No space left on device|File too large) \({folder}.*; .*make room or choose another", said
        )
        assert named or (f"{folder}/catalog.db" in said and "that the disk has room" in said), (write, said)
        with opened(counting, folder) as library:
            # Full as it is: nothing is broken, and a search answers with what was there, or with the file as well.
            assert list(library.verify()) == [], write
            run.silent += 1
            hits = {query: shown(library.search(query, k=4)) for query in QUERIES}
            assert hits in (smaller, whole.hits) and library.searcher().complaints == [], write
            run.answered += 1
        (where / "ballast").unlink(missing_ok=True)
        with opened(counting, folder) as library:
            outcomes(library, whole.media)
            assert list(library.verify()) == []
            run.clean += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
        run.lost_rows += whole.held.missing_in(held_by(folder))
        shutil.rmtree(folder)
    assert run.lost_rows == 0


def test_a_full_disk(disk: Path, whole: Whole, counting: Counting, zygote: Zygote, table: Table) -> None:
    refuse_and_go_on(table.run("disk full at each kind of write"), "tmpfs", disk, whole, counting, zygote)


def test_files_that_may_not_grow(
    tmp_path: Path, whole: Whole, counting: Counting, zygote: Zygote, table: Table
) -> None:
    refuse_and_go_on(table.run("no file may grow, at each kind of write"), "rlimit", tmp_path, whole, counting, zygote)
