"""Asked again: does the cited clip show what was said? A question to the chat model itself, answered yes or no."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

from ivsearch.ask.chat import ChatModel
from ivsearch.ask.evidence import Shown
from ivsearch.ask.language import DENIALS
from ivsearch.domain import Aim, Turn
from ivsearch.errors import AnswerCut

MAX_NEW_TOKENS = 16

# What a reply begins with that is a yes; the first is what is asked for. English is understood in every language. In
# scripts that write no spaces it is all of the first clause.
YES = {
    "en": ("yes", "true", "correct"),
    "zh": ("是", "是的", "对", "對", "对的", "對的", "正确", "正確"),
    "ja": ("はい", "そうです", "正しい", "正しいです"),
    "fr": ("oui", "vrai"),
    "es": ("sí", "verdadero", "cierto"),
    "de": ("ja", "richtig", "wahr"),
    "ru": ("да", "верно", "правда"),
    "ar": ("نعم", "صحيح"),
    "it": ("sì", "vero"),
    "pt": ("sim", "verdadeiro"),
    "ko": ("네", "예", "맞아요", "맞습니다", "네 맞습니다"),
    "hi": ("हाँ", "हां", "सही", "जी हाँ"),
}
NO = {
    "en": "no",
    "zh": "不是",
    "ja": "いいえ",
    "fr": "non",
    "es": "no",
    "de": "nein",
    "ru": "нет",
    "ar": "لا",
    "it": "no",
    "pt": "não",
    "ko": "아니요",
    "hi": "नहीं",
}
# A yes with one of these in it is none.
HEDGES = {
    "en": r"\b(maybe|perhaps|possibly|probably|partly|partially|unclear|unsure|uncertain|but|however|though|may|might|"
    r"could|would|if|whether|unable|hard|difficult|seems?|false|incorrect|or|guess|assume)\b",
    "zh": r"可能|也许|也許|或许|或許|大概|好像|似乎|但|如果|难|難|错|錯|否",
    "ja": r"かも|たぶん|おそらく|が、|けど|しかし|もし|分か|わか|難し|誤",
    "fr": r"\b(peut-être|probablement|mais|si|partiellement|difficile|impossible|faux|semble|ou|non)\b",
    "es": r"\b(quizás?|tal vez|probablemente|pero|parcialmente|difícil|imposible|falso|parece|o)\b",
    "de": r"\b(vielleicht|wahrscheinlich|vermutlich|möglicherweise|aber|teilweise|unklar|wenn|ob|falsch|scheint|oder|"
    r"nein|jedoch|schwer)\b",
    "ru": r"\b(возможно|может|вероятно|наверное|но|частично|неясно|неверно|если|трудно|кажется|или|ли)\b",
    "ar": r"\b(ربما|لكن|ولكن|قد|يبدو|جزئيا|محتمل|إذا|أو|خطأ)\b",
    "it": r"\b(forse|probabilmente|ma|però|parzialmente|difficile|impossibile|falso|sembra|se|o|no)\b",
    "pt": r"\b(talvez|provavelmente|mas|parcialmente|difícil|impossível|falso|parece|se|ou)\b",
    "ko": r"아마|지만|그러나|어렵|모르|틀|것 같|확인할 수|만약",
    "hi": r"शायद|लेकिन|किंतु|मगर|अगर|यदि|गलत|ग़लत|लगता|मुश्किल",
}
JOINED = frozenset({"zh", "ja"})
# Punctuation, quotes and markdown. Joiners and marks of letters are none.
BETWEEN = r"\s!-&(-,.-/:-@\[-`{-~«»“”„‘‚「」『』。、，．！？；：،؛؟।…–—·"


def confirms(said: str, shown: Shown, language: str, chat: ChatModel) -> bool:
    """Whether the chat model, shown the cited span alone, says yes. Anything but a yes is a no, also one about nothing:
    the clip may be gone by now."""
    yes, no = YES[language][0], NO[language]
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
    """Whether it begins with a yes, in the language or in English, and nothing in it takes that back."""
    text = unicodedata.normalize("NFC", reply.lower().replace("’", "'"))
    spoken = tuple(dict.fromkeys((language, "en")))
    if any(DENIALS[each].search(text) or re.search(HEDGES[each], text) for each in spoken):
        return False
    return any(_begins_with_yes(text, each) for each in spoken)


def _begins_with_yes(text: str, language: str) -> bool:
    begun = re.sub(rf"^[{BETWEEN}']+", "", text)
    if language in JOINED:
        return re.split(rf"[{BETWEEN}]", begun)[0] in YES[language]
    return any(re.match(rf"{word}(?:[{BETWEEN}']|$)", begun) for word in YES[language])
