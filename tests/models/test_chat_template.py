"""Prompts: their texts against the official fixtures' ids is in test_chat_tokens.py; here is where pictures go."""

from __future__ import annotations

import pytest

from ivsearch.errors import UsageError, WeightsError
from ivsearch.models.chat_template import (
    TEMPLATES,
    Conversation,
    broken,
    expand,
    number_frames,
    place,
    prompt_text,
    template_named,
)

# As the official conversation.py prints it (phi3-chat is in no fixture).
PHI3_PROMPT = (
    "<|system|>\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。<|end|><|user|>\nHi<|end|><|assistant|>\nHello!<|end|><|user|>\nBye<|end|><|assistant|>\n"
)


def test_phi3_has_headers_of_its_own() -> None:
    assert prompt_text(template_named("phi3-chat"), "Bye", [("Hi", "Hello!")]) == PHI3_PROMPT


def test_a_config_may_bring_its_system_message_even_an_empty_one() -> None:
    template = template_named("internvl2_5")
    assert prompt_text(template, "q", system="Be brief.").startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_s")
    assert prompt_text(template, "q", system="").startswith("<|im_start|>system\n<|im_end|>\n")


def test_an_empty_answer_writes_only_its_header() -> None:
    text = prompt_text(template_named("Hermes-2"), "Go on", [("Hi", "")], "")
    assert text.endswith("<|im_start|>assistant\n<|im_start|>user\nGo on<|im_end|><|im_start|>assistant\n")


def test_a_reply_ends_at_the_separators_text() -> None:
    assert {name: template.stop for name, template in TEMPLATES.items()} == {
        "internvl2_5": "<|im_end|>",
        "internlm2-chat": "<|im_end|>",
        "Hermes-2": "<|im_end|>",
        "phi3-chat": "<|end|>",
    }


def test_an_unknown_template_is_refused_by_name() -> None:
    with pytest.raises(
        WeightsError, match=r"^the prompt template 'internvl_zh' is not known to this ivsearch; known: in"
    ):
        template_named("internvl_zh")


def test_blocks_stand_where_pictures_were_from_the_left() -> None:
    block = "<img>" + "<IMG_CONTEXT>" * 2 + "</img>"
    twice = "<img>" + "<IMG_CONTEXT>" * 4 + "</img>"
    assert expand("a <image> b <image> c", [1, 2], 2) == f"a {block} b {twice} c"
    # What is too many stays as it is written.
    assert expand("<image>\n<image>", [1], 2) == f"{block}\n<image>"
    assert expand("no picture", [], 2) == "no picture"


@pytest.mark.parametrize(
    ("question", "history", "n_tiles", "placed"),
    [
        pytest.param("q", [], [], Conversation("q", (), ()), id="text"),
        pytest.param("q", [], [7], Conversation("<image>\nq", (), (7,)), id="implied"),
        pytest.param("q", [], [7, 1], Conversation("<image>\nq", (), (8,)), id="several implied are one block"),
        pytest.param("<image> q", [], [7, 1], Conversation("<image> q", (), (8,)), id="one for several"),
        pytest.param("<image><image>q", [], [7, 1], Conversation("<image><image>q", (), (7, 1)), id="one each"),
        pytest.param(
            "q2",
            [("q1", "a1")],
            [3],
            Conversation("q2", (("<image>\nq1", "a1"),), (3,)),
            id="before the first question",
        ),
        pytest.param(
            "<image>q2",
            [("<image>q1", "a1")],
            [3, 4],
            Conversation("<image>q2", (("<image>q1", "a1"),), (3, 4)),
            id="over turns",
        ),
        pytest.param(
            "q2",
            [("<image>q1", "an <image> <IMG_CONTEXT>")],
            [3],
            Conversation("q2", (("<image>q1", "an < image> < IMG_CONTEXT>"),), (3,)),
            id="an answer holds no picture",
        ),
    ],
)
def test_every_picture_has_a_place(
    question: str, history: list[tuple[str, str]], n_tiles: list[int], placed: Conversation
) -> None:
    assert place(question, history, n_tiles) == placed


@pytest.mark.parametrize(("written", "given"), [(1, 0), (2, 0), (2, 1), (2, 3), (3, 2)])
def test_numbers_that_do_not_go_together_are_refused_with_both(written: int, given: int) -> None:
    with pytest.raises(
        UsageError, match=rf"^the questions hold {written} <image> and there are {given} pictures: write"
    ):
        place("<image>" * written + "q", [], [1] * given)


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(UsageError, match=r"^the question is empty: ask something$"):
        place(question, [], [1])


@pytest.mark.parametrize(("question", "history"), [("a <IMG_CONTEXT>", []), ("q", [("<IMG_CONTEXT>", "a")])])
def test_a_question_cannot_stand_for_a_part_of_a_picture(question: str, history: list[tuple[str, str]]) -> None:
    with pytest.raises(
        UsageError, match=r"^a question holds <IMG_CONTEXT>, which stands for a part of a picture: leave"
    ):
        place(question, history, [1])


def test_frames_of_a_video_are_numbered_before_the_first_question() -> None:
    lines = "Frame1: <image>\nFrame2: <image>\n"
    assert number_frames("q", [], 2, "Frame{}: <image>") == (lines + "q", ())
    assert number_frames("q2", [("q1", "a1")], 2, "Frame{}: <image>") == ("q2", ((lines + "q1", "a1"),))
    # A question that says itself where they go is left alone.
    assert number_frames("q <image>", [("q1", "a1")], 2, "Frame{}: <image>") == ("q <image>", (("q1", "a1"),))


def test_a_name_pulled_apart_is_not_found_again() -> None:
    assert broken("a<image><image>", "<image>") == "a< image>< image>"
    assert "<image>" not in broken("<<image>image>", "<image>")
