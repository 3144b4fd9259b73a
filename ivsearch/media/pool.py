"""Decoding in worker processes: a file that crashes, hangs or eats memory costs that file, never the run."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import ivsearch
from ivsearch.domain import Frame, Skipped
from ivsearch.errors import IvsearchError
from ivsearch.media.channel import Inbox, send
from ivsearch.media.events import Event, Finished, Job, Kept, Opened, Reading
from ivsearch.media.grid import check_rate
from ivsearch.pictures import MAX_PIXELS, Transparency

MAX_WORKERS = 8
"""More are started only when asked for."""

STALL_S = 60.0
START_TRIES = 3
START_S = 30.0
"""Seconds a new process may take to import what it needs, however small ``stall_s`` is."""

__all__ = ["DecodePool", "Event", "Finished", "Job", "Kept", "Opened"]


class DecodePool:
    """Decodes files in ``workers`` processes (default: one a core, at most 8), ``fps`` samples a second of video.

    ``gate``: leave out pictures nearly the same as the one kept before; off, only a picture held over several samples
    is left out. ``stall_s``: a worker that gets nowhere for so many seconds, while the caller waits for it, is killed
    and its file Skipped. ``max_pixels``: larger pictures are Skipped. ``transparency``: how alpha is read.

    Each worker sends through a socket of its own and holds at most 64 MiB of pixels ready; then it waits.
    Processes are started afresh (no fork, the caller's main module is not imported), so threads and CUDA do no harm.
    Use as a context manager: leaving it ends the workers.
    """

    def __init__(
        self,
        *,
        fps: float = 1.0,
        workers: int | None = None,
        stall_s: float = STALL_S,
        gate: bool = True,
        max_pixels: int = MAX_PIXELS,
        transparency: Transparency = Transparency.ON_WHITE,
    ) -> None:
        check_rate(fps)
        self._reading = Reading(float(fps), bool(gate), int(max_pixels), transparency)
        self._size = max(1, workers or default_workers())
        self._stall_s = stall_s
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def close(self) -> None:
        """Ends all workers at once, whatever they are doing."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.bury()

    def run(self, jobs: Iterable[Job]) -> Iterator[Event]:
        """Decode ``jobs``, taken one by one as workers become free.

        For each: Opened, Kept … in the order of time, Finished; or Skipped, which may also come after some Kept when
        the file breaks its decoder half-way: what was got of it is then void. Events of several files interleave.
        Raises IvsearchError when no worker process can be started at all.
        """
        try:
            yield from self._run(iter(jobs))
        finally:
            # Workers in the middle of a file would send what nobody asked for next time.
            for worker in [worker for worker in self._workers if worker.job is not None]:
                self._remove(worker)

    def _run(self, jobs: Iterator[Job]) -> Iterator[Event]:
        exhausted = False
        backlog: list[Job] = []
        while True:
            while self._has_room() and (backlog or not exhausted):
                job = backlog.pop() if backlog else next(jobs, None)
                if job is None:
                    exhausted = True
                else:
                    self._free_worker().assign(job)
            busy = [worker for worker in self._workers if worker.job is not None]
            if not busy:
                return
            for worker in self._wait(busy):
                try:
                    yield from worker.events()
                except EOFError:
                    job = worker.job
                    death = self._remove(worker)
                    if not worker.is_ready:
                        self._count_failed_start(death)
                        backlog.append(worker.taken)
                    elif job is not None:
                        yield Skipped(
                            job.path,
                            f"decoder process died ({death}) on this file; the file is damaged, or memory ran out",
                        )
                else:
                    self._failed_starts = 0 if worker.is_ready else self._failed_starts
            for worker in busy:
                if worker.job is not None and worker.waited_s >= self._limit_s(worker) and worker in self._workers:
                    job = worker.job
                    self._remove(worker)
                    yield Skipped(
                        job.path,
                        f"decoder gave nothing for {self._stall_s:g} s and was stopped; "
                        "the file is damaged, or its disk does not answer",
                    )

    def _wait(self, busy: list[_Worker]) -> list[_Worker]:
        """Workers with something to say. Only the time spent in here counts as time a worker let us wait."""
        patience = max(0.0, min(self._limit_s(worker) - worker.waited_s for worker in busy))
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.channel, selectors.EVENT_READ, worker)
            began = time.monotonic()
            ready = [key.data for key, _ in selector.select(patience)]
        waited = time.monotonic() - began
        for worker in busy:
            worker.waited_s = 0.0 if worker in ready else worker.waited_s + waited
        return ready

    def _limit_s(self, worker: _Worker) -> float:
        return self._stall_s if worker.is_ready else max(self._stall_s, START_S)

    def _has_room(self) -> bool:
        return sum(worker.job is not None for worker in self._workers) < self._size

    def _free_worker(self) -> _Worker:
        for worker in [worker for worker in self._workers if worker.job is None]:
            if worker.is_alive:
                return worker
            self._remove(worker)
        worker = _Worker(self._reading)
        self._workers.append(worker)
        return worker

    def _remove(self, worker: _Worker) -> str:
        self._workers.remove(worker)
        worker.kill()
        return worker.bury()

    def _count_failed_start(self, death: str) -> None:
        self._failed_starts += 1
        if self._failed_starts >= START_TRIES:
            raise IvsearchError(
                f"decoder processes do not start ({death}); try: {sys.executable} -c 'import ivsearch.media.worker'"
            )


