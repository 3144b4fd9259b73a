"""reencoding.json: how far the latest re-encoding of a library is. Its process writes it, anyone reads it.

``reencoding.lock`` is held while it runs, so that one that was killed is told from one that is under way.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout

from ivsearch.errors import LibraryBusy
from ivsearch.store.files import replace_file, sealed, unsealed

NAME = "reencoding.json"
LOCK = "reencoding.lock"
LOG = "reencoding.log"

# How long one that begins lets others finish that only look whether somebody holds the lock, which takes well under a
# millisecond.
GLANCE_S = 1.0


class Stage(StrEnum):
    """What a re-encoding is doing, or how it ended."""

    LOADING = "loading"
    ENCODING = "encoding"
    WAITING = "waiting"
    """For another process, which is writing to the library."""
    INDEXING = "indexing"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"
    KILLED = "killed"
    """Never written: what is said of one that ended without a word."""


ENDED = (Stage.DONE, Stage.STOPPED, Stage.FAILED, Stage.KILLED)


@dataclass(frozen=True, slots=True)
class Unread:
    """A Media none of whose files could be read or encoded, and why."""

    media_id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReencodingState:
    """Of the process ``pid``, which encodes for ``encoder`` (as typed) into the Space of key ``space`` (empty until
    the encoder is loaded). Media and frames count all that the Library holds; ``frames_per_s`` is of this run."""

    pid: int
    encoder: str
    space: str = ""
    stage: Stage = Stage.LOADING
    started_s: float = 0.0
    updated_s: float = 0.0
    media_done: int = 0
    media_total: int = 0
    frames_done: int = 0
    frames_total: int = 0
    frames_per_s: float = 0.0
    error: str = ""
    unread: tuple[Unread, ...] = ()

    @property
    def is_running(self) -> bool:
        return self.stage not in ENDED

    @property
    def left_s(self) -> float | None:
        """Seconds until all frames are encoded, at the rate of this run; None while there is no telling."""
        if not self.is_running or self.frames_per_s <= 0:
            return None
        return max(0, self.frames_total - self.frames_done) / self.frames_per_s


def write_state(folder: Path, state: ReencodingState) -> None:
    replace_file(folder / NAME, sealed(asdict(state)))


def read_state(folder: Path) -> ReencodingState | None:
    """None when there was none, or its file is not whole: it is only news, and never needed."""
    state = _read(folder)
    if state and state.is_running and not _is_held(folder):
        state = _read(folder)  # its last words may have come between our two looks
        if state and state.is_running:
            return replace(state, stage=Stage.KILLED)
    return state


def _read(folder: Path) -> ReencodingState | None:
    try:
        table = unsealed((folder / NAME).read_bytes())
        unread = tuple(Unread(**each) for each in table.pop("unread"))
        return ReencodingState(**{**table, "stage": Stage(table["stage"])}, unread=unread)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(folder: Path) -> bool:
    try:
        with (folder / LOCK).open("rb") as file:
            # Shared, so that those who look never take each other for the one that holds it.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False  # none has ever begun, or it cannot be known


@contextmanager
def reencoding_lock(folder: Path) -> Iterator[None]:
    """Held by the one process that re-encodes. The system frees it when the process ends, however it ends.

    Raises LibraryBusy when another process has it.
    """
    lock = FileLock(folder / LOCK, timeout=GLANCE_S)
    try:
        lock.acquire()
    except Timeout:
        state = read_state(folder)
        which = f"to {state.encoder} (process {state.pid})" if state else "(its process has just begun)"
        raise LibraryBusy(
            f"a re-encoding {which} is under way already in {folder}: `ivsearch spaces` shows how far it is, "
            "`ivsearch spaces stop` ends it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def wait_until_ended(folder: Path, patience_s: float) -> bool:
    """Whether no re-encoding is under way any more, within so many seconds."""
    deadline = time.monotonic() + patience_s
    while _is_held(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
