"""Asked again: does the cited clip show what was said? A question to the chat model itself, answered yes or no."""

from __future__ import annotations

import dataclasses
import re

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.evidence import Shown
from ivsearch.domain import Aim, Turn
from ivsearch.errors import AnswerCut

MAX_NEW_TOKENS = 16

# The first of these words in the reply decides. English is understood whatever the language of the question is.
YES = {
    "en": ("yes", "true"),
    "zh": ("是", "对", "對", "正确"),
    "ja": ("はい", "正しい"),
    "fr": ("oui", "vrai"),
    "es": ("sí", "verdadero"),
    "de": ("ja", "richtig"),
    "ru": ("да", "верно"),
    "ar": ("نعم", "صحيح"),
    "it": ("sì", "vero"),
    "pt": ("sim", "verdadeiro"),
    "ko": ("네", "예", "맞"),
    "hi": ("हाँ", "हां"),
}
NO = {
    "en": ("no", "not", "false"),
    "zh": ("不", "否", "没", "错"),
    "ja": ("いいえ", "違", "誤"),
    "fr": ("non", "faux"),
    "es": ("no", "falso"),
    "de": ("nein", "falsch", "nicht"),
    "ru": ("нет", "неверно", "не"),
    "ar": ("لا", "خطأ"),
    "it": ("no", "falso"),
    "pt": ("não", "falso"),
    "ko": ("아니", "틀"),
    "hi": ("नहीं",),
}
# Scripts in which words are not set apart, take endings, or end in marks that are no letters.
JOINED = frozenset({"zh", "ja", "ko", "ar", "hi"})


def confirms(said: str, shown: Shown, language: str, chat: ChatModel) -> bool:
    """Whether the chat model, shown the cited span alone, says yes. Anything but a yes is a no, also one about nothing:
    the clip may be gone by now."""
    yes, no = YES[language][0], NO[language][0]
    asked = (
        "Look at this clip alone. Is this statement true of what it shows? "
        f"Statement: {said} Answer with one word, {yes} or {no}."
    )
    # One clip, one label: what it was called among others would only confuse.
    evidence = dataclasses.replace(shown.evidence, label=1)
    try:
        reply = "".join(chat.reply([Turn(asked, "", Aim.VERDICT)], [evidence], max_new_tokens=MAX_NEW_TOKENS))
    except AnswerCut:
        return False
    return not chat.missed and says_yes(reply, language)


def says_yes(reply: str, language: str) -> bool:
    """The first yes or no in it, in the language or in English. Without any: no."""
    first: list[tuple[int, bool]] = []
    for words, meaning in ((YES, True), (NO, False)):
        for spoken in dict.fromkeys((language, "en")):
            pattern = "|".join(rf"{word}" if spoken in JOINED else rf"\b{word}\b" for word in words[spoken])
            if found := re.search(pattern, reply.lower()):
                first.append((found.start(), meaning))
    # Where both begin at the same place ("不是"), it is a no.
    return bool(first) and min(first)[1]
