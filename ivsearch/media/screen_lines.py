"""Rows of words in frame after frame → lines with the times they are on screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ivsearch.domain import TextLine
from ivsearch.media.ocr import Words

SAME = 0.8
"""Rows of two frames in a row that share so much of their letters are one, read a little differently."""


@dataclass(slots=True)
class _Open:
    """Words that were on screen in the frame before."""

    start_s: float
    end_s: float
    best: Words


def screen_lines(frames: Sequence[tuple[float, float, Sequence[Words]]]) -> list[TextLine]:
    """``frames``: (start, end, rows) in order of time. A row stays one line while it is seen in every frame."""
    lines: list[_Open] = []
    before: list[_Open] = []
    for start_s, end_s, rows in frames:
        now: list[_Open] = []
        for row in rows:
            same = next((each for each in before if _is_same(each.best.text, row.text)), None)
            if same is None:
                now.append(_Open(start_s, end_s, row))
                lines.append(now[-1])
                continue
            before.remove(same)
            same.end_s = end_s
            same.best = max(same.best, row, key=lambda each: each.confidence)
            now.append(same)
        before = now
    lines.sort(key=lambda line: line.start_s)
    return [TextLine(line.start_s, line.end_s, line.best.text) for line in lines]


def _is_same(a: str, b: str) -> bool:
    return a == b or SequenceMatcher(None, a, b, autojunk=False).ratio() >= SAME
