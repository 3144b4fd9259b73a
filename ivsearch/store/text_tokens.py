"""Text → the tokens it is found by: words where a script has spaces, overlapping pairs of characters where it has none.

What is written is what is looked for: lines and queries go through the same ``tokens``, and the database is handed the
tokens, not the text, so that SQLite and PostgreSQL find the same lines.

- compatibility forms and case are folded (NFKC, casefold), accents and points are left out: ``Ｃafé`` is ``cafe``;
- Arabic is freed of vowel signs and tatweel, its alefs, yehs, kafs and teh marbuta are made one each, and the article
  is taken off (after Larkey, Ballesteros, Connell: "Improving stemming for Arabic information retrieval", SIGIR 2002:
  their normalisation, and of their light stemmer the definite articles alone);
- Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese become overlapping pairs, each run ending with its last
  character alone: every character begins exactly one token, so one character is found as a prefix.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

LONGEST_TOKEN = 64
"""Characters of a token that are kept: what is longer is no word, and databases limit their keys."""

MOST_WORDS = 64
"""Different words of a query that are looked for: what is said in one breath has fewer."""

_MARKS = r"\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_HEBREW_POINTS = r"\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
_ARABIC_SIGNS = r"\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
_UNSEEN = r"\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff"
_LEFT_OUT = re.compile(f"[{_MARKS}{_HEBREW_POINTS}{_ARABIC_SIGNS}{_UNSEEN}]")

_LETTERS = {
    **dict(zip("ıøłđðþħŧ", "iolddtht", strict=True)),
    "æ": "ae",
    "œ": "oe",
    "ٱ": "ا",
    "ى": "ي",
    "ی": "ي",
    "ک": "ك",
    "ة": "ه",
    "ہ": "ه",
    "ە": "ه",
}
# Scripts written without spaces. (Korean has some, but its particles stick to the words.)
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_PLAIN = re.compile("[a-z0-9]+")
# The article, alone or after "and", "with", "as", "so"; "for the" is written with two lams. What stays must be a word.
_ARTICLE = re.compile(r"(?:[وبكف]?ال|لل)(?=[\u0621-\u064a]{3,}$)")
# Quotes that look the same on both sides (and stand for inches, too) begin and end a phrase where no word goes on.
_WORD = rf"(?![{_UNSPACED}])\w"
_QUOTED = re.compile(rf"""(?:[“„«]|(?<!\w)"|(?<=[{_UNSPACED}])")([^"“”„«»]+)(?:[”“»]|"(?!{_WORD}))""")


@dataclass(frozen=True, slots=True)
class _Characters:
    """``letters``: one form of each letter and digit. ``runs``: words, and runs of scripts without spaces.
    ``clusters``: a character with the signs that belong to it."""

    letters: dict[int, str]
    runs: re.Pattern[str]
    clusters: re.Pattern[str]


@cache
def _characters() -> _Characters:
    """Asked of Unicode's table when first needed: that takes a twentieth of a second."""
    digits = {
        chr(code): str(unicodedata.decimal(chr(code)))
        for code in range(0x660, 0x20000)
        if unicodedata.decimal(chr(code), None) is not None
    }
    signs = "".join(
        f"\\u{code:04x}"
        for code in range(0x80, 0x10000)
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and not _LEFT_OUT.match(chr(code))
    )
    return _Characters(
        str.maketrans({**_LETTERS, **digits}),
        re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])[^\W_]|(?![{_UNSPACED}])[{signs}])+"),
        re.compile(rf"[^{signs}][{signs}]*|[{signs}]+"),
    )


def folded(text: str) -> str:
    """The text as it is compared: no case, no accents, one form of each letter."""
    if text.isascii():
        return text.lower()
    # Kana points belong to their letter: they are no accents.
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFC", _LEFT_OUT.sub("", apart)).translate(_characters().letters)


def tokens(text: str) -> list[str]:
    """The tokens of a text, in order. Every one is made of letters, digits and their signs alone."""
    return [token for run in _runs(text) for token in run]


def _runs(text: str) -> list[list[str]]:
    """A list of one word, or of the pairs of a run of characters without spaces."""
    text = folded(text)
    if text.isascii():
        return [[word[:LONGEST_TOKEN]] for word in _PLAIN.findall(text)]
    runs = []
    for match in _characters().runs.finditer(text):
        if match["unspaced"]:
            letters = _characters().clusters.findall(match[0])
            runs.append([a + b for a, b in pairwise(letters)] + letters[-1:])
        else:
            runs.append([_ARTICLE.sub("", match[0], count=1)[:LONGEST_TOKEN]])
    return runs


@dataclass(frozen=True, slots=True)
class Word:
    """A token that is looked for; ``prefix``: also as the beginning of longer ones."""

    token: str
    prefix: bool = False

    def fits(self, token: str) -> bool:
        return token.startswith(self.token) if self.prefix else token == self.token


@dataclass(frozen=True, slots=True)
class Words:
    """What a query asks of a text: ``words`` weigh by how rare they are, every one of ``phrases`` must be there."""

    words: tuple[Word, ...]
    phrases: tuple[tuple[Word, ...], ...] = ()


def query_words(query: str) -> Words:
    """``"in quotes"`` is a phrase; a word with a ``*`` behind it is a beginning. Words after ``MOST_WORDS`` others are
    not looked for."""
    words = dict.fromkeys(word for run in _wanted(query) for word in _bare(run))
    phrases = (_phrase(each) for each in _QUOTED.findall(query))
    return Words(tuple(words)[:MOST_WORDS], tuple(phrase for phrase in phrases if phrase))


def _phrase(query: str) -> tuple[Word, ...]:
    """As the words stand in a line: there every run without spaces ends with its last character alone."""
    *runs, last = _wanted(query) or [[]]
    return tuple(word for run in (*runs, _bare(last)) for word in run)


def _wanted(query: str) -> list[list[Word]]:
    """Run by run."""
    wanted = []
    for part, star in re.findall(r"([^*]*)(\*?)", query):
        wanted += [[Word(token) for token in run] for run in _runs(part)]
        if star and wanted:
            *before, last = _bare(wanted[-1])
            wanted[-1] = [*before, Word(last.token, prefix=True)]
    return wanted


def _bare(run: list[Word]) -> list[Word]:
    """Without its last character, which ends a run only by chance: the pairs say it all. One alone is a beginning."""
    if not run or run[-1].prefix or not re.match(f"[{_UNSPACED}]", run[0].token):
        return run
    return run[:-1] if len(run) > 1 else [Word(run[0].token, prefix=True)]
