"""What a reply cites: its sentences, and the clips and times named in each."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# A bracket that may cite: it begins with a number. Longer ones are prose.
BRACKET = re.compile(r"[\[［【]\s*([-−]?\d[^\[\]［］【】\n]{0,80}?)\s*[\]］】]")
# A sentence ends at its mark, with the citations that follow it; a full stop inside a name or number ends nothing.
SENTENCE = re.compile(
    r".+?(?:(?:[.!?؟।…]+(?=[\s\[［【]|$)|[。！？]+|\n)"
    r"(?:\s*[\[［【]\s*[-−]?\d[^\[\]［］【】\n]{0,80}[\]］】])*[.。]?|$)",
    re.DOTALL,
)
TIME = r"(?:\d+:)?(?:\d+:)?\d+(?:\.\d+)?"
UNIT = r"(?:\s*(?:s|sec|secs|seconds?|秒|сек\.?|с|ث|초))?"
ITEM = rf"([-]?\d+)(?:\s*(?:@|:|at\b)\s*({TIME}){UNIT}(?:\s*-\s*({TIME}){UNIT})?)?"
ITEMS = re.compile(rf"{ITEM}(?:\s*[,;]\s*{ITEM})*")
ONE_ITEM = re.compile(ITEM)
# Brackets and digits of full width become plain by NFKC; these do not.
PLAIN = str.maketrans({"–": "-", "—": "-", "−": "-", "~": "-", "〜": "-", "、": ",", "،": ",", "؛": ";"})


@dataclass(frozen=True, slots=True)
class Cite:
    """One clip named by its ``label``, with the seconds where they were named; a single time is both."""

    label: int
    start_s: float | None = None
    end_s: float | None = None


def sentences(text: str) -> list[str]:
    """With their marks and the citations that follow them."""
    return [found.strip() for found in SENTENCE.findall(text) if found.strip()]


def cites_of(sentence: str) -> tuple[Cite, ...]:
    """``[1, 2] [3 @ 1.0-2.5 s] [3: 0:01–0:02]`` → each once, in order. Other brackets are prose."""
    found = []
    for inside in BRACKET.findall(sentence):
        plain = unicodedata.normalize("NFKC", inside).translate(PLAIN).strip()
        if ITEMS.fullmatch(plain):
            found += [_cite(*item) for item in ONE_ITEM.findall(plain)]
    return tuple(dict.fromkeys(found))


def labels_of(sentence: str) -> tuple[int, ...]:
    """Each once, in order."""
    return tuple(dict.fromkeys(cite.label for cite in cites_of(sentence)))


def without_cites(sentence: str) -> str:
    return BRACKET.sub(" ", sentence)


def _cite(label: str, start: str, end: str) -> Cite:
    if not start:
        return Cite(int(label))
    start_s = _seconds(start)
    return Cite(int(label), start_s, _seconds(end) if end else start_s)


def _seconds(time: str) -> float:
    """``75.5``, ``1:15.5`` or ``0:01:15.5``."""
    total = 0.0
    for part in time.split(":"):
        total = 60 * total + float(part)
    return total
