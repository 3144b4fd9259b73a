"""The decoder process: takes one Job at a time, sends what it finds, ends when the pool does."""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from ivsearch.domain import Frame, Skipped
from ivsearch.errors import MediaError
from ivsearch.media.channel import receive, send
from ivsearch.media.events import Finished, Job, Kept, Opened, Reading
from ivsearch.media.faults import explain
from ivsearch.media.gate import Gate
from ivsearch.media.sample import Sampling
from ivsearch.media.thumbnail import thumbnail_jpeg
from ivsearch.pictures import Transparency

READ_AHEAD_BYTES = 64 << 20
"""Pixels a worker may hold ready, so that decoding goes on while the consumer is busy."""

HEARTBEAT_S = 1.0


class Alive:
    """Message: decoding goes on although nothing was kept."""


class Ready:
    """Message: the process has started and imported what it needs."""


def work(channel_number: int, fps: float, gate: bool, max_pixels: int, transparency: str) -> None:
    """Body of the process. The pool's end of standard input closing means that the pool is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    reading = Reading(fps, gate, max_pixels, Transparency(transparency))
    channel = socket.socket(fileno=channel_number)
    outbox = Outbox(channel)
    outbox.put(Ready())
    while True:
        try:
            job = receive(channel)
        except EOFError:
            return
        assert isinstance(job, Job)
        _decode(job, outbox, reading)


def _end_with_parent(parent: int) -> None:
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], 1.0)
        if readable or os.getppid() != parent:
            os._exit(1)


class Outbox:
    """Sends in a thread of its own; holds at most READ_AHEAD_BYTES of pixels, then makes the decoder wait."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._messages: queue.SimpleQueue[tuple[object, memoryview | bytes]] = queue.SimpleQueue()
        self._bytes = 0
        self._room = threading.Condition()
        threading.Thread(target=self._send_all, daemon=True).start()

    def put(self, message: object, block: memoryview | bytes = b"") -> None:
        with self._room:
            self._room.wait_for(lambda: self._bytes == 0 or self._bytes + len(block) <= READ_AHEAD_BYTES)
            self._bytes += len(block)
        self._messages.put((message, block))

    def _send_all(self) -> None:
        while True:
            message, block = self._messages.get()
            try:
                send(self._channel, message, block)
            except OSError:
                os._exit(1)  # the pool is gone
            with self._room:
                self._bytes -= len(block)
                self._room.notify()


class _Heartbeat:
    """Tells the pool, at most once a second, that the decoder got on."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last >= HEARTBEAT_S:
            self._last = now
            self._outbox.put(Alive())


def _decode(job: Job, outbox: Outbox, reading: Reading) -> None:
    try:
        outbox.put(_run(job, outbox, reading))
    except MediaError as error:
        outbox.put(Skipped(job.path, str(error)))
    except Exception as error:  # a bug, or a kind of damage nobody has met: one file, not the run
        words = explain(job.path, error)
        outbox.put(Skipped(job.path, f"{words} [{type(error).__name__}]"))


def _run(job: Job, outbox: Outbox, reading: Reading) -> Finished:
    clock = time.process_time
    started = clock()
    gate_s = 0.0
    sampling = Sampling(
        job.path,
        job.media_id,
        fps=reading.fps,
        max_pixels=reading.max_pixels,
        transparency=reading.transparency,
        on_progress=_Heartbeat(outbox),
    )
    keep: Callable[[Frame], bool] = _Judge(reading.gate).keep
    times: list[float] = []
    kept: list[int] = []
    for sample in sampling:
        if not times:
            outbox.put(Opened(job, sampling.media))
        times.append(sample.frame.pts_s)
        began = clock()
        if keep(sample.frame):
            kept.append(sample.index)
            pixels = np.ascontiguousarray(sample.frame.pixels)
            empty = np.empty((0, *pixels.shape[1:]), np.uint8)
            head = Kept(job, Frame(sample.frame.pts_s, empty), sample.index, thumbnail_jpeg(pixels))
            gate_s += clock() - began
            outbox.put((head, pixels.shape), pixels.data.cast("B"))
        else:
            gate_s += clock() - began
    return Finished(
        job,
        sampling.media,
        np.array(times, np.float64),
        np.array(kept, np.int32),
        decode_s=max(0.0, clock() - started - gate_s),
        gate_s=gate_s,
    )


class _Judge:
    """The gate, or with ``gate`` off everything but the same picture held on."""

    def __init__(self, gate: bool) -> None:
        self._gate = Gate() if gate else None
        self._last: Frame | None = None

    def keep(self, frame: Frame) -> bool:
        if frame is self._last:
            return False
        self._last = frame
        return self._gate is None or self._gate.keep(frame.pixels)
