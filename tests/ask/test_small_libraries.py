"""Libraries of one, three and seven clips: what is there is found, though little can stand out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ivsearch.ask import answer_question
from ivsearch.ask.finding import look
from ivsearch.ask.question import read_question
from ivsearch.domain import Filters, Verdict
from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library
from ivsearch.scoring.likelihood import few
from tests.ask.test_citations import Says
from tests.conftest import library_with


@pytest.fixture(scope="module", params=[1, 3, 7])
def small(
    request: pytest.FixtureRequest, sample_media: Path, mini: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """``pet.jpg`` and photos of other things."""
    folder = tmp_path_factory.mktemp("few")
    photos = sorted(sample_media.rglob("*.jpg"), key=lambda path: (path.name != "pet.jpg", path.name))
    assert len(photos) >= request.param
    for photo in photos[: request.param]:
        shutil.copy(photo, folder)
    library = library_with(mini, tmp_path_factory.mktemp("few-library"))
    list(library.index([folder]))
    yield library
    library.close()


def test_what_is_there_is_found(small: Library) -> None:
    answer = answer_question("Where is the cat?", small.searcher(), chat=None)
    assert (answer.matched, answer.grounded) == (True, True)
    assert answer.cited[0].path.name == "pet.jpg"


@pytest.mark.parametrize("question", ["When does the volcano erupt?", "Wo fährt ein Panzer?"])
def test_what_is_not_there_is_not(small: Library, question: str) -> None:
    assert not answer_question(question, small.searcher(), chat=None).matched


def test_a_true_sentence_holds_and_a_wrong_one_does_not(small: Library) -> None:
    chat = Says("A cat looks into the camera [1]. Two penguins swim under the ice [1].", watches=True)
    answer = answer_question("Where is the cat?", small.searcher(), chat=chat)
    assert [each.verdict for each in answer.sentences] == [Verdict.SUPPORTED, Verdict.UNSUPPORTED]
    assert answer.text == "A cat looks into the camera [1]."


def test_they_are_few_indeed(small: Library) -> None:
    gallery = look(read_question("Where is the cat?"), small.searcher(), 8, Filters(), ()).gallery
    assert gallery is not None
    assert few(gallery)
