"""Reading a question: its language, what sort of answer it wants, and whether it leans on the conversation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

from ivsearch.ask.language import ASKING, WORDS, language_of
from ivsearch.scoring.vocabulary import COLUMNS, kind_names

# Vowel signs of Indian scripts are no letters to ``\w``, and stand inside words.
_WORD = re.compile(r"[\w\u0900-\u0963\u0966-\u0dff]+(?:[-'][\w\u0900-\u0963\u0966-\u0dff]+)*")
# Scripts that write no spaces, or hang articles and particles on words.
JOINED = frozenset({"zh", "ja", "ko", "ar"})


class Sort(StrEnum):
    """What is asked for. All but PLACE and OPEN are beyond an encoder, and the answer says so.

    In this order: the first whose pattern matches decides.
    """

    COUNT = "count"
    WHO = "who"
    WHY = "why"
    COLOUR = "colour"
    WRITING = "writing"
    PLACE = "place"
    """When, where, show me: the times and names are the answer."""
    DOING = "doing"
    YES_NO = "yes_no"
    OPEN = "open"


# What names, times and a few words for what is seen can answer.
ANSWERABLE = frozenset({Sort.PLACE, Sort.OPEN})


class Step(StrEnum):
    AFTER = "after"
    BEFORE = "before"


@dataclass(frozen=True, slots=True)
class Question:
    """``kind`` is the kind of vocabulary word asked for (which animal?).

    ``content``: the words that say something about the footage; may be empty. ``described``: the question less what
    asks, which is a description, or all of it where nothing is left. ``leans``: it needs the question before.
    """

    text: str
    language: str
    sort: Sort
    kind: str | None
    step: Step | None
    content: str
    described: str
    leans: bool


@cache
def _patterns() -> dict[tuple[str, str], re.Pattern[str]]:
    """(what, language) to its pattern, from ``data/asking.tsv``."""
    text = files("ivsearch.ask").joinpath("data", "asking.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {(what, language): re.compile(pattern) for what, language, pattern in rows}


def _tells(what: str, question: str, language: str) -> bool:
    pattern = _patterns().get((what, language))
    return pattern is not None and pattern.search(question) is not None


def read_question(text: str) -> Question:
    """Needs nothing but the text itself."""
    language = language_of(text)
    lowered = text.lower().replace("’", "'").lstrip(" ¿¡'\"“«")
    sort = next((sort for sort in Sort if _tells(sort, lowered, language)), Sort.OPEN)
    step = next((step for step in Step if _tells(step, lowered, language)), None)
    content = _rest(lowered, language, WORDS)
    described = (_rest(lowered, language, ASKING) if content else "") or text
    leans = not content or _tells("back", lowered, language)
    return Question(text, language, sort, _kind(lowered, language), step, content, described, leans)


def _rest(text: str, language: str, common: Mapping[str, frozenset[str]]) -> str:
    """What is left of it without the frame of a question and the language's ``common`` words, in its order."""
    frame = _patterns().get(("frame", language))
    rest = text if frame is None else frame.sub(" ", text)
    left_out = common.get(language, frozenset())
    return " ".join(word for word in _WORD.findall(rest) if word not in left_out)


def _kind(text: str, language: str) -> str | None:
    """The kind that a word of the question names, the first one named."""
    column = COLUMNS.index(language) if language in COLUMNS else 0
    found = []
    for kind, columns in kind_names().items():
        for name in columns[column].lower().split(","):
            # Plurals and cases hang on at the end; joined scripts have no word boundaries at all.
            pattern = name if language in JOINED else rf"\b{name[:-1] if language == 'ru' else name}"
            if match := re.search(pattern, text):
                found.append((match.start(), kind))
    return min(found)[1] if found else None