class _Worker:
    """One process, seen from the pool."""

    def __init__(self, reading: Reading) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.setblocking(False)
        self._inbox = Inbox(self.channel)
        self.job: Job | None = None
        self.waited_s = 0.0
        self.is_ready = False
        number = theirs.fileno()
        wishes = f"{reading.fps!r}, {reading.gate!r}, {reading.max_pixels!r}, {reading.transparency.value!r}"
        code = same_package() + f"from ivsearch.media.worker import work\nwork({number}, {wishes})"
        # A process group of its own: Ctrl-C in the terminal is for the parent, which then ends the workers.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],  # -P: nothing is imported from the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(number,),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            process_group=0,
        )
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def taken(self) -> Job:
        assert self._taken is not None
        return self._taken

    def assign(self, job: Job) -> None:
        self.job = self._taken = job
        self.waited_s = 0.0
        with contextlib.suppress(OSError):  # it died while idle; reading from it will tell
            self.channel.setblocking(True)
            send(self.channel, job)
        self.channel.setblocking(False)

    def events(self) -> Iterator[Event]:
        """What has arrived in whole. Raises EOFError when the process is gone."""
        while (arrived := self._inbox.read()) is not None:
            message, block = arrived
            match message:
                case (Kept() as kept, tuple() as shape):
                    pixels = np.frombuffer(block, np.uint8).reshape(shape)
                    yield replace(kept, frame=Frame(kept.frame.pts_s, pixels))
                case Finished() | Skipped():
                    self.job = None
                    yield message
                case Opened():
                    yield message
                case _:
                    self.is_ready = True
            if self.job is None:
                return

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self.channel.close()

    def bury(self) -> str:
        """Waits for the end; how it ended, in words."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        code = self._process.wait()
        return f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def default_workers() -> int:
    """One for every core this process may use, at most MAX_WORKERS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def same_package() -> str:
    """Code that imports the same ivsearch as ours, from a checkout too.

    The folder it lies in comes last on the path: what else is there must not stand in for other packages.
    """
    assert ivsearch.__file__ is not None
    home = str(Path(ivsearch.__file__).parents[1])
    return f"""\
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
sys.path.append({home!a})
spec = PathFinder.find_spec("ivsearch", [{home!a}])
sys.modules["ivsearch"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["ivsearch"])
"""
