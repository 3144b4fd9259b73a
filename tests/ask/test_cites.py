"""Sentences and what they cite, in the forms chat models write."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ivsearch.ask.cites import (
    LONGEST_REPLY,
    LONGEST_SENTENCE,
    Cite,
    cites_of,
    sentences,
    sentences_of,
    without_cites,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("A dog [1]. A cat [2].", ["A dog [1].", "A cat [2]."]),
        ("A dog. [1] A cat! [2, 3]", ["A dog. [1]", "A cat! [2, 3]"]),
        ("In a.mp4 at 0:12.5 a dog runs [1]", ["In a.mp4 at 0:12.5 a dog runs [1]"]),
        ("有一只狗[1]。有一只猫[2]。", ["有一只狗[1]。", "有一只猫[2]。"]),
        ("有一只狗。【1 @ 12.0-15.0 秒】有一只猫。［2］", ["有一只狗。【1 @ 12.0-15.0 秒】", "有一只猫。［2］"]),
        ("كلب [1]. هل هناك قطة؟ نعم [2].", ["كلب [1].", "هل هناك قطة؟", "نعم [2]."]),
        ("- a dog [1]\n- a cat [2]", ["- a dog [1]", "- a cat [2]"]),
        ("A dog. [1 @ 12.0-15.5 s] A cat [2 @ 1.0 s].", ["A dog. [1 @ 12.0-15.5 s]", "A cat [2 @ 1.0 s]."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a [1] b [2]", (1, 2)),
        ("a [2, 1] [2]", (2, 1)),
        ("一只狗【3】", (3,)),
        ("［4］", (4,)),
        ("［１２］", (12,)),
        ("(5) 6 [x]", ()),
        ("[12]", (12,)),
        ("[0] [-1] [99]", (0, -1, 99)),
        ("[1، 2] [3、4]", (1, 2, 3, 4)),
        ("[2019 report] [1st] [1 dog]", ()),
        ("[]", ()),
    ],
)
def test_labels(text: str, labels: tuple[int, ...]) -> None:
    assert tuple(dict.fromkeys(cite.label for cite in cites_of(text))) == labels


@pytest.mark.parametrize(
    ("text", "cites"),
    [
        ("[1 @ 12.0-15.0 s]", (Cite(1, 12.0, 15.0),)),
        ("[1@12s–15s]", (Cite(1, 12.0, 15.0),)),
        ("[1 @ 12.5 s]", (Cite(1, 12.5, 12.5),)),
        ("[1: 0:12–0:15]", (Cite(1, 12.0, 15.0),)),
        ("[2: 1:02:03 - 1:02:04.5]", (Cite(2, 3723.0, 3724.5),)),
        ("[1 @ 12.0-15.0 s, 2]", (Cite(1, 12.0, 15.0), Cite(2))),
        ("[1 @ 1-2 s; 1 @ 4-5 s]", (Cite(1, 1.0, 2.0), Cite(1, 4.0, 5.0))),
        ("［1：0:12—0:15］", (Cite(1, 12.0, 15.0),)),
        ("【1 @ 12.0〜15.0 秒】", (Cite(1, 12.0, 15.0),)),
        ("[1 at 3 seconds]", (Cite(1, 3.0, 3.0),)),
        ("[1] [1]", (Cite(1),)),
        ("[1 @ soon]", ()),
        ("[1, 12.0-15.0 s]", (Cite(1, 12.0, 15.0),)),
        ("[1, 0:12–0:15]", (Cite(1, 12.0, 15.0),)),
        ("[1, 12 s]", (Cite(1, 12.0, 12.0),)),
        ("[1, 12-15 с]", (Cite(1, 12.0, 15.0),)),
        ("[1, 2, 3]", (Cite(1), Cite(2), Cite(3))),
        ("[1, 2 @ 3 s]", (Cite(1), Cite(2, 3.0, 3.0))),
        ("[1 @ 3 segundos]", (Cite(1, 3.0, 3.0),)),
    ],
)
def test_times(text: str, cites: tuple[Cite, ...]) -> None:
    assert cites_of(text) == cites


def test_what_is_said_without_its_citations() -> None:
    assert without_cites("A dog [1 @ 2-3 s] runs【2】.").split() == ["A", "dog", "runs", "."]


TEXTS = [
    "A dog runs. [1] A cat sits. [2]",
    "狗在跑。[1]猫坐着。[2]",
    "A dog runs [1 @ 12.0-15.0 s]. Next [2].",
    "A dog.\n\n[1] [2]. A cat! [red] Why? [3",
    "1. A dog [1].\n2. Mr. Smith, e.g. here [2].",
    "He is 3. [1] No. 5 comes... [2]",
]


@pytest.mark.parametrize("text", TEXTS)
def test_however_a_text_comes_its_sentences_are_the_same(text: str) -> None:
    for size in range(1, len(text)):
        for first in range(size):
            pieces = [text[:first], *(text[i : i + size] for i in range(first, len(text), size))]
            assert list(sentences_of(pieces)) == sentences(text)


def test_a_citation_after_the_full_stop_is_waited_for() -> None:
    pieces = ["A dog runs.", " [", "1", "]", " A cat sits.", " [", "2", "]"]
    assert list(sentences_of(pieces)) == ["A dog runs. [1]", "A cat sits. [2]"]


def test_a_sentence_comes_when_the_next_has_begun() -> None:
    taken: list[str] = []

    def pieces() -> Iterator[str]:
        for piece in ("A dog [1].", " ", "A", " cat [2]."):
            taken.append(piece)
            yield piece

    coming = sentences_of(pieces())
    assert next(coming) == "A dog [1]."
    assert taken == ["A dog [1].", " ", "A"]


@pytest.mark.parametrize(
    "text",
    [
        "It is not true that Mr. Smith has a pink car [1].",
        "It is not the case, e.g. here, that J. F. Smith sits [1].",
        "Das ist nicht, z.B. hier, Dr. Meier [1].",
        "1. A dog runs [1].",
        "This is not the No. 5 bus [1].",
        "Это не г. Москва [1].",
    ],
)
def test_what_is_cut_short_ends_no_sentence(text: str) -> None:
    assert sentences(text) == [text]
    assert sentences(f"{text} A cat [2].") == [text, "A cat [2]."]


@pytest.mark.parametrize("text", ["They watch TV. A cat.", "이것은 개. 고양이.", "No. A cat.", "I see 3. A cat."])
def test_what_only_looks_so_ends_one(text: str) -> None:
    assert len(sentences(text)) == 2


@pytest.mark.parametrize(
    "pieces",
    [["\n"] * 4000, ["."] * 20_000, ["x "] * 20_000, ["a. ", *[" "] * 20_000], ["[1 "] * 20_000, ["a. "] * 20_000],
)
def test_a_server_cannot_keep_a_reader_busy(pieces: list[str]) -> None:
    started = time.process_time()
    found = list(sentences_of(pieces))
    assert time.process_time() - started < 1
    assert all(len(each) <= LONGEST_SENTENCE for each in found)
    assert sum(map(len, found)) <= LONGEST_REPLY
