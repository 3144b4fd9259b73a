"""The bytes of a chat completion → pieces of its text, with an end to everything.

Server-sent events as the HTML standard has them, each a JSON object of OpenAI's streaming format; or one JSON object,
from servers that do not stream.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

FIELDS = frozenset({b"data", b"event", b"id", b"retry"})
DONE = "[DONE]"
# Where models that think aloud do so.
THOUGHTS = ("reasoning_content", "reasoning")
SHOWN = 80


class Trouble(Exception):
    """What went wrong with one request. ``passing``: it may go well if asked again, after ``wait_s`` if the server
    says when."""

    def __init__(self, message: str, *, passing: bool, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        self.wait_s = wait_s


class Refused(Exception):
    """An error the server reports in the middle of a stream. ``document`` is its JSON."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer; ``finish`` says why it is the last one (``stop``, ``length`` …), None before that."""

    text: str
    finish: str | None = None


def streamed(chunks: Iterable[bytes], *, silence_s: float, max_bytes: int) -> Iterator[Delta]:
    """Up to the Delta with a ``finish``.

    Comments and empty events keep a connection open, they are no word: without one for ``silence_s`` seconds the server
    is given up. Raises Trouble for a stream that ends early, says nothing, makes no sense, or is longer than
    ``max_bytes``; Refused for an error in it.
    """
    heard = time.monotonic()
    for event in _events(_bounded(chunks, max_bytes)):
        if event is not None:
            if event == DONE:
                yield Delta("", "stop")
                return
            delta = _delta(_object(event), "delta")
            if delta is not None:
                yield delta
                if delta.finish is not None:
                    return
                heard = time.monotonic()
        if time.monotonic() - heard > silence_s:
            raise Trouble(f"said nothing for {silence_s:g} s", passing=False)
    raise Trouble("broke off in the middle of the answer", passing=True)


def whole(chunks: Iterable[bytes], *, max_bytes: int) -> Iterator[Delta]:
    """The answer of a server that does not stream, in one Delta. Raises as ``streamed`` does."""
    delta = _delta(_object(b"".join(_bounded(chunks, max_bytes)).decode("utf-8", "replace")), "message")
    yield Delta(delta.text, delta.finish or "stop") if delta else Delta("", "stop")


def _bounded(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    n_bytes = 0
    for chunk in chunks:
        n_bytes += len(chunk)
        if n_bytes > max_bytes:
            raise Trouble(f"sent more than {max_bytes:,} bytes for one answer", passing=False)
        yield chunk


def _events(chunks: Iterable[bytes]) -> Iterator[str | None]:
    """The data of each event; None where a chunk held no event, so that the clock is looked at."""
    rest = b""
    data: list[bytes] = []
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif name and name not in FIELDS:
                raise Trouble(f"sent {_shown(line)} where an event should be", passing=False)
            elif not line and data:
                yield b"\n".join(data).decode("utf-8", "replace")
                data = []
        yield None


def _object(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise Trouble(f"sent {_shown(text.encode())}, which is no JSON", passing=False) from None
    if isinstance(document, dict) and document.get("error"):
        raise Refused(document)
    if not isinstance(document, dict) or not isinstance(document.get("choices"), list):
        raise Trouble(f"sent {_shown(text.encode())}, which is no chat completion", passing=False)
    return document


def _delta(document: dict[str, Any], key: str) -> Delta | None:
    """What the first choice says; None where it says nothing, as in a chunk that only counts tokens. A thought is no
    part of the answer, but a sign of life: an empty text."""
    choice: Any = next(iter(document["choices"]), {})
    message = choice.get(key) if isinstance(choice, dict) else None
    message = message if isinstance(message, dict) else {}
    content = message.get("content") or ""
    finish = choice.get("finish_reason") if isinstance(choice, dict) else choice
    if not isinstance(content, str) or not isinstance(finish, str | None):
        raise Trouble(f"sent {_shown(json.dumps(choice).encode())}, which is no text", passing=False)
    if not content and not finish and not any(message.get(name) for name in THOUGHTS):
        return None
    # JSON can hold half a character, no file or terminal can.
    return Delta(content.encode("utf-8", "replace").decode("utf-8"), finish or None)


def _shown(data: bytes) -> str:
    return repr(data[:SHOWN].decode("utf-8", "replace")) + ("…" if len(data) > SHOWN else "")
