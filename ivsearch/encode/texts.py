"""What every encoder asks of a text."""

from __future__ import annotations

from collections.abc import Sequence

from ivsearch.errors import UsageError


def check_texts(texts: Sequence[str]) -> None:
    """UsageError for a text with nothing in it, whose vector would mean nothing and match anything, and for one that
    is no Unicode: half of a surrogate pair, which stands for bytes that were no UTF-8."""
    for text in texts:
        if not text.strip():
            raise UsageError("an empty text cannot be searched for: say what to look for, such as 'a cat on a sofa'")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UsageError("the text is not valid Unicode: check the encoding of the terminal, file or script")
