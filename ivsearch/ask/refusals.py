"""What a model server's refusal means, and what to do about it."""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from ivsearch.ask.completion import Trouble
from ivsearch.errors import IvsearchError, NetworkError, UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
# The same request may do a moment later.
OVERLOADED = frozenset({429, 503, 529})
PASSING = frozenset({408, 500, 502, 504})
SHOWN = 300

PICTURES = re.compile(r"image|vision|multi-?\s?modal|mmproj|content.*(must be|should be|valid).*string", re.IGNORECASE)
LENGTH = re.compile(
    r"context.{0,20}(length|size|window)|exceeds? .{0,40}(context|max\w* .{0,20}(length|tokens))"
    r"|too (long|many tokens)",
    re.IGNORECASE,
)


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, url: str, key: str, n_pictures: int
) -> IvsearchError | Trouble:
    """What to raise for an HTTP status other than 200. A missing model (404) is the caller's to look into."""
    words = said(body, key)
    told = f" ({status}: {words})" if words else f" ({status})"
    if 300 <= status < 400:
        target = _line(headers.get("location", "nowhere"))
        return NetworkError(f"{url} sends us on to {target}: if that is right, make it the address (--endpoint)")
    if status in (401, 403):
        if key:
            return NetworkError(f"{url} refuses the key in {KEY_VARIABLE}{told}: set the right one")
        return NetworkError(f"{url} wants a key: set {KEY_VARIABLE}{told}")
    if status in OVERLOADED:
        return Trouble(f"has too much to do{told}", passing=True, wait_s=wait_s(headers.get("retry-after", "")))
    if LENGTH.search(words):
        return UsageError(
            f"{url}: the question with its {n_pictures} pictures is too long for the model{told}: show it fewer "
            "(--frames), or have the server allow a longer context"
        )
    if n_pictures and PICTURES.search(words):
        return UsageError(
            f"{url}: the model takes no pictures, or not these {n_pictures}{told}: choose one that does, or let it "
            "word what the encoder sees (--no-pictures)"
        )
    if status == 413:
        return UsageError(f"{url}: {n_pictures} pictures are more than it takes at once{told}: show fewer (--frames)")
    if status in PASSING:
        return Trouble(f"is in trouble{told}", passing=True, wait_s=wait_s(headers.get("retry-after", "")))
    return NetworkError(f"{url} refuses the request{told}")


def said(body: bytes, key: str) -> str:
    """The server's own words, on one line, with nothing that steers a terminal and without the key."""
    text = body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        text = _message(json.loads(text))
    if key:
        text = text.replace(key, "…")
    return _line(text)


def wait_s(retry_after: str) -> float | None:
    """Seconds from now, of a ``Retry-After`` in seconds or as a date; None when it says neither."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, IndexError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _message(document: Any) -> str:
    for name in ("error", "message", "detail"):
        if isinstance(document, dict) and document.get(name):
            return _message(document[name])
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)


def _line(text: str) -> str:
    text = " ".join("".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
