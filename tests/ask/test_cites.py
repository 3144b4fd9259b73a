"""Sentences and what they cite, in the forms chat models write."""

from __future__ import annotations

import pytest

from ivsearch.ask.cites import Cite, cites_of, labels_of, sentences, without_cites


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
    assert labels_of(text) == labels


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
    ],
)
def test_times(text: str, cites: tuple[Cite, ...]) -> None:
    assert cites_of(text) == cites


def test_what_is_said_without_its_citations() -> None:
    assert without_cites("A dog [1 @ 2-3 s] runs【2】.").split() == ["A", "dog", "runs", "."]
