"""Messages over a socket between the pool and a worker: a small pickled object and an optional block of raw bytes."""

from __future__ import annotations

import pickle
import socket
import struct

_HEADER = struct.Struct("<QQ")


def send(channel: socket.socket, message: object, block: memoryview | bytes = b"") -> None:
    """Blocks until the other side has taken it all. Raises OSError when it is gone."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    block = memoryview(block).cast("B")
    channel.sendall(_HEADER.pack(len(body), len(block)) + body)
    if len(block):
        channel.sendall(block)


def receive(channel: socket.socket) -> object:
    """The next message, waited for. Raises EOFError when the other side is gone."""
    inbox = Inbox(channel)
    channel.setblocking(True)
    while (arrived := inbox.read()) is None:
        pass
    return arrived[0]


class Inbox:
    """Reads messages piece by piece, so that one that stops in the middle never blocks the reader."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._part = bytearray(_HEADER.size)
        self._filled = 0
        self._body: bytes | None = None
        self._sizes: tuple[int, int] | None = None

    def read(self) -> tuple[object, bytearray] | None:
        """(message, block) once whole; None when the socket has no more for now. Raises EOFError at its end."""
        while True:
            while self._filled < len(self._part):
                try:
                    got = self._channel.recv_into(memoryview(self._part)[self._filled :])
                except BlockingIOError:
                    return None
                except OSError as error:
                    raise EOFError from error
                if got == 0:
                    raise EOFError
                self._filled += got
            if self._sizes is None:
                self._sizes = _HEADER.unpack(self._part)
                self._expect(self._sizes[0])
            elif self._body is None:
                self._body = bytes(self._part)
                self._expect(self._sizes[1])
            else:
                whole = (pickle.loads(self._body), self._part)
                self._sizes = self._body = None
                self._expect(_HEADER.size)
                return whole

    def _expect(self, size: int) -> None:
        self._part = bytearray(size)
        self._filled = 0
