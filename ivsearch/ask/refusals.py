"""What a model server's refusal means, and what to do about it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from ivsearch.ask.completion import Trouble
from ivsearch.errors import IvsearchError, NetworkError, UsageError
from ivsearch.plain_text import one_line

KEY_VARIABLE = "OPENAI_API_KEY"
# The same request may do a moment later.
OVERLOADED = frozenset({429, 503, 529})
PASSING = frozenset({408, 500, 502, 504})
LIMIT, NEWER_LIMIT = "max_tokens", "max_completion_tokens"
# So many characters of a key in a row are no chance.
TELLTALE = 8

PICTURES = re.compile(r"image|vision|multi-?\s?modal|mmproj|content.*(must be|should be|valid).*string", re.IGNORECASE)
LENGTH = re.compile(
    r"context.{0,20}(length|size|window)|exceeds? .{0,40}(context|max\w* .{0,20}(length|tokens))"
    r"|too (long|many tokens)",
    re.IGNORECASE,
)


class UnknownLimit(NetworkError):
    """The model wants ``max_completion_tokens``, as OpenAI's own do that think first; those take no temperature."""


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, url: str, key: str, n_pictures: int
) -> IvsearchError | Trouble:
    """What to raise for an HTTP status other than 200. A missing model (404) is the caller's to look into."""
    words = said(body)
    told = f" ({status}: {words})" if words else f" ({status})"
    if 300 <= status < 400:
        target = one_line(headers.get("location", "nowhere"))
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
    kind = UnknownLimit if status == 400 and LIMIT in words else NetworkError
    return kind(f"{url} refuses the request{told}")


def said(body: bytes) -> str:
    """The server's own words, on one line."""
    text = body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        text = _message(json.loads(text))
    return one_line(text)


def without_key(text: str, key: str) -> str:
    """Not even a part of the key: what a server says may have been cut off in the middle of it."""
    n = min(len(key), TELLTALE)
    parts = {key[i : i + n] for i in range(len(key) - n + 1)} if key else set()
    hidden = {i + j for i in range(len(text)) if text[i : i + n] in parts for j in range(n)}
    return "".join("…" if i in hidden else c for i, c in enumerate(text) if i not in hidden or i - 1 not in hidden)


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
