"""Each expectation is what the Unicode standard or a reader of the language says."""

from __future__ import annotations

import pytest

from ivsearch.store.text_tokens import Word, query_words, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The QUICK brown-fox, 42!", ["the", "quick", "brown", "fox", "42"]),
        ("Ｃａｆé ﬁn", ["cafe", "fin"]),  # full width, ligature, accent
        ("Straße İstanbul Łódź Ærø", ["strasse", "istanbul", "lodz", "aero"]),
        ("don't L'homme", ["don", "t", "l", "homme"]),
        ("Ёлка, ещё", ["елка", "еще"]),
        ("ΟΔΥΣΣΕΎΣ", ["οδυσσευσ"]),
        ("猫跳上沙发", ["猫跳", "跳上", "上沙", "沙发", "发"]),
        ("猫", ["猫"]),
        ("カメラを", ["カメ", "メラ", "ラを", "を"]),
        ("ｶﾒﾗが", ["カメ", "メラ", "ラが", "が"]),  # half width; the points of が stay
        ("한국어", ["한국", "국어", "어"]),
        ("สวัสดี", ["สวั", "วัส", "สดี", "ดี"]),  # vowel signs go with their letter
        ("القِطَّةُ", ["قطه"]),  # vowels, teh marbuta and the article
        ("آخر أحمد إلى ٱسم", ["اخر", "احمد", "الي", "اسم"]),
        ("والكتاب بالبيت", ["كتاب", "بيت"]),
        ("الله", ["الله"]),  # what is left would be no word
        ("كتـــاب", ["كتاب"]),  # tatweel
        ("می‌روم", ["ميروم"]),  # zero-width non-joiner, Persian yeh
        ("١٢٣ ۴۵", ["123", "45"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),  # vowel signs stay
        ("שָׁלוֹם", ["שלום"]),
        ("中文mix英文", ["中文", "文", "mix", "英文", "文"]),
        ("", []),
        (" …!? 🎬", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_every_token_is_safe_to_hand_to_a_database() -> None:
    everything = "".join(chr(code) for code in range(0x20, 0x3000) if not 0xD800 <= code < 0xE000)
    for token in tokens(everything) + tokens(everything[::-1]):
        assert not set(token) & set(" \"'*\\:&|!()<>-")
        assert 0 < len(token) <= 64


def test_a_query_in_words_phrases_and_beginnings() -> None:
    found = query_words('captain "abandon ship" light* “lower the boats”')
    assert Word("captain") in found.words
    assert Word("light", prefix=True) in found.words
    assert found.phrases == (
        (Word("abandon"), Word("ship")),
        (Word("lower"), Word("the"), Word("boats")),
    )
    assert {Word("abandon"), Word("ship"), Word("boats")} <= set(found.words)


def test_one_character_is_looked_for_as_a_beginning_and_more_as_pairs() -> None:
    assert query_words("猫").words == (Word("猫", prefix=True),)
    assert query_words("沙发上").words == (Word("沙发"), Word("发上"))
    assert query_words("a").words == (Word("a"),)


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ('5" phone and a 7" tablet', []),
        ('a 7" tablet "in the shop", he said', ["in the shop"]),
        ('say "7" now', ["7"]),
        ('("abandon ship")', ["abandon ship"]),
        ('找"你好世界"这句话', ["你好世界"]),
        ("他说“你好”了", ["你好"]),
        ("« bonjour » et „guten Tag“", ["bonjour", "guten Tag"]),
        ('"never closed', []),
    ],
)
def test_quotes_inside_or_behind_words_begin_no_phrase(query: str, phrases: list[str]) -> None:
    found = query_words(query)
    assert list(found.phrases) == [query_words(phrase).words for phrase in phrases]
    assert set(found.words) >= {Word(token) for phrase in phrases for token in tokens(phrase) if len(token) > 1}


@pytest.mark.parametrize(
    ("query", "words"),
    [("猫*", ["猫"]), ("学习*", ["学习"]), ("light* house", ["light"]), ('"dark light*"', ["light"])],
)
def test_a_star_is_for_the_word_before_it(query: str, words: list[str]) -> None:
    assert [word.token for word in query_words(query).words if word.prefix] == words


def test_of_a_long_query_the_first_words_are_looked_for() -> None:
    assert query_words(" ".join(f"word{at}" for at in range(1600))).words == tuple(
        Word(f"word{at}") for at in range(64)
    )
