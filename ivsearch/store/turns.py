"""Writers take turns with a re-encoding, which goes on for days and writes for moments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ivsearch.store.catalog import Catalog
from ivsearch.store.lock import writer_lock
from ivsearch.store.reencoding_state import read_state

PATIENCE_S = 30.0
"""A commit of a re-encoding takes well under a second; building the index at its end, longer."""


@contextmanager
def the_only_writer(folder: Path, catalog: Catalog, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the library for writing, its folder and its catalog. Raises LibraryBusy when another process has it."""
    with writer_lock(folder, wait_s), catalog.only_writer():
        yield


@contextmanager
def writers_turn(folder: Path, catalog: Catalog) -> Iterator[None]:
    """As ``the_only_writer``; waits while a re-encoding is under way, which has it only for moments."""
    job = read_state(folder)
    with the_only_writer(folder, catalog, PATIENCE_S if job and job.is_running else 0.0):
        yield
