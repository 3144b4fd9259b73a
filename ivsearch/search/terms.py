"""The words of a command line → the Terms of a Query: texts, pictures and clips, with weights, added or left out.

dog + ./beach.jpg - snow            2:"red car" + 0.5:rain            clip:123 + "at night"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ivsearch.domain import Query, Term
from ivsearch.errors import UsageError
from ivsearch.media.suffixes import IMAGE, VIDEO
from ivsearch.plain_text import read_clock
from ivsearch.search.region import read_region

SIGNS = {"+": 1.0, "-": -1.0}
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?|\.\d+):\s*(\S.*)", re.DOTALL)
# A lone text may begin with a time, a proportion or a title: 12:30 news, 16:9, 2001: a space odyssey.
_WEIGHS_ALONE = re.compile(r"(\d+(\.\d+)?|\.\d+):[^\s\d]")
# Looks like a weight, and is none that is known.
_ODD_WEIGHT = re.compile(r"([+-]?(?:\d[\d.,]*(?:e[+-]?\d+)?|nan|inf|infinity)):\S.*", re.DOTALL | re.IGNORECASE)
_CLIP = re.compile(r"clip:(\d+)(?:@([\d:.hms]+)-([\d:.hms]+))?")


def read_terms(words: Sequence[str]) -> tuple[Term, ...]:
    """Arguments of a command line → Terms. ``+`` and ``-`` join only as arguments of their own.

    Without them all words together are one text, unless the only one is ``clip:ID``, ``text:…``, ``image:FILE`` or the
    name of a picture file. A weight before it, as in ``2:"red car"``, changes nothing; where a digit or a space follows
    the colon, it is none. Raises UsageError with what to write instead.
    """
    if not any(word in SIGNS for word in words):
        return (_alone(words),)
    terms: list[Term] = []
    sign, group = "+", list[str]()
    for place, word in enumerate([*words, "+"]):
        if word not in SIGNS:
            group.append(word)
            continue
        if group:
            terms.append(_weighted(" ".join(group), SIGNS[sign]))
        elif place > 0:
            raise UsageError(
                f"nothing stands after {sign!r}: write a text, a picture or clip:ID there. To search for the sign "
                f"itself, quote it with its text ('a {sign} b') or write text:{sign}"
            )
        sign, group = word, []
    check_terms(terms)
    return tuple(terms)


def query_of(terms: Sequence[Term]) -> Query:
    """One plain Term as a Query of one thing, so that it stays what it was before there were Terms; else of Terms."""
    first = terms[0]
    if len(terms) > 1 or first.weight != 1 or first.start_s is not None:
        return Query(terms=tuple(terms))
    return Query(first.text, first.image, first.clip_id, region=first.region)


def terms_of(query: Query) -> tuple[Term, ...]:
    """What a Query looks for, as Terms. Raises UsageError unless exactly one thing is asked, and sensibly."""
    things = (query.text, query.image, query.clip_id, query.terms or None)
    if sum(part is not None for part in things) != 1:
        raise UsageError("ask for exactly one of a text, an image or a clip, or for terms composed of them")
    terms = query.terms or (Term(query.text, query.image, query.clip_id, region=query.region),)
    check_terms(terms)
    return terms


def check_terms(terms: Sequence[Term]) -> None:
    """Raises UsageError for Terms that make no sense, each or together."""
    for term in terms:
        if sum(part is not None for part in (term.text, term.image, term.clip_id)) != 1:
            raise UsageError("each term is exactly one of a text, an image or a clip")
        if term.text is not None and any("\ud800" <= char <= "\udfff" for char in term.text):
            raise UsageError("the text is no valid Unicode (a lone surrogate): decode it with the encoding it is in")
        if term.weight == 0 or not abs(term.weight) <= 1000:
            raise UsageError(f"a term cannot weigh {term.weight:g}: weights are above 0, at most 1000; leave it out")
        if term.region is not None and term.image is None:
            raise UsageError("a region goes with an image file")
        if (term.start_s is None) != (term.end_s is None) or (term.start_s is not None and term.clip_id is None):
            raise UsageError("start and end go together, with a clip")
    if not any(term.weight > 0 for term in terms):
        raise UsageError("say also what to look for: there is only what to leave out")


def _alone(words: Sequence[str]) -> Term:
    if _WEIGHS_ALONE.match(" ".join(words)):
        # What there is nothing to be weighed against counts as always.
        return replace(_weighted(" ".join(words), 1.0), weight=1.0)
    if len(words) == 1 and (thing := _thing(words[0])) is not None:
        return thing
    if len(words) == 1:
        _check_no_picture(words[0])
    for word in words:
        if len(words) > 1 and (word.startswith("clip:") or _picture(word)) and (thing := _thing(word)) is not None:
            raise UsageError(f"put + or - between {word} and the words: `ivsearch search {word} + at night`")
    return Term(" ".join(words).strip())


def _weighted(text: str, sign: float) -> Term:
    match = _WEIGHT.fullmatch(text)
    if match is None and (odd := _ODD_WEIGHT.fullmatch(text)) is not None:
        raise UsageError(
            f"{odd[1]!r} is no weight: write it as 2: or 0.5:, above 0 and at most 1000. To search for these words, "
            f"write text:{text}"
        )
    weight, text = (float(match[1]), match[2]) if match else (1.0, text)
    if weight == 0:
        raise UsageError(f"{text!r} has the weight 0: leave it out, or write - before it to have less of it")
    term = _thing(text)
    if term is None:
        _check_no_picture(text)
    return replace(term or Term(text), weight=sign * weight)


def _check_no_picture(text: str) -> None:
    """Raises UsageError for the name of a picture where there is none: nobody looks for such a word in pictures."""
    if " " not in text and Path(text).suffix.lower() in IMAGE:
        raise UsageError(f"{text}: no such file. To search for these words, write text:{text}")


def _thing(text: str) -> Term | None:
    """What is no plain text: marked as something, or the name of a picture."""
    kind, _, rest = text.partition(":")
    if kind == "text" and rest.strip():
        return Term(rest.strip())
    if kind == "clip":
        return _clip(text)
    if kind == "image" and rest:
        if (picture := _picture(rest)) is None:
            raise UsageError(f"{rest}: no such picture file")
        return picture
    return _picture(text)


def _clip(text: str) -> Term:
    match = _CLIP.fullmatch(text)
    start_s, end_s = (read_clock(each or "") for each in match.groups()[1:]) if match else (None, None)
    if match is None or (match[2] and (start_s is None or end_s is None or not start_s < end_s)):
        raise UsageError(
            f"{text!r}: write clip:ID, or clip:ID@START-END for a part of it. To search for these words, "
            f"write text:{text}"
        )
    return Term(clip_id=int(match[1]), start_s=start_s, end_s=end_s)


def _picture(text: str) -> Term | None:
    """``FILE`` or ``FILE#x,y,w,h``, when there is such a file and its name is that of a picture or video."""
    if _is_media(text):
        return Term(image=Path(text))
    name, _, region = text.rpartition("#")
    return Term(image=Path(name), region=read_region(region)) if name and _is_media(name) else None


def _is_media(name: str) -> bool:
    path = Path(name)
    try:
        return path.suffix.lower() in IMAGE | VIDEO and path.is_file()
    except (OSError, ValueError):
        return False  # too long, or with characters no file name has: it is a text
