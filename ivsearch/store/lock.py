"""One writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ivsearch.errors import LibraryBusy

NAME = "writer.lock"


@contextmanager
def writer_lock(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the library for writing. The system frees it when the process ends, however it ends.

    Raises LibraryBusy when another process has it, and still after ``wait_s``. Readers need no lock.
    """
    lock = FileLock(folder / NAME, timeout=wait_s)
    holder = folder / f"{NAME}.pid"
    try:
        lock.acquire()
    except Timeout:
        raise LibraryBusy(
            f"another ivsearch (process {_pid_in(holder)}) is writing to {folder}; wait until it ends, or stop it, "
            "and run the same command again. Searching works meanwhile"
        ) from None
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    except OSError as error:
        # The system does not say where, when it is a write that fails and not an opening.
        error.filename = error.filename or str(folder)
        raise
    finally:
        with suppress(OSError):  # it is only news: the lock itself must be let go
            holder.unlink(missing_ok=True)
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process that lives says that it is writing: news, and no promise. Takes no lock, which might turn away
    a writer."""
    pid = _pid_in(folder / f"{NAME}.pid")
    try:
        os.kill(int(pid), 0)
    except PermissionError:  # of somebody else
        return True
    except (OSError, ValueError, OverflowError):
        return False
    with suppress(OSError):  # there is none but on Linux
        # One that was killed, and that the process that started it has not asked about.
        return "\nState:\tZ" not in (Path("/proc") / pid / "status").read_text()
    return True


def _pid_in(holder: Path) -> str:
    try:
        return holder.read_text().strip() or "unknown"
    except OSError:  # it has ended just now, or has just begun
        return "unknown"
