"""Texts that others wrote, such as file names and what a model says, as they may go to a terminal or another model."""

from __future__ import annotations

import re
import unicodedata

# Embeddings, overrides and isolates of writing direction (Unicode Standard Annex 9): what follows them reads backwards.
TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
LONGEST_LINE = 300


def steers(character: str) -> bool:
    """Whether it moves the cursor, ends the line, turns what follows, or is no character at all. Joiners do none of
    that: Persian, Hindi and emoji are written with them."""
    return _breaks(character) or _turns(character)


def printable(text: str) -> str:
    """A file name on one line, with what steers or cannot be seen written out. Bytes that are no text stay so: only
    then is it still the name of the file."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)


def steady(text: str) -> str:
    """A text of several lines, as it is, with what steers written out."""
    return "".join(repr(c)[1:-1] if steers(c) and c not in "\n\t" else c for c in text)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Prose on one line of at most ``longest`` characters and a sign that there was more, with nothing in it that
    steers."""
    line = " ".join("".join(" " if _breaks(c) else c for c in text if not _turns(c)).split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def clock(time_s: float) -> str:
    """``0:07.5``, ``12:00``, ``1:02:03``: as players show it, with tenths only where there are some."""
    tenths = round(time_s * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 else "")
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def read_clock(text: str) -> float | None:
    """``90``, ``1:30``, ``1:02:03``, ``2m``, ``1h30m``, ``45s`` → seconds; None when it is no length of time."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"(\d+:)?\d+:\d+(\.\d+)?", text):
        total = 0.0
        for part in text.split(":"):
            total = total * 60 + float(part)
        return total
    match = re.fullmatch(r"(?=.)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if match is None:
        return None
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest


def _breaks(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _turns(character: str) -> bool:
    return unicodedata.bidirectional(character) in TURNING
