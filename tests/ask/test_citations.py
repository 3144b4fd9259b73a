"""The leash: what a chat model may say. Replies are literal; evidence, encoder and library are real."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ivsearch.ask import answer_question
from ivsearch.ask.citations import Checked, check_sentence
from ivsearch.ask.cites import sentences
from ivsearch.ask.finding import Finding, look
from ivsearch.ask.question import read_question
from ivsearch.domain import Evidence, Filters, Sentence, Turn, Verdict
from ivsearch.library import Library

ASKED = "Where is the cat?"


class Says:
    """A chat model that gives a reply written by the test."""

    name = "says"
    missed: frozenset[int] = frozenset()

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
    (sentence,) = sentences(reply)
    chat = Says(reply, watches=watches)
    return check_sentence(sentence, read_question(question), finding, chat, library.searcher())


@pytest.mark.parametrize("watches", [False, True])
def test_a_true_cited_sentence_stands(sample_library: Library, finding: Finding, watches: bool) -> None:
    checked = check(sample_library, finding, "The picture shows a cat [1].", watches=watches)
    assert checked.sentence == Sentence("The picture shows a cat [1].", (1,), Verdict.SUPPORTED)
    assert [each.label for each in checked.cited] == [1]
    assert checked.cited[0].verified
    assert checked.cited[0].path.name == "pet.jpg"


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
        ("At 500.0 s there is a cat [1].", "500.0 s is outside of what it cites"),
        ("From 12 to 15 seconds there is a cat [1].", "12 to 15 seconds is outside of what it cites"),
        ("This is the best match [1].", "it says nothing that the evidence says"),
    ],
)
def test_what_is_not_so_is_not_supported(sample_library: Library, finding: Finding, reply: str, reason: str) -> None:
    checked = check(sample_library, finding, reply)
    assert checked.sentence.verdict is (Verdict.UNCITED if reason == "it cites nothing" else Verdict.UNSUPPORTED)
    assert checked.sentence.reason == reason
    # What it cites is told, as far as it exists, and never verified.
    known = {each.evidence.label for each in finding.shown}
    assert {each.label for each in checked.cited} == known & set(checked.sentence.labels)
    assert not any(each.verified for each in checked.cited)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("A cat [99].", "there is no evidence [99]"),
        ("A cat [-1].", "there is no evidence [-1]"),
        ("A cat [1, 99].", "there is no evidence [99]"),
        ("A cat [1 @ 0.0-5.0 s].", "0–5 s is not within what [1] shows"),
        ("A cat [1: 0:12–0:15].", "12–15 s is not within what [1] shows"),
        ("[1].", "it says nothing"),
        ("At 500.0 s a cat looks into the camera [1].", "500.0 s is outside of what it cites"),
        ("A cat looks into the camera at 0.5-90 s [1].", "0.5-90 s is outside of what it cites"),
        ("table.jpg shows a cat [1].", "table.jpg is not what it cites"),
        ("هناك قطة [1].", "it is in another language"),
        ("A certificate of vaccination is signed by hand [1].", "the cited clip does not support it"),
    ],
)
def test_a_model_that_watches_must_keep_to_the_clips(
    sample_library: Library, finding: Finding, reply: str, reason: str
) -> None:
    checked = check(sample_library, finding, reply, watches=True)
    assert (checked.sentence.verdict, checked.sentence.reason) == (Verdict.UNSUPPORTED, reason)


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("哪里有猫?", "画面里有一只猫【1】。"),
        ("猫はどこですか?", "猫がいます［1］。"),
        ("أين القطة؟", "تظهر قطة [1]."),
        ("Где кошка?", "Здесь видна кошка [1, 1]."),
    ],
)
def test_any_language_and_any_brackets(sample_library: Library, finding: Finding, question: str, reply: str) -> None:
    checked = check(sample_library, finding, reply, question=question, watches=True)
    assert checked.sentence.verdict is Verdict.SUPPORTED
    assert [each.label for each in checked.cited] == [1]


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("Wo ist die Katze?", "Bei 500 Sekunden sitzt eine Katze [1]."),
        ("Où est le chat ?", "Un chat à 500,5 secondes [1]."),
        ("¿Dónde está el gato?", "Un gato a los 500 segundos [1]."),
        ("Dov'è il gatto?", "Un gatto a 500 secondi [1]."),
        ("Где кошка?", "Кошка на 500 с [1]."),
        ("Где кошка?", "Кошка на 500-й, 501 сек. [1]."),
        ("哪里有猫?", "第500秒有一只猫 [1]。"),
        ("猫はどこですか?", "猫は12.0秒から15.0秒にいます [1]。"),
        ("고양이는 어디에 있나요?", "500초에 고양이가 있습니다 [1]."),
        ("أين القطة؟", "قطة عند 500 ثانية [1]."),
        ("बिल्ली कहाँ है?", "500 सेकंड पर बिल्ली है [1]।"),
        ("Where is the cat?", "A cat at ５００ s [1]."),
    ],
)
def test_seconds_are_read_in_every_language(
    sample_library: Library, finding: Finding, question: str, reply: str
) -> None:
    checked = check(sample_library, finding, reply, question=question, watches=True)
    assert checked.sentence.reason.endswith("is outside of what it cites")


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (ASKED, "A cat in the style of the 80s [1]."),
        (ASKED, "A cat looks into the camera for 30 seconds [1]."),
        ("Где кошка?", "Кошки 2 с мячом [1]."),
        (ASKED, "A cat at 0.0 s [1]."),
        (ASKED, "Two dogs sit [1]."),
        (ASKED, "Yes, two dogs run [1]."),
        (ASKED, "Two zebras graze near trees [1]."),
        (ASKED, "A sign says “出口” [1]."),
        (ASKED, "The sign 出口 hangs there [1]."),
        ("哪里有猫?", "3 [1]"),
        ("猫はどこですか?", "Toyota [1]"),
        ("Где кошка?", "Toyota [1]"),
        ("猫はどこですか?", "東京駅 [1]"),
        ("哪里有猫?", "店名是すき家 [1]"),
        ("哪里有猫?", "有一只猫 [1]"),
        (ASKED, "pet.jpg shows a cat [1]."),
    ],
)
def test_nothing_but_its_support_speaks_against_what_is_right(
    sample_library: Library, finding: Finding, question: str, reply: str
) -> None:
    checked = check(sample_library, finding, reply, question=question, watches=True)
    assert checked.sentence.reason in ("", "the cited clip does not support it")


def test_a_file_name_is_known_by_the_files_that_were_shown(sample_library: Library, finding: Finding) -> None:
    shown = finding.shown[0]
    hit = dataclasses.replace(shown.evidence.hit, path=Path("/media/my pink car.jpg"))
    renamed = dataclasses.replace(shown, evidence=dataclasses.replace(shown.evidence, hit=hit))
    found = dataclasses.replace(finding, shown=(renamed, *finding.shown[1:]))
    checked = check(sample_library, found, "my pink car.jpg shows a cat [1].", watches=True)
    assert checked.sentence.verdict is Verdict.SUPPORTED
    checked = check(sample_library, found, "pink car.jpg shows a cat [1].", watches=True)
    assert checked.sentence.reason == "car.jpg is not what it cites"


def test_without_a_gallery_nothing_can_be_checked(sample_library: Library, finding: Finding) -> None:
    with pytest.raises(ValueError, match=r"^a Finding without a Gallery has nothing that a sentence could be checked"):
        check(sample_library, dataclasses.replace(finding, gallery=None), "The picture shows a cat [1].")


def test_a_single_time_is_a_moment(sample_library: Library) -> None:
    found = look(read_question("Where is the rocket?"), sample_library.searcher(), 8, Filters(paths=("*.mp4",)), ())
    first = found.shown[0].evidence
    at_s = (first.start_s + first.end_s) / 2
    (one,) = check(sample_library, found, f"A rocket [1 @ {at_s:.1f} s].", watches=True).cited
    assert one.end_s - one.start_s == pytest.approx(1)
    assert one.start_s < at_s < one.end_s
    (one,) = check(sample_library, found, f"A rocket [1 @ {first.start_s:.2f} s].", watches=True).cited
    assert one.end_s - one.start_s == pytest.approx(0.5, abs=0.01)


def test_the_seconds_that_are_cited_are_what_is_checked(sample_library: Library) -> None:
    # The compilation: rocket 6-12 s, cartoon 12-17 s, cat 17-24 s (demo/sample_media.py).
    asked = read_question("What is shown in the video?")
    found = look(asked, sample_library.searcher(), 8, Filters(paths=("compilation.mp4",)), ())
    shown = [each for each in found.shown if each.evidence.start_s <= 18 and each.evidence.end_s >= 23]
    if not shown:
        span = dataclasses.replace(found.shown[0].evidence, start_s=0.0, end_s=48.0)
        shown = [dataclasses.replace(found.shown[0], evidence=span)]
        found = dataclasses.replace(found, shown=tuple(shown))
    label = shown[0].evidence.label
    cat = check(sample_library, found, f"A cat looks into the camera [{label} @ 18.0-23.0 s].", watches=True)
    rocket = check(sample_library, found, f"A cat looks into the camera [{label} @ 7.0-11.0 s].", watches=True)
    assert (cat.cited[0].start_s, cat.cited[0].end_s) == (18.0, 23.0)
    assert cat.sentence.verdict is Verdict.SUPPORTED
    assert rocket.sentence.verdict is Verdict.UNSUPPORTED
    assert cat.cited[0].support > rocket.cited[0].support


def test_words_cannot_be_checked_in_every_language(sample_library: Library, finding: Finding) -> None:
    checked = check(sample_library, finding, "有一只猫 [1]。", question="哪里有猫?")
    assert checked.sentence.reason == "what it says in 'zh' cannot be checked word by word"


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
    assert (answer.verified, answer.grounded, answer.composed, answer.chat) == (True, True, False, "says")
    assert answer.sentences == (Sentence("A cat looks into the camera [1].", (1,), Verdict.SUPPORTED),)


@pytest.mark.parametrize("reply", ["", "No idea.", "A dog [7].", "Eine Katze ist auf dem Bild [1]."])
def test_a_bad_reply_leaves_the_composed_answer(sample_library: Library, reply: str) -> None:
    searcher = sample_library.searcher()
    answer = answer_question(ASKED, searcher, chat=Says(reply))
    assert dataclasses.replace(answer, sentences=()) == answer_question(ASKED, searcher, chat=None)
    assert [each.text for each in answer.sentences] == ([reply] if reply else [])


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
