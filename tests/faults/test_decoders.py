"""A decoder process that dies or hangs in the middle of a run costs its file at most, and only until the next run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ivsearch.domain import Ingested, Skipped
from ivsearch.ingest import IngestEvent
from ivsearch.library import Library, open_library
from ivsearch.settings import Settings

from .conftest import QUERIES, Counting, Whole, opened, outcomes, shown
from .fault_run import Table, trials
from .held import held_by
from .test_kill import children_of

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")

STALL_S = 3.0


@pytest.mark.parametrize(("fault", "signal_number"), [("dies", signal.SIGKILL), ("hangs", signal.SIGSTOP)])
def test_a_decoder(
    fault: str, signal_number: int, whole: Whole, counting: Counting, table: Table, tmp_path: Path
) -> None:
    run = table.run(f"a decoder process {fault}")
    for number, rng in enumerate(trials(run, 1)):
        folder = tmp_path / f"{number}"
        began = time.monotonic()
        library, events = _indexed_under(folder, whole.media, counting, signal_number, rng.uniform(0, 1.0))
        with library:
            skipped = [event for event in events if isinstance(event, Skipped)]
            assert len(events) == 6 and len(skipped) <= 1
            assert all("decoder" in event.reason and event.path.parent == whole.media for event in skipped)
            assert time.monotonic() - began < 240
            assert list(library.verify()) == []
            run.silent += 1
            indexed = {event.path.name for event in events if isinstance(event, Ingested)}
            assert {hit.path.name for hit in library.search("a cat", k=9)} == indexed
            run.answered += 1
        with opened(counting, folder) as library:
            became = outcomes(library, whole.media)
            assert {name for name, what in became.items() if what == "indexed"} == {e.path.name for e in skipped}
            assert list(library.verify()) == []
            run.clean += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
        run.lost_rows += whole.held.missing_in(held_by(folder))
        shutil.rmtree(folder)
    assert run.lost_rows == 0


def _indexed_under(
    folder: Path, media: Path, counting: Counting, signal_number: int, delay_s: float
) -> tuple[Library, list[IngestEvent]]:
    """``delay_s`` after the first decoder was seen, one gets the signal: in the middle of a file or while it starts.
    On a machine that was through by then, all begins again and the signal comes sooner."""
    hit: list[int] = []

    def spoil(delay_s: float) -> None:
        while not _decoders() and not over.is_set():
            time.sleep(0.01)
        over.wait(delay_s)
        for pid in _decoders()[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal_number)
                hit.append(pid)

    for _ in range(20):
        library = open_library(folder, settings=Settings(workers=2, batch=2, stall_s=STALL_S))
        library.encoder = counting
        over = threading.Event()
        thread = threading.Thread(target=spoil, args=(delay_s,))
        thread.start()
        try:
            events = list(library.index([media]))
        finally:
            over.set()
            thread.join()
        if hit:
            return library, events
        library.close()
        shutil.rmtree(folder)
        delay_s /= 2
    pytest.fail("no decoder was ever seen at work")


def _decoders() -> list[int]:
    """Our children that decode."""
    found = []
    for pid in children_of(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"ivsearch.media.worker" in command and sys.executable.encode() in command:
            found.append(pid)
    return found
