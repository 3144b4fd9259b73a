"""The whole flow with a real network that looks: its weights are random, so nothing of what it says may be shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ivsearch.ask import load_chat
from ivsearch.ask.answer import MAX_NEW_TOKENS, Manner, Unsupported, Verify, answer_events, answer_question
from ivsearch.ask.chat import ChatModel
from ivsearch.ask.internvl_chat import InternVLWatcher, Prompt
from ivsearch.ask.table import ModelServer
from ivsearch.domain import Answer, Filters, Turn, Verdict
from ivsearch.library import Library
from ivsearch.models.replier import Sampling
from tests.llama_server import KEY


@pytest.fixture(scope="module")
def nonsense(shared: Path) -> ChatModel:
    return load_chat("internvideo2.5", weights=shared / "parity" / "iv25_168", device="cpu", dtype="float32")


@pytest.mark.parametrize("question", ["Where is the cat?", "哪里有猫?", "أين القطة؟"])
def test_nonsense_is_withheld_and_the_encoder_speaks(
    sample_library: Library, nonsense: ChatModel, question: str
) -> None:
    manner = Manner(k=2, filters=Filters(paths=("pet.jpg", "compilation.mp4")), verify=Verify.STRICT)
    *pieces, answer = answer_events(question, sample_library.searcher(), chat=nonsense, manner=manner)
    assert isinstance(answer, Answer)
    alone = answer_question(question, sample_library.searcher(), chat=None, k=2, filters=manner.filters)
    assert (answer.text, answer.cited, answer.composed) == (alone.text, alone.cited, True)
    assert answer.sentences
    assert all(each.verdict is not Verdict.SUPPORTED and each.reason for each in answer.sentences)
    assert len(pieces) == 1


def test_nonsense_is_marked_when_wanted(sample_library: Library, nonsense: ChatModel) -> None:
    finder, filters = sample_library.searcher(), Filters(paths=("pet.jpg",))
    answer = answer_question("Where is the cat?", finder, chat=nonsense, filters=filters, unsupported=Unsupported.MARK)
    assert answer.text.count("(not verified)") == len(answer.sentences) > 0
    assert (answer.composed, answer.grounded, answer.chat) == (False, False, "internvideo2.5")


def test_strict_asks_a_real_network_again_when_it_has_said_all(
    sample_library: Library, nonsense: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the words of the answer are put into its mouth; asked again, it says what it says.
    said = InternVLWatcher._said

    def forced(self: InternVLWatcher, prompt: Prompt, max_new_tokens: int, sampling: Sampling) -> Iterator[str]:
        if max_new_tokens == MAX_NEW_TOKENS:
            yield from ("A cat looks into ", "the camera [1]. ", "A cat sits there [1].")
        else:
            yield from said(self, prompt, max_new_tokens, sampling)

    monkeypatch.setattr(InternVLWatcher, "_said", forced)
    finder, filters = sample_library.searcher(), Filters(paths=("pet.jpg",))
    answer = answer_question("Where is the cat?", finder, chat=nonsense, filters=filters, verify=Verify.STRICT)
    refused = "asked again, the chat model did not confirm it"
    assert [each.reason for each in answer.sentences] == [refused, refused]
    assert answer.composed


def test_a_nonsense_rewrite_leaves_the_plain_one(sample_library: Library, nonsense: ChatModel) -> None:
    history = [Turn("Where is the cat?", "There [1].")]
    finder, filters = sample_library.searcher(), Filters(paths=("pet.jpg",))
    answer = answer_question("What colour is it?", finder, chat=nonsense, filters=filters, history=history)
    assert answer.searched == "Where is the cat? What colour is it?"


def test_a_model_on_a_server_that_has_not_looked_is_kept_to_the_evidence(
    sample_library: Library, llama_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chat = load_chat("openai:smollm2", server=ModelServer(llama_server, pictures=False))
    finder = sample_library.searcher()
    history = [Turn("Where is the cat?", "There [1].")]
    for question, before in (("Where is the cat?", []), ("Where is the coffee?", []), ("Where is it?", history)):
        answer = answer_question(question, finder, chat=chat, history=before)
        alone = answer_question(answer.searched, finder, chat=None)
        shown = [each.text for each in answer.sentences if each.verdict is Verdict.SUPPORTED]
        # It adds sentences that were checked, and replaces none.
        assert answer.text.removeprefix(" ".join(shown)).strip() == alone.text
        assert answer.grounded
        assert answer.sentences
