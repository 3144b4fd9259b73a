"""The leash: what a chat model may say. Replies are literal; evidence, encoder and library are real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from ivsearch.ask import answer_question
from ivsearch.ask.citations import Checked, check_reply, labels_of, sentences
from ivsearch.ask.finding import Finding, look
from ivsearch.ask.question import read_question
from ivsearch.domain import Evidence, Filters, Turn
from ivsearch.library import Library

ASKED = "Where is the cat?"


class Says:
    """A chat model that gives a reply written by the test."""

    name = "says"

    def __init__(self, reply: str, *, watches: bool = False, languages: frozenset[str] | None = None) -> None:
        self.text, self.watches, self.languages = reply, watches, languages
        self.heard: list[tuple[Sequence[Turn], Sequence[Evidence]]] = []

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        self.heard.append((turns, evidence))
        yield from self.text.partition(" ")


@pytest.fixture(scope="module")
def finding(sample_library: Library) -> Finding:
    found = look(read_question(ASKED), sample_library.searcher(), 8, Filters(paths=("pet.jpg", "table.jpg")), ())
    assert found.shown[0].evidence.hit.path.name == "pet.jpg"
    assert "cat" in {concept.name for concept in found.shown[0].evidence.sees}
    return found


def check(library: Library, finding: Finding, reply: str, *, question: str = ASKED, watches: bool = False) -> Checked:
    return check_reply(reply, read_question(question), finding, Says(reply, watches=watches), library.encoder)


@pytest.mark.parametrize("watches", [False, True])
def test_a_true_cited_sentence_stands(sample_library: Library, finding: Finding, watches: bool) -> None:
    checked = check(sample_library, finding, "The picture shows a cat [1].", watches=watches)
    assert checked.text == "The picture shows a cat [1]."
    assert [each.label for each in checked.cited] == [1]
    assert checked.cited[0].verified
    assert checked.cited[0].path.name == "pet.jpg"
    assert checked.dropped == ()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("There is a cat.", "it cites nothing"),
        ("There is a cat [9].", "there is no evidence [9]"),
        ("There is a cat [1][9].", "there is no evidence [9]"),
        ("There is a cat [0].", "there is no evidence [0]"),
        ("Die Katze sitzt auf dem Sofa [1].", "it is in another language"),
        ("那里有一只猫 [1]。", "it is in another language"),
        ("There is a dog [1].", "'dog' is not in the evidence"),
        ("The cat is sleeping [1].", "'sleeping' is not in the evidence"),
        ("There are two cats [1].", "'two' is not in the evidence"),
        ("There is no cat [1].", "'no' cannot be known from what is seen"),
        ("other.mp4 shows a cat [1].", "other.mp4 is not what it cites"),
        ("At 0:45 there is a cat [1].", "0:45 is outside of what it cites"),
        ("This is the best match [1].", "it says nothing that the evidence says"),
    ],
)
def test_what_is_not_so_is_dropped(sample_library: Library, finding: Finding, reply: str, reason: str) -> None:
    checked = check(sample_library, finding, reply)
    assert checked.dropped == ((reply, reason),)
    assert (checked.text, checked.cited) == ("", ())


def test_a_model_that_watches_still_needs_support(sample_library: Library, finding: Finding) -> None:
    checked = check(sample_library, finding, "A certificate of vaccination is signed by hand [1].", watches=True)
    assert [reason for _, reason in checked.dropped] == ["the cited clip does not support it"]


def test_only_the_bad_sentence_is_dropped(sample_library: Library, finding: Finding) -> None:
    checked = check(sample_library, finding, "The picture shows a cat [1]. It is a dog [1]. I like it.")
    assert checked.text == "The picture shows a cat [1]."
    assert [sentence for sentence, _ in checked.dropped] == ["It is a dog [1].", "I like it."]


def test_words_cannot_be_checked_in_every_language(sample_library: Library, finding: Finding) -> None:
    checked = check(sample_library, finding, "有一只猫 [1]。", question="哪里有猫?")
    assert [reason for _, reason in checked.dropped] == ["what it says in 'zh' cannot be checked word by word"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("A dog [1]. A cat [2].", ["A dog [1].", "A cat [2]."]),
        ("A dog. [1] A cat! [2, 3]", ["A dog. [1]", "A cat! [2, 3]"]),
        ("In a.mp4 at 0:12.5 a dog runs [1]", ["In a.mp4 at 0:12.5 a dog runs [1]"]),
        ("有一只狗[1]。有一只猫[2]。", ["有一只狗[1]。", "有一只猫[2]。"]),
        ("كلب [1]. هل هناك قطة؟ نعم [2].", ["كلب [1].", "هل هناك قطة؟", "نعم [2]."]),
        ("- a dog [1]\n- a cat [2]", ["- a dog [1]", "- a cat [2]"]),
        ("", []),
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
        ("(5) 6 [x]", ()),
        ("[12]", (12,)),
    ],
)
def test_labels(text: str, labels: tuple[int, ...]) -> None:
    assert labels_of(text) == labels


def test_a_good_reply_comes_before_the_composed_answer(sample_library: Library) -> None:
    chat = Says("The picture shows a cat [1].")
    answer = answer_question(ASKED, sample_library.searcher(), chat=chat, filters=Filters(paths=("pet.jpg",)))
    composed = answer_question(ASKED, sample_library.searcher(), chat=None, filters=Filters(paths=("pet.jpg",)))
    assert answer.text == f"The picture shows a cat [1]. {composed.text}"
    assert (answer.composed, answer.chat, answer.grounded) == (False, "says", True)
    ((turns, evidence),) = chat.heard
    assert turns[-1] == Turn(ASKED, "")
    assert [each.label for each in evidence] == [1]


def test_a_model_that_watches_speaks_for_itself(sample_library: Library) -> None:
    chat = Says("A cat looks into the camera [1].", watches=True)
    answer = answer_question(ASKED, sample_library.searcher(), chat=chat, filters=Filters(paths=("pet.jpg",)))
    assert answer.text == "A cat looks into the camera [1]."
    assert answer.verified


@pytest.mark.parametrize("reply", ["", "No idea.", "A dog [7].", "Eine Katze ist auf dem Bild [1]."])
def test_a_bad_reply_leaves_the_composed_answer(sample_library: Library, reply: str) -> None:
    searcher = sample_library.searcher()
    assert answer_question(ASKED, searcher, chat=Says(reply)) == answer_question(ASKED, searcher, chat=None)


@pytest.mark.parametrize("question", ["What colour is the cat?", "How many cats?", "What comes after the cat?"])
def test_a_model_that_has_not_looked_is_not_asked_what_takes_looking(sample_library: Library, question: str) -> None:
    chat = Says("The cat is brown [1].")
    assert answer_question(question, sample_library.searcher(), chat=chat).composed
    assert chat.heard == []


def test_a_model_is_not_asked_what_it_cannot_say(sample_library: Library) -> None:
    english = Says("A cat [1].", languages=frozenset({"en"}))
    assert answer_question("Wo ist die Katze?", sample_library.searcher(), chat=english).composed
    nothing = answer_question(ASKED, sample_library.searcher(), chat=english, filters=Filters(paths=("*.gif",)))
    assert nothing.cited == ()
    assert english.heard == []
