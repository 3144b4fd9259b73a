"""What a reply cites: its sentences, and the clips and times named in each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# A bracket that may cite: it begins with a number. Longer ones are prose.
BRACKET = re.compile(r"[\[［【]\s*([-−]?\d[^\[\]［］【】\n]{0,80}?)\s*[\]］】]")
# A sentence ends at its mark, with the citations that follow it; a full stop inside a name or number ends nothing.
MARK = re.compile(r"[.!?؟।…。！？]+|\n")
WIDE = frozenset("。！？\n")
INSIDE = r"[\[［【]\s*[-−]?\d[^\[\]［］【】\n]{0,80}"
CITED = re.compile(rf"(?:\s*{INSIDE}[\]］】])+[.。]?")
# What may still become a citation, or a longer mark, when more comes.
PENDING = re.compile(rf"\s*(?:[\[［【]\s*[-−]?|{INSIDE})?")
OPEN = re.compile(rf"{INSIDE}$")
LONGEST_CITE = 100
# A full stop after these ends no sentence: titles and other capitals without a vowel, initials and letters with dots
# between them, numbers of a list, and what is commonly cut short.
SHORTENED = re.compile(
    r"(?:^|[\s(\"'“„«])(?:"
    r"[A-Z][b-df-hj-np-tv-xz]{1,4}|[^\W\d_]|(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}"
    r"|Prof|Capt|Gen|Col|Rev|Gov|Sen|Rep|Hon|Mme|Mlle|Sra|Srta|Dra|Sig|Dott|Ave|Inc|vs|cf|approx|ca|bzw|evtl|напр|ул"
    r")$"
)
NUMBERED = re.compile(r"(?:^|\s)(?:No|Nos|Nr|Fig|pp|Vol|Art|núm|рис|стр)$", re.IGNORECASE)
LISTED = re.compile(r"[*#\-\s]*(?:\d{1,3}|[a-zA-Z])$")
# Scripts of which a single letter is a word, and no initial.
SYLLABLE = re.compile(r"[\u0590-\u1fff\u2e80-\U0003ffff]$")
# No sentence about a clip is this long, and no reply. Characters.
LONGEST_SENTENCE = 1000
LONGEST_REPLY = 10_000
TIME = r"(?:\d+:)?(?:\d+:)?\d+(?:\.\d+)?"
# Longer ones first: the first that fits is taken.
SECONDS = (
    r"(?:seconds?|secs?\.?|secondes?|segundos?|seg\.?|sekunden?|sek\.?|second[io]|секунд[аыуе]?|сек\.?|с|"
    r"ثانية|ثوان|ثواني|ث|सेकंड|सेकेंड|सेकण्ड|से\.?|秒|초|s)"
)
UNIT = rf"(?:\s*{SECONDS})?"
# After a comma a number is another label, unless it can be nothing but a time.
AT = rf"(?:\s*(?:@|:|at\b)\s*|\s*,\s*(?=\d+[.:]\d|\d+\s*(?:-\s*\d+\s*)?{SECONDS}))"
ITEM = rf"([-]?\d+)(?:{AT}({TIME}){UNIT}(?:\s*-\s*({TIME}){UNIT})?)?"
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
    return list(sentences_of([text]))


def sentences_of(pieces: Iterable[str]) -> Iterator[str]:
    """Each as soon as what follows cannot belong to it any more, however the text is cut into ``pieces``.

    Reading ends at a sentence of LONGEST_SENTENCE characters, which is given as far as it went, and after LONGEST_REPLY
    characters in all, where what was begun last is left out.
    """
    text, looked, room = "", 0, LONGEST_REPLY
    for piece in pieces:
        text = (text + piece[:room]) if text else piece[:room].lstrip()
        room -= min(len(piece), room)
        while text:
            end, looked = _end(text[:LONGEST_SENTENCE], looked)
            if not end:
                break
            yield text[:end].rstrip()
            text, looked = text[end:].lstrip(), 0
        if len(text) >= LONGEST_SENTENCE:
            yield text[:LONGEST_SENTENCE].rstrip()
            return
        if not room:
            return
    while text:
        end, _ = _end(text, 0, last=True)
        yield text[:end].rstrip()
        text = text[end:].lstrip()


def _end(text: str, looked: int, *, last: bool = False) -> tuple[int, int]:
    """Where the first sentence ends, 0 when that is not known yet, and from where to look on then.

    ``looked``: where there is no mark before. ``last``: nothing more comes.
    """
    for mark in MARK.finditer(text, looked):
        end = mark.end()
        while cited := CITED.match(text, end):
            end = cited.end()
        if not last and PENDING.fullmatch(text, end):
            return 0, mark.start()
        if end > mark.end() or _ends(text, mark):
            return end, 0
    return (len(text), 0) if last else (0, len(text))


def _ends(text: str, mark: re.Match[str]) -> bool:
    if WIDE & set(mark.group()):
        return True
    if mark.end() < len(text) and not re.match(r"[\s\[［【]", text[mark.end()]):
        return False
    before = text[: mark.start()]
    if OPEN.search(before[-LONGEST_CITE:]):
        return False
    if mark.group() != "." or SYLLABLE.search(before):
        return True
    follows = text[mark.end() :].lstrip()
    if LISTED.fullmatch(before) or (NUMBERED.search(before[-10:]) and follows[:1].isdigit()):
        return not follows
    return not SHORTENED.search(before[-20:])


def cites_of(sentence: str) -> tuple[Cite, ...]:
    """``[1, 2] [3 @ 1.0-2.5 s] [3: 0:01–0:02]`` → each once, in order. Other brackets are prose."""
    found = []
    for inside in BRACKET.findall(sentence):
        plain = unicodedata.normalize("NFKC", inside).translate(PLAIN).strip()
        if ITEMS.fullmatch(plain):
            found += [_cite(*item) for item in ONE_ITEM.findall(plain)]
    return tuple(dict.fromkeys(found))


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
