"""What was typed → Terms."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from PIL import Image

from ivsearch.domain import Query, Region, Term
from ivsearch.errors import UsageError
from ivsearch.search.terms import check_terms, query_of, read_terms, terms_of


@pytest.fixture(autouse=True)
def beach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``beach.jpg`` in the current folder."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 20), "blue").save("beach.jpg")
    return Path("beach.jpg")


@pytest.mark.parametrize(
    "words",
    [
        ["a dog"],
        ["a", "dog", "in", "the", "snow"],
        ["well-known"],
        ["C++"],
        ["a + b"],
        ["a - b"],
        ["2:30"],
        ["12:30 news"],
        ["16:9", "footage"],
        ["2001: a space odyssey"],
        ["rock'n'roll", "-ish", "+1"],
        ["no.jpg", "here"],
        ["@"],
        ["clips:12"],
        ["text:"],
        ["x" * 5000],
    ],
)
def test_one_plain_text_stays_what_it_is(words: list[str]) -> None:
    assert query_of(read_terms(words)) == Query(" ".join(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["a dog", "+", "beach.jpg", "-", "snow"],
            [Term("a dog"), Term(image=Path("beach.jpg")), Term("snow", weight=-1)],
        ),
        (["a", "dog", "+", "2:red", "car"], [Term("a dog"), Term("red car", weight=2)]),
        (["-", "0.5:snow", "+", "dog"], [Term("snow", weight=-0.5), Term("dog")]),
        (["+", ".5:dog"], [Term("dog", weight=0.5)]),
        (["clip:12", "+", "3:clip:13"], [Term(clip_id=12), Term(clip_id=13, weight=3)]),
        (["clip:12@1:30-1:32.5"], [Term(clip_id=12, start_s=90, end_s=92.5)]),
        (["clip:12@1m-95", "-", "dog"], [Term(clip_id=12, start_s=60, end_s=95), Term("dog", weight=-1)]),
        (["beach.jpg"], [Term(image=Path("beach.jpg"))]),
        (["./beach.jpg#0,0,0.5,1"], [Term(image=Path("beach.jpg"), region=Region(0, 0, 0.5, 1))]),
        (["image:beach.jpg"], [Term(image=Path("beach.jpg"))]),
        (["text:beach.jpg"], [Term("beach.jpg")]),
        (["text:+"], [Term("+")]),
        (["a", "+", "text:-"], [Term("a"), Term("-")]),
        (["dog", "+", "text:2:30"], [Term("dog"), Term("2:30")]),
        (["dog", "+", "C++", "-", "well-known"], [Term("dog"), Term("C++"), Term("well-known", weight=-1)]),
    ],
)
def test_signs_of_their_own_join(words: list[str], expected: list[Term]) -> None:
    assert list(read_terms(words)) == expected


@pytest.mark.parametrize("words", [["2:red car"], ["2:red", "car"], [".5:red car"], ["text:red car"]])
def test_a_lone_weight_is_no_part_of_the_text(words: list[str]) -> None:
    assert query_of(read_terms(words)) == Query("red car")
    assert query_of(read_terms(["text:2:red car"])) == Query("2:red car")


def test_a_file_whose_name_has_a_region_is_that_file(tmp_path: Path) -> None:
    os.link("beach.jpg", "beach#1.jpg")
    os.link("beach.jpg", "beach.jpg#0,0,1,1.png")
    assert read_terms(["beach#1.jpg"]) == (Term(image=Path("beach#1.jpg")),)
    assert read_terms(["beach.jpg#0,0,1,1.png"]) == (Term(image=Path("beach.jpg#0,0,1,1.png")),)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dog", "+"], r"nothing stands after '\+': write a text.* \('a \+ b'\) or write text:\+"),
        (["dog", "-", "+", "cat"], "nothing stands after '-': .*write text:-"),
        (["-"], "nothing stands after '-'"),
        (["-", "snow"], "say also what to look for: there is only what to leave out"),
        (["0:snow"], "'snow' has the weight 0"),
        *(
            (["dog", "+", f"{odd}:snow"], f"{re.escape(repr(odd))} is no weight: write it as 2: or 0.5:")
            for odd in ("1e9", "nan", "inf", "-1", "+2", "1,5", "NaN", "-1e3")
        ),
        (["dog", "+", "1,5:snow"], "To search for these words, write text:1,5:snow"),
        (["dog", "+", "0:snow"], "'snow' has the weight 0: leave it out, or write - before it"),
        (["dog", "+", "2000:snow"], "cannot weigh 2000: weights are above 0, at most 1000"),
        (["dog", "+", "no.jpg"], r"no\.jpg: no such file. To search for these words, write text:no\.jpg"),
        (["no.jpg"], r"no\.jpg: no such file. To search for these words, write text:no\.jpg"),
        (["nul\0.jpg"], "no such file"),
        (["image:no.jpg"], r"no\.jpg: no such picture file"),
        (["clip:twelve"], "'clip:twelve': write clip:ID, or clip:ID@START-END .*write text:clip:twelve"),
        (["clip:12@5-3"], "'clip:12@5-3': write clip:ID, or clip:ID@START-END"),
        (["beach.jpg", "at", "night"], r"put \+ or - between beach\.jpg and the words: `ivsearch search beach\.jpg \+"),
        (["clip:12", "night"], r"put \+ or - between clip:12 and the words"),
        (["beach.jpg#1,2", "+", "dog"], "'1,2' is not a region"),
    ],
)
def test_what_makes_no_sense_is_told_with_what_to_write(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_terms(words)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (Term(), "each term is exactly one of a text, an image or a clip"),
        (Term("a", clip_id=1), "each term is exactly one of"),
        (Term("a", weight=0), "cannot weigh 0"),
        (Term("a", weight=float("nan")), "cannot weigh nan"),
        (Term("a", region=Region(0, 0, 1, 1)), "a region goes with an image file"),
        (Term(clip_id=1, start_s=1.0), "start and end go together, with a clip"),
        (Term("a", start_s=1.0, end_s=2.0), "start and end go together, with a clip"),
        (Term("a", weight=-1), "say also what to look for"),
    ],
)
def test_terms_made_in_python_are_checked_too(term: Term, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_terms([term])


@pytest.mark.parametrize("query", [Query(), Query("a", clip_id=1), Query("a", terms=(Term("b"),))])
def test_a_query_asks_one_thing(query: Query) -> None:
    with pytest.raises(UsageError, match="ask for exactly one of a text, an image or a clip, or for terms composed"):
        terms_of(query)
