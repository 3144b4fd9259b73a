"""Composed answers over a real library with the real encoder."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ivsearch.ask import answer_question
from ivsearch.ask.support import FOUND
from ivsearch.domain import Answer, Filters, MediaKind, Turn
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import UsageError
from ivsearch.library import Library
from tests.conftest import library_with

CAT = {
    "en": ("Where is the cat?", "cat"),
    "zh": ("哪里有猫?", "猫"),
    "ja": ("猫はどこですか?", "猫"),
    "fr": ("Où est le chat ?", "chat"),
    "es": ("¿Dónde está el gato?", "gato"),
    "de": ("Wo ist die Katze?", "Katze"),
    "ru": ("Где кошка?", "кошка"),
    "ar": ("أين القطة؟", "قطة"),
    "it": ("Dov'è il gatto?", "gatto"),
    "pt": ("Onde está o gato?", "gato"),
    "ko": ("고양이는 어디에 있나요?", "고양이"),
}
CAT_QUESTIONS = [question for question, _ in CAT.values()]


@pytest.fixture
def empty(mini: Encoder, tmp_path: Path) -> Iterator[Library]:
    library = library_with(mini, tmp_path / "empty")
    yield library
    library.close()


def ask(library: Library, question: str, *history: str, filters: Filters | None = None) -> Answer:
    turns = [Turn(earlier, "") for earlier in history]
    return answer_question(question, library.searcher(), chat=None, filters=filters, history=turns)


def labels(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\[(\d+)\]", text)}


@pytest.mark.parametrize(("question", "word"), CAT.values(), ids=CAT)
def test_finds_the_cat_and_says_so_in_the_questions_language(sample_library: Library, question: str, word: str) -> None:
    answer = ask(sample_library, question)
    assert answer.cited[0].path.name in ("pet.jpg", "compilation.mp4")
    # The quoted question does not count.
    assert word in answer.text.replace(question, "")
    assert answer.composed
    assert answer.grounded
    assert answer.chat == "mini"


@pytest.mark.parametrize("question", [*CAT_QUESTIONS, "How many cups are there?", "What comes after the rocket?"])
def test_every_label_in_the_text_is_cited_and_holds(sample_library: Library, question: str) -> None:
    answer = ask(sample_library, question)
    assert labels(answer.text) == {each.label for each in answer.cited}
    media_ids = list(sample_library.catalog.encodings(sample_library.encoder.space))
    media = {
        path: media
        for media_id, media in sample_library.catalog.media(media_ids).items()
        for path in sample_library.catalog.media_paths([media_id])[media_id]
    }
    for each in answer.cited:
        assert each.verified
        assert FOUND <= each.support <= 1
        assert 0 <= each.start_s <= each.end_s <= media[each.path].duration_s + 0.05
        assert each.path.name in answer.text
    assert answer.verified


def test_times_in_the_text_are_those_cited(sample_library: Library) -> None:
    answer = ask(sample_library, "Where is the rocket?", filters=Filters(paths=("compilation.mp4",)))
    first = answer.cited[0]
    # The compilation shows the rocket from 6 to 12 s.
    assert (first.start_s, first.end_s) == pytest.approx((6, 12), abs=1)
    assert f"compilation.mp4 (0:{int(first.start_s):02d}–" in answer.text


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("How many cats are there?", "Counting needs a look: please see [1]."),
        ("Who is the astronaut?", "Who it is cannot be told without a look: please see [1]."),
        ("Is there a cat?", "Yes or no needs a look: please see [1]."),
        ("What colour is the cat?", "Telling colours needs a look: please see [1]."),
        ("Wie viele Tassen sind da?", "Zum Zählen muss man hinsehen: siehe [1]."),
        ("有几只猫?", "数量需要您亲自查看:请看 [1]。"),
    ],
)
def test_what_an_encoder_cannot_know_is_not_guessed(sample_library: Library, question: str, sentence: str) -> None:
    text = ask(sample_library, question).text
    assert text.endswith(sentence)
    assert not re.search(r"\b(yes,|no,|two|three|orange|brown)\b", text.lower())


def test_a_kind_that_is_asked_for_is_named(sample_library: Library) -> None:
    answer = ask(sample_library, "What animal lies there?", filters=Filters(paths=("pet.jpg",)))
    assert "Most likely (animal): cat [1]." in answer.text


def test_an_empty_library_says_so(empty: Library) -> None:
    answer = ask(empty, "Where is the cat?")
    assert answer.text == "This library is empty: there is nothing to answer from."
    assert (answer.cited, answer.grounded) == ((), False)


def test_filters_that_let_nothing_pass_say_so(sample_library: Library) -> None:
    answer = ask(sample_library, "Wo ist die Katze?", filters=Filters(paths=("*.gif",)))
    assert answer.text.startswith("Keine Datei passt zu den Filtern")
    assert (answer.cited, answer.grounded) == ((), False)


def test_what_is_not_there_is_not_found(sample_library: Library) -> None:
    answer = ask(sample_library, "a certificate of vaccination")
    assert answer.text == "The footage does not show it: nothing found for “a certificate of vaccination”."
    assert (answer.cited, answer.matched, answer.grounded) == ((), False, False)


ABSENT = {
    "en": ("When does the volcano erupt?", "The footage does not"),
    "zh": ("哪里有长颈鹿?", "画面中没有"),
    "ja": ("誰がピアノを弾いていますか?", "映像には"),
    "fr": ("Où voit-on un dentiste ?", "Les images ne le montrent pas"),
    "es": ("¿Qué hace el apicultor?", "Las imágenes no lo muestran"),
    "de": ("Wo fährt ein Panzer?", "Das Material zeigt es nicht"),
    "ru": ("Где фехтовальщики?", "На записях этого"),
    "ar": ("أين يظهر العنكبوت؟", "لا تُظهر اللقطات ذلك"),
}


@pytest.mark.parametrize(("question", "opening"), ABSENT.values(), ids=ABSENT)
def test_what_the_footage_does_not_show_is_said_to_be_so(sample_library: Library, question: str, opening: str) -> None:
    answer = ask(sample_library, question)
    assert (answer.matched, answer.grounded) == (False, False)
    assert answer.text.startswith(opening)


def test_asked_of_one_file_the_nearest_is_shown_and_flagged(sample_library: Library) -> None:
    answer = ask(sample_library, "a certificate of vaccination", filters=Filters(paths=("pet.jpg",)))
    assert answer.text.startswith(
        "The footage does not clearly show it; the nearest to “a certificate of vaccination” is pet.jpg [1]."
    )
    assert not answer.grounded
    assert [each.reason for each in answer.cited] == ["the cited clip does not support it"]
    assert not answer.verified


def test_filters_are_kept(sample_library: Library) -> None:
    answer = ask(sample_library, "Where is the cat?", filters=Filters(kind=MediaKind.IMAGE))
    assert {each.path.suffix for each in answer.cited} == {".jpg"}
    assert answer.cited[0].path.name == "pet.jpg"


@pytest.mark.parametrize("question", ["", "   ", "\n"])
def test_an_empty_question_is_an_error(sample_library: Library, question: str) -> None:
    with pytest.raises(UsageError, match=r"^an empty question has no answer: ask something, such as 'where is the"):
        ask(sample_library, question)


# The compilation: rocket 6-12 s, cartoon 12-17 s, cat 17-24 s, coffee 24-30 s (demo/sample_media.py).
COMPILATION = Filters(paths=("compilation.mp4",))


def test_what_comes_next_is_the_next_scene(sample_library: Library) -> None:
    answer = ask(sample_library, "And then?", "Where is the rocket?", filters=COMPILATION)
    rocket, following = answer.cited[:2]
    assert rocket.start_s == pytest.approx(6, abs=1)
    assert (following.start_s, following.end_s) == pytest.approx((12, 17), abs=1)
    assert "What comes next in the same video: compilation.mp4 (0:12–0:17) [2]" in answer.text


def test_one_question_may_step_by_itself(sample_library: Library) -> None:
    answer = ask(sample_library, "What comes before the coffee?", filters=COMPILATION)
    assert (answer.cited[1].start_s, answer.cited[1].end_s) == pytest.approx((17, 24), abs=1)
    assert "looks most like: cat" in answer.text


def test_steps_go_on_where_the_last_one_ended(sample_library: Library) -> None:
    once = ask(sample_library, "And then?", "Where is the rocket?", filters=COMPILATION)
    twice = ask(sample_library, "And then?", "Where is the rocket?", "And then?", filters=COMPILATION)
    assert twice.cited[0].start_s == once.cited[-1].end_s
    assert "The best match" not in twice.text


def test_the_video_ends(sample_library: Library) -> None:
    then = "And then?"
    answer = ask(sample_library, then, "Where is the rocket?", then, then, then, filters=COMPILATION)
    assert answer.text.startswith("The video ends with compilation.mp4 (0:43–0:48) [1].")
    assert len(answer.cited) == 1


def test_a_follow_up_is_searched_with_what_it_follows(sample_library: Library) -> None:
    answer = ask(sample_library, "What colour is it?", "Where is the cat?")
    assert "“Where is the cat? What colour is it?”" in answer.text
    assert answer.cited[0].path.name in ("pet.jpg", "compilation.mp4")


def test_a_whole_question_forgets_what_was_before(sample_library: Library) -> None:
    alone = ask(sample_library, "Where is the cat?")
    assert ask(sample_library, "Where is the cat?", "Where is the rocket?") == alone


def test_importing_ask_loads_nothing_heavy() -> None:
    heavy = "torch", "faiss", "av", "xllamacpp", "transformers"
    code = f"import sys, ivsearch.ask; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_damaged_vectors_are_no_empty_library(mini: Encoder, tmp_path: Path, sample_media: Path) -> None:
    with library_with(mini, tmp_path / "library") as library:
        assert list(library.index(sample_media / "pet.jpg"))
        for path in (library.folder / "vectors").rglob("*"):
            if path.is_file():
                path.write_bytes(bytes(path.stat().st_size))
        answer = ask(library, "Where is the cat?")
        assert "empty" not in answer.text and not answer.matched and not answer.cited
        assert library.searcher().complaints


@pytest.mark.parametrize("filters", [None, Filters(kind=MediaKind.IMAGE)])
def test_a_question_is_encoded_once(
    sample_library: Library, monkeypatch: pytest.MonkeyPatch, filters: Filters | None
) -> None:
    question = "Where is the cat?"
    ask(sample_library, question)  # the vocabulary is encoded once for all
    encoder = sample_library.encoder
    read: list[str] = []
    original = encoder.encode_texts
    monkeypatch.setattr(encoder, "encode_texts", lambda texts: read.extend(texts) or original(texts))
    assert ask(sample_library, question, filters=filters).cited
    assert len(read) == 1
