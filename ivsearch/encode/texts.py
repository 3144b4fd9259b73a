"""What every encoder asks of a text."""

from __future__ import annotations

from collections.abc import Sequence

from ivsearch.errors import UsageError


def refuse_empty(texts: Sequence[str]) -> None:
    """UsageError for a text with nothing in it: its vector would mean nothing and match anything."""
    for text in texts:
        if not text.strip():
            raise UsageError("an empty text cannot be searched for: say what to look for, such as 'a cat on a sofa'")
