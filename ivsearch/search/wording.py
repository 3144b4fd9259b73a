"""wording: rows of words on screen in two pictures that look the same → whether they are the same words.

The next slide of a template differs in a few letters that a thumbnail does not show. Words read by OCR do: of copies
encoded anew every row is found again, of other slides some row has no partner either way. Measured on drawn slides;
figures in benchmarks/LOG.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

# Rows that share so much of their letters are one row, read a little differently.
SAME_ROW = 0.9
# With fewer letters a row is a channel's logo or a bit of something else.
LETTERS = 4
READABLE = 360
"""The shorter side of a picture, in pixels, below which its words are misread too often to say anything."""


def differ(one: Sequence[str], other: Sequence[str], *, still: bool) -> bool:
    """Whether each has a row that the other has not: rows that only one has may have been missed in the other. In a
    ``still`` numbers must be the same, too; in a video a clock runs, and no two copies are sampled at the same frame.
    """
    a, b = _rows(one), _rows(other)
    return _any_alone(a, b, still) and _any_alone(b, a, still)


def _rows(lines: Sequence[str]) -> list[str]:
    rows = (re.sub(r"\W+", "", line.casefold()) for line in lines)
    return [row for row in rows if len(row) >= LETTERS]


def _any_alone(rows: Sequence[str], others: Sequence[str], still: bool) -> bool:
    return any(not any(_is_same(row, other, still) for other in others) for row in rows)


def _is_same(row: str, other: str, still: bool) -> bool:
    if row == other:
        return True
    if still and re.findall(r"\d", row) != re.findall(r"\d", other):
        return False
    return SequenceMatcher(None, row, other, autojunk=False).ratio() >= SAME_ROW
