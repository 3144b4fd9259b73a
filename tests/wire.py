"""An HTTP server on this machine that answers as it is told to, byte by byte, and keeps what came."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Came:
    path: str
    headers: dict[str, str]
    document: Any
    at_s: float


@dataclass
class Wire:
    """``answers`` are given one a request, the last of them again and again."""

    answers: list[Answer] = field(default_factory=list)
    came: list[Came] = field(default_factory=list)
    url: str = ""

    def take(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def served() -> Iterator[Wire]:
    wire = Wire()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            document = json.loads(body) if body else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            wire.came.append(Came(self.path, headers, document, time.monotonic()))
            wire.take()(self)
            self.close_connection = True

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    wire.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        _end_headers(handler)
        handler.wfile.write(body)

    return answer


def events(*chunks: bytes, pause_s: float = 0.0, end: bool = True) -> Answer:
    """A stream of these bytes. Without ``end`` the last chunk of the transfer is missing, as when a server dies."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        _end_headers(handler)
        try:
            for chunk in chunks:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                handler.wfile.flush()
                time.sleep(pause_s)
            if end:
                handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            return  # the client had enough

    return answer


def _end_headers(handler: BaseHTTPRequestHandler) -> None:
    # Each request has a connection of its own. Untold, a client may begin its next one while this is being closed.
    handler.send_header("Connection", "close")
    handler.end_headers()


def nothing(pause_s: float) -> Answer:
    """No answer at all for so long."""
    return lambda handler: time.sleep(pause_s)


def piece(text: str | None, finish: str | None = None) -> bytes:
    document = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def said(*texts: str) -> Answer:
    return events(*(piece(text) for text in texts), piece(None, "stop"), DONE)
