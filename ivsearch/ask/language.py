"""Which language a question is in: by its script, then by its commonest words.

Only what the phrase tables speak is told apart; anything else counts as English.
"""

from __future__ import annotations

import re
import unicodedata

LANGUAGES = ("en", "zh", "ja", "fr", "es", "de", "ru", "ar", "it", "pt", "ko", "hi")

# The first character of any of these scripts decides. Kana come before Han: Japanese mixes both, Chinese does not.
SCRIPTS = (
    ("ja", re.compile(r"[\u3041-\u30ff]")),
    ("ko", re.compile(r"[\u1100-\u11ff\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
)

# Words that are frequent in questions and do not mean something else in a neighbouring language. A word that two
# languages share counts for both.
COMMON = {
    "en": "the a an of in on at is are was were be been do does did what which who whose when where why how many much "
    "there this that these those it its he she they them his her and or to from with for any some can has have show "
    "me find not after before by you",
    "fr": "le la les l un une des du de d est sont a ont qu que quoi qui quel quelle quels quelles quand où comment "
    "pourquoi combien est-ce il elle ils elles ce cet cette ces et ou dans sur avec pour au aux en y son sa ses se "
    "fait montre-moi pas après avant c n",
    "es": "el la los las un una unos unas de del es son está están hay qué que quién quiénes cuál cuáles cuándo dónde "
    "cómo por cuánto cuántos cuántas él ella ese esa este esta esto eso y o en con para al se su sus lo hace no "
    "después antes muéstrame",
    "de": "der die das den dem des ein eine einen einem einer ist sind war waren hat haben was wer wen wem wie wo wann "
    "warum wieso welche welcher welches welchen viele und oder in im am auf mit von zu zum für es er sie man gibt dort "
    "da nicht nach vor danach davor zeig mir sein ihr seine ihre macht passiert",
    "it": "il lo la i gli le un uno una di del della dello dei delle è sono c'è ci che cosa cos chi quale quali quando "
    "dove come perché quanto quanti quante e o in nel nella su sul con per da al alla si suo sua non dopo prima fa "
    "questo questa mostrami l dov",
    "pt": "o a os as um uma uns umas de do da dos das é são está estão há que quem qual quais quando onde como porquê "
    "porque quanto quantos quantas e ou em no na nos nas com para por ao à se seu sua ele ela não depois antes isso "
    "isto este esta faz mostre",
}
WORDS = {language: frozenset(words.split()) for language, words in COMMON.items()}
# Those of them that hold a description together: they ask nothing, and an encoder reads sentences better than lists.
JOINING = {
    "en": "the a an of in on at with from to for by not and or his her him some any",
    "fr": "le la les l un une des du de d et ou dans sur avec pour au aux en son sa ses se",
    "es": "el la los las un una unos unas de del y o en con para al se su sus",
    "de": "der die das den dem des ein eine einen einem einer und oder in im am auf mit von zu zum für sein seine ihr",
    "it": "il lo la i gli le un uno una di del della dello dei delle e o in nel nella su sul con per da al suo sua",
    "pt": "o a os as um uma umas de do da dos das e ou em no na nos nas com para por ao à se seu sua",
}
ASKING = {language: words - frozenset(JOINING[language].split()) for language, words in WORDS.items()}

# Letters that one of the Latin-script languages uses and the others hardly do.
LETTERS = (("de", "ßäöü"), ("es", "ñ¿¡"), ("pt", "ãõ"), ("fr", "œêç"))
# How words often end. It decides where common words do not: "de", "un" and "en" are Spanish as well as French.
ENDINGS = {
    "es": re.compile(r"(os?|as?|ón|dor)$"),
    "fr": re.compile(r"(ée?s?|eaux?|eux|euse|que)$"),
    "de": re.compile(r"(ung|isch|chen|en|er)$"),
    "it": re.compile(r"(tà|zione|tt[oi]|gli|cchi[oi])$"),
    "pt": re.compile(r"(ção|ões|inh[oa]|gem)$"),
}


def language_of(text: str) -> str:
    """One of LANGUAGES; English when nothing speaks for another."""
    text = unicodedata.normalize("NFC", text)
    for language, script in SCRIPTS:
        if script.search(text):
            return language
    return _latin_language(text.lower().replace("’", "'"))


def _latin_language(text: str) -> str:
    words = re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text)
    votes = {language: 1.0 * sum(word in common for word in words) for language, common in WORDS.items()}
    for language, letters in LETTERS:
        votes[language] += 2 * any(letter in text for letter in letters)
    for language, ending in ENDINGS.items():
        votes[language] += 0.2 * sum(ending.search(word) is not None for word in words)
    # The order of COMMON breaks ties: English first.
    return max(votes, key=lambda language: votes[language])


# What is quoted may be in any language.
QUOTED = re.compile(r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』")
# Characters of Chinese that Japanese does not write, and some that it writes in other words.
CHINESE = re.compile(r"[这這们們没吗嗎么麼个她您哪呢说让给边还]")
LIKELY_CHINESE = re.compile(r"[的了着著是在有里裡]")
HAN, KANA = re.compile(r"[\u3400-\u9fff]"), re.compile(r"[\u3041-\u30ff]")
# How many of its commonest words more than the language's own make it another one.
MARGIN = 2


def without_quotes(text: str) -> str:
    return QUOTED.sub(" ", text)


def speaks_another(text: str, language: str) -> bool:
    """Whether a text is in another language, as far as that is plain: names, numbers and what is quoted are in none."""
    text = unicodedata.normalize("NFC", without_quotes(text))
    if language in ("zh", "ja"):
        n_kana, n_han = len(KANA.findall(text)), len(HAN.findall(text))
        if language == "zh" and n_kana > n_han:
            return True
        if language == "ja" and not n_kana and (CHINESE.search(text) or len(set(LIKELY_CHINESE.findall(text))) > 1):
            return True
    own, foreign = _letters(text, language)
    if language not in WORDS:
        # Its own words count by the letter, where they are written without spaces.
        prose = re.findall(r"\b[a-zà-ÿ]{2,}\b", re.sub(r"\w*[A-ZÀ-Þ\d]\w*", " ", text))
        return foreign > own or len(prose) > own / 2
    if foreign >= max(own, 1):
        return True
    words = re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text.lower().replace("’", "'"))
    mine = WORDS[language]
    return any(
        sum(word in other and word not in mine for word in words)
        - sum(word in mine and word not in other for word in words)
        >= MARGIN
        for other in WORDS.values()
    )


def _letters(text: str, language: str) -> tuple[int, int]:
    """How many letters are of the language's own script, and of another one that is not Latin."""
    counts = {name: len(script.findall(text)) for name, script in SCRIPTS}
    if language == "ja":
        return counts.pop("ja") + counts.pop("zh"), sum(counts.values())
    if language in counts:
        # Kana in Chinese, and Han in Korean, are names.
        own = counts.pop(language)
        return own, sum(
            n for name, n in counts.items() if (language, name) not in (("zh", "ja"), ("ko", "zh")) or not own
        )
    return len(re.findall(r"[a-zA-Z\u00c0-\u024f]", text)), sum(counts.values())


# With these a sentence says that something is not, or not there. Spaced scripts: whole words.
DENIALS = {
    "en": re.compile(
        r"\b(no|not|never|none|nothing|nobody|without|neither|nor|cannot|absent|missing|lacks?|"
        r"(?:is|are|was|were|does|do|did|has|have|ca|could|wo|would|should)n't)\b"
    ),
    "fr": re.compile(r"\b(ne|pas|aucune?|jamais|rien|sans|ni)\b|\bn'"),
    "es": re.compile(r"\b(no|ningún|ninguna?|nunca|nada|nadie|sin|ni)\b"),
    "de": re.compile(r"\b(nicht|keine?[nmrs]?|nie|niemand|nichts|ohne|weder)\b"),
    "it": re.compile(r"\b(non|nessun[oa]?|mai|niente|nulla|senza|né)\b"),
    "pt": re.compile(r"\b(não|nenhuma?|nunca|nada|ninguém|sem|nem)\b"),
    "ru": re.compile(r"\b(не|нет|ни|нельзя|никто|никого|ничего|никогда|никак\w*|без|отсутству\w*)\b"),
    # Not in words for things: drones, stainless steel, wireless, different.
    "zh": re.compile(r"[没沒]|不(?![锈鏽同少断斷仅僅])|[无無](?!人机|人機|线|線)|未(?![来來成])|非(?!洲|常)"),
    "ja": re.compile(r"(?<![少危])ない|なし|なかっ|ません|無[いし]|いいえ|違い?ます"),
    "ko": re.compile(r"없|않|아니|아닙|(?:^|\s)[안못]\s|(?<=[가-힣])\s못"),
    "ar": re.compile(r"\b(لا|ليس|ليست|لم|لن|بدون|دون|غير|بلا|كلا)\b"),
    "hi": re.compile(r"नहीं|नही|बिना|(?:^|\s)न(?:\s|$)"),
}
