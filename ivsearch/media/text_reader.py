"""Reading the subtitle streams of videos in a process of its own: a file that crashes or hangs it costs that file."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ivsearch.domain import Skipped, TextLine
from ivsearch.errors import MediaError
from ivsearch.media.faults import explain
from ivsearch.media.pool import STALL_S, START_S, same_package
from ivsearch.media.text_streams import TextStream, text_streams


def read_text_streams(
    paths: Iterable[Path], *, stall_s: float = STALL_S
) -> Iterator[tuple[Path, list[TextStream] | Skipped]]:
    """The subtitle streams of each file, or why there is no reading it. A file may take ``stall_s`` seconds."""
    reader: _Reader | None = None
    try:
        for path in paths:
            reader = reader or _Reader()
            try:
                yield path, _of_wire(path, reader.ask(path, stall_s))
            except (OSError, EOFError) as error:
                words = reader.end()
                reader = None
                slow = isinstance(error, TimeoutError)
                why = f"took longer than {stall_s:g} s" if slow else f"broke its reader ({words})"
                yield path, Skipped(path, f"looking for subtitles in it {why}")
    finally:
        if reader is not None:
            reader.end()


class _Reader:
    def __init__(self) -> None:
        code = same_package() + "from ivsearch.media.text_reader import work\nwork()"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C in the terminal is for the parent
        )
        self._is_ready = False

    def ask(self, path: Path, stall_s: float) -> dict[str, Any]:
        """Raises EOFError or OSError when the process dies, TimeoutError when it takes too long."""
        assert self._process.stdin is not None
        if not self._is_ready:
            self._answer(START_S)
            self._is_ready = True
        self._process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        self._process.stdin.flush()
        document: dict[str, Any] = json.loads(self._answer(stall_s))
        return document

    def _answer(self, stall_s: float) -> bytes:
        assert self._process.stdout is not None
        answer = bytearray()
        while not answer.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], stall_s)[0]:
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), 1 << 20)
            if not part:
                raise EOFError
            answer += part
        return bytes(answer)

    def end(self) -> str:
        """Ends the process; how it ended, in words."""
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def work() -> None:
    """Body of the process: says that it is ready; then a path a line comes in, a JSON document a line goes out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not stand between the documents.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        path = Path(json.loads(line))
        try:
            document: dict[str, Any] = {"streams": [asdict(stream) for stream in text_streams(path)]}
        except MediaError as error:
            document = {"skipped": str(error)}
        except Exception as error:  # a kind of damage nobody has met: one file, not the run
            document = {"skipped": f"{explain(path, error)} [{type(error).__name__}]"}
        answers.write(json.dumps(document) + "\n")
        answers.flush()


def _of_wire(path: Path, document: dict[str, Any]) -> list[TextStream] | Skipped:
    if "skipped" in document:
        return Skipped(path, f"looking for subtitles in it: {document['skipped']}")
    return [
        TextStream(
            each["stream"], each["language"], tuple(TextLine(**line) for line in each["lines"]), each["unreadable"]
        )
        for each in document["streams"]
    ]
