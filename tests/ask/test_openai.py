"""Chat models on a server: a real one in a process of its own, which takes no pictures; and what goes over the wire."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import logging
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ivsearch.ask import load_chat
from ivsearch.ask.openai import OpenAIChat
from ivsearch.ask.table import ModelServer
from ivsearch.domain import Aim, Evidence, Turn
from ivsearch.errors import MediaError, NetworkError, UsageError
from ivsearch.library import Library, open_library
from ivsearch.settings import Settings
from tests.llama_server import KEY
from tests.wire import Wire, events, piece, said

QUESTION = "What is the capital of France? Answer in one sentence."


@pytest.fixture
def real(llama_server: str, monkeypatch: pytest.MonkeyPatch) -> OpenAIChat:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return loaded(llama_server)


@pytest.fixture
def told(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> OpenAIChat:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    wire.answers = [said("A cat."), said("A cat.")]
    return loaded(wire.url)


def loaded(url: str, *, pictures: bool = True, n_frames: int = 32) -> OpenAIChat:
    chat = load_chat("openai:smollm2", server=ModelServer(url, 60.0, n_frames, pictures))
    assert isinstance(chat, OpenAIChat)
    return chat


def asked_plainly(url: str, messages: list[dict[str, str]], max_tokens: int) -> str:
    """The same server's answer by another way: no stream, and none of our code."""
    body = {"model": "smollm2", "messages": messages, "max_tokens": max_tokens, "temperature": 0, "seed": 0}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]["content"].strip()


def evidence_of(library: Library, *texts: str) -> list[Evidence]:
    hits = [library.search(text, k=1)[0] for text in texts]
    return [Evidence(i, hit, hit.moment.start_s, hit.moment.end_s, ()) for i, hit in enumerate(hits, 1)]


def picture_of(part: dict[str, Any]) -> Image.Image:
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert image.format == "JPEG" and image.mode == "RGB"
    image.load()
    return image


def closeness(image: Image.Image, pixels: np.ndarray) -> float:
    """Mean difference in grey levels, of pictures made equally small."""
    other = Image.fromarray(pixels).convert("RGB").resize((32, 32), Image.Resampling.BOX)
    small = image.resize((32, 32), Image.Resampling.BOX)
    return float(np.abs(np.asarray(small, dtype=float) - np.asarray(other, dtype=float)).mean())


# ---- a real server ----


def test_a_question(real: OpenAIChat) -> None:
    reply = real.generate(question=QUESTION, max_new_tokens=24)
    assert reply.text == asked_plainly(real.endpoint.url, [{"role": "user", "content": QUESTION}], 24)
    assert "Paris" in reply.text and reply.token_ids == ()


def test_a_stream_comes_in_pieces(real: OpenAIChat) -> None:
    pieces = list(real.stream(question=QUESTION, max_new_tokens=24))
    assert len(pieces) > 3
    assert "".join(pieces).strip() == real.generate(question=QUESTION, max_new_tokens=24).text


def test_a_conversation(real: OpenAIChat) -> None:
    history = [("My name is Ada. Remember it.", "Hello Ada!")]
    reply = real.generate(question="What is my name?", history=history, max_new_tokens=24)
    messages = [
        {"role": "user", "content": history[0][0]},
        {"role": "assistant", "content": history[0][1]},
        {"role": "user", "content": "What is my name?"},
    ]
    assert reply.text == asked_plainly(real.endpoint.url, messages, 24)
    assert reply.text != real.generate(question="What is my name?", max_new_tokens=24).text


def test_the_limit_of_tokens_is_told(real: OpenAIChat, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert real.generate(question="Tell me a long story.", max_new_tokens=4).text
    assert "openai:smollm2 stopped at the limit of 4 tokens or of its context" in caplog.text


def test_its_models(real: OpenAIChat) -> None:
    assert real.endpoint.models() == ("smollm2",)


def test_a_server_that_takes_no_pictures(real: OpenAIChat) -> None:
    with pytest.raises(UsageError, match=r"takes no pictures, or not these 1 \(500: image input is not supported"):
        real.generate(question="What is this?", images=[Image.new("RGB", (32, 32))])


def test_a_question_too_long(real: OpenAIChat) -> None:
    with pytest.raises(UsageError, match=r"is too long for the model \(400: request .* exceeds the available context"):
        real.generate(question="word " * 3000)


@pytest.mark.parametrize(
    ("key", "message"), [("", "wants a key: set OPENAI"), ("wrong-key", "refuses the key in OPEN")]
)
def test_a_key_it_does_not_know(llama_server: str, monkeypatch: pytest.MonkeyPatch, key: str, message: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(NetworkError, match=message) as refused:
        loaded(llama_server).generate(question="Hello")
    assert "wrong-key" not in str(refused.value)


def test_an_address_that_is_not_the_whole(real: OpenAIChat) -> None:
    with pytest.raises(NetworkError, match=r"^there is no chat at http.*/v1/v2: most addresses end in /v1"):
        loaded(f"{real.endpoint.url}/v2").generate(question="Hello")


def test_an_answer_from_what_the_encoder_sees(real: OpenAIChat, sample_library: Library, mini: Any) -> None:
    settings = Settings(chat="openai:smollm2", chat_endpoint=real.endpoint.url, chat_pictures=False)
    with open_library(sample_library.folder, create=False, settings=settings) as library:
        library.encoder = mini
        assert library.chat is not None and not library.chat.watches
        answer = library.ask("Where is the cat?")
    assert answer.verified and answer.cited


def test_a_library_asked_about_pictures_says_what_to_do(real: OpenAIChat, sample_library: Library, mini: Any) -> None:
    settings = Settings(chat="openai:smollm2", chat_endpoint=real.endpoint.url)
    with open_library(sample_library.folder, create=False, settings=settings) as library:
        library.encoder = mini
        with pytest.raises(UsageError, match=r"takes no pictures.*\(--no-pictures\)$"):
            library.ask("Where is the cat?")


# ---- what is sent ----


def test_images_are_sent_as_they_are(told: OpenAIChat, wire: Wire, sample_media: Path) -> None:
    wide = Image.open(sample_media / "pet.jpg").convert("RGB").resize((1600, 400))
    small = Image.new("RGBA", (60, 90), (200, 30, 30, 128))
    told.generate(question="What is on <image> these?", images=[wide, small])
    (message,) = wire.came[0].document["messages"]
    kinds = [part.get("text", "picture") for part in message["content"]]
    assert kinds == ["Image 1:", "picture", "Image 2:", "picture", "What is on <image> these?"]
    first, second = picture_of(message["content"][1]), picture_of(message["content"][3])
    assert first.size == (768, 192) and second.size == (60, 90)
    assert closeness(first, np.asarray(wide)) < 3


def test_one_image_needs_no_number(told: OpenAIChat, wire: Wire) -> None:
    told.generate(question="What is this?", images=[Image.new("RGB", (10, 10))], temperature=0.5, top_p=0.9, seed=7)
    document = wire.came[0].document
    assert [part["type"] for part in document["messages"][0]["content"]] == ["image_url", "text"]
    assert (document["temperature"], document["top_p"], document["seed"]) == (0.5, 0.9, 7)


@pytest.mark.parametrize("n_frames", [4, 8])
def test_frames_go_after_their_times(told: OpenAIChat, wire: Wire, sample_media: Path, n_frames: int) -> None:
    import av

    video = sample_media / "compilation.mp4"
    told.generate(question="What happens?", video=video, n_frames=n_frames)
    (message,) = wire.came[0].document["messages"]
    head, *parts, question = message["content"]
    assert head["text"].startswith("A video of ") and question["text"] == "What happens?"
    times_s = [float(part["text"].removesuffix(" s:")) for part in parts[::2]]
    assert len(times_s) == n_frames and times_s == sorted(set(times_s))
    # What another reader, that decodes the file from its start, shows at these times.
    with av.open(video) as container:
        decoded = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    begin_s = decoded[0][0]
    n = len(decoded)
    for number, (time_s, part) in enumerate(zip(times_s, parts[1::2], strict=True)):
        # The official rule: the middle of each of n_frames equal parts, by number.
        index = int((n - 1) / n_frames / 2 + round((n - 1) / n_frames * number))
        assert time_s == pytest.approx(decoded[index][0] - begin_s, abs=0.051)
        picture = picture_of(part)
        assert max(picture.size) <= 448
        assert closeness(picture, decoded[index][1]) < 6


def test_what_is_shown_stands_before_the_first_question(told: OpenAIChat, wire: Wire) -> None:
    told.generate(question="And now?", history=[("What is this?", "A wall.")], images=[Image.new("RGB", (9, 9))])
    messages = wire.came[0].document["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [part["type"] for part in messages[0]["content"]] == ["image_url", "text"]
    assert (messages[1]["content"], messages[2]["content"]) == ("A wall.", "And now?")


def test_frames_of_the_evidence_go_with_labels_and_times(told: OpenAIChat, wire: Wire, sample_library: Library) -> None:
    evidence = evidence_of(sample_library, "a cat", "a cup of coffee")
    turns = [Turn("Is there a cat?", "Yes [1]."), Turn("What does it do?", "")]
    assert "".join(told.reply(turns, evidence, max_new_tokens=50)) == "A cat."
    messages = wire.came[0].document["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    parts = messages[-1]["content"]
    text = "".join(part.get("text", "<picture>") for part in parts)
    for each in evidence:
        assert f"[{each.label}]" in text and each.hit.path.name in text
    assert text.rstrip().endswith("What does it do?")
    pictures = [part for part in parts if part["type"] == "image_url"]
    assert 2 <= len(pictures) <= 32
    assert all(max(picture_of(part).size) <= 448 for part in pictures)
    for before, after in pairwise(parts):
        if after["type"] == "image_url":
            assert before["text"].endswith(" s: ")


def test_no_more_frames_than_allowed(wire: Wire, sample_library: Library) -> None:
    wire.answers = [said("x")]
    evidence = evidence_of(sample_library, "a cat", "a cup of coffee", "a cartoon")
    list(loaded(wire.url, n_frames=4).reply([Turn("What?", "")], evidence, max_new_tokens=5))
    parts = wire.came[0].document["messages"][-1]["content"]
    assert 3 <= sum(part["type"] == "image_url" for part in parts) <= 4
    # Fewer than there are clips: the best of them are shown.
    chat = loaded(wire.url, n_frames=2)
    list(chat.reply([Turn("What?", "")], evidence, max_new_tokens=5))
    parts = wire.came[1].document["messages"][-1]["content"]
    assert sum(part["type"] == "image_url" for part in parts) <= 2
    assert chat.missed and chat.missed < {1, 2, 3}


def test_a_file_that_is_gone_drops_out(
    told: OpenAIChat, wire: Wire, sample_library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    here, gone = evidence_of(sample_library, "a cat", "a cup of coffee")
    gone = dataclasses.replace(gone, hit=dataclasses.replace(gone.hit, path=Path("/nowhere/gone.mp4")))
    list(told.reply([Turn("What?", "")], [here, gone], max_new_tokens=5))
    text = "".join(part.get("text", "") for part in wire.came[0].document["messages"][-1]["content"])
    assert here.hit.path.name in text and "gone.mp4" not in text
    assert "/nowhere/gone.mp4 is not shown to the chat model: " in caplog.text
    assert told.missed == {2}
    list(told.reply([Turn("What?", "")], [here], max_new_tokens=5))
    assert told.missed == frozenset()


def test_without_any_frame_nothing_is_asked_and_nothing_said(
    told: OpenAIChat, wire: Wire, sample_library: Library
) -> None:
    here, there = evidence_of(sample_library, "a cat", "a cup of coffee")
    gone = [
        dataclasses.replace(each, hit=dataclasses.replace(each.hit, path=Path("/nowhere"))) for each in (here, there)
    ]
    assert list(told.reply([Turn("Yes or no?", "", Aim.VERDICT)], gone, max_new_tokens=5)) == []
    assert told.missed == {1, 2} and wire.came == []
    # A question that is only to be rewritten comes with no Evidence, and is asked.
    assert list(told.reply([Turn("And where?", "", Aim.REWRITE)], [], max_new_tokens=5)) == ["A cat."]
    assert told.missed == frozenset()


def test_a_filter_is_told(told: OpenAIChat, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    wire.answers = [events(piece("I"), piece(None, "content_filter"))]
    assert told.generate(question="Hm?").text == "I"
    assert "openai:smollm2: a filter of the server cut the answer short" in caplog.text


# ---- mistakes ----


@pytest.mark.parametrize(
    ("name", "wishes", "message"),
    [
        ("openai", {}, r"^name the model as the server does: --chat openai:MODEL$"),
        ("openai:", {}, r"^name the model as the server does"),
        (
            "openai:m",
            {},
            r"^chat model 'openai:m' needs the address of its server: --endpoint URL or IVSEARCH_CHAT_ENDPO",
        ),
        ("openai:m", {"weights": "x"}, r"^the server has its weights already: leave --weights out"),
        ("openai:m", {"server": ModelServer("http://")}, "is no address of a model server"),
    ],
)
def test_what_cannot_be_loaded(
    name: str, wishes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path)
    monkeypatch.delenv("IVSEARCH_CHAT_ENDPOINT", raising=False)
    with pytest.raises(UsageError, match=message):
        load_chat(name, **wishes)


def test_the_settings_name_the_server(wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda name: tmp_path)
    monkeypatch.setenv("IVSEARCH_CHAT_ENDPOINT", wire.url)
    monkeypatch.setenv("IVSEARCH_CHAT_TIMEOUT_S", "7.5")
    monkeypatch.setenv("IVSEARCH_CHAT_PICTURES", "no")
    chat = load_chat("openai:some/model:tag")
    assert isinstance(chat, OpenAIChat)
    assert (chat.name, chat.endpoint.url, chat.watches) == ("openai:some/model:tag", wire.url, False)
    assert chat.endpoint.patience.silence_s == 7.5


@pytest.mark.parametrize("n_frames", [0, 513])
def test_how_many_frames(told: OpenAIChat, sample_media: Path, n_frames: int) -> None:
    with pytest.raises(UsageError, match=rf"^{n_frames} frames cannot be shown: from 1 to 512 \(--frames\)$"):
        told.generate(question="What?", video=sample_media / "call.mp4", n_frames=n_frames)


def test_tiles_are_the_servers(told: OpenAIChat) -> None:
    with pytest.raises(UsageError, match="the server cuts pictures as it sees fit: leave --max-tiles out"):
        told.generate(question="What?", images=[Image.new("RGB", (9, 9))], max_tiles=6)


def test_one_that_takes_no_pictures_is_shown_none(wire: Wire) -> None:
    chat = loaded(wire.url, pictures=False)
    with pytest.raises(
        UsageError, match=r"^openai:smollm2 was said to take no pictures \(--no-pictures\): ask it without"
    ):
        chat.generate(question="What?", images=[Image.new("RGB", (9, 9))])
    assert wire.came == []


def test_a_video_that_cannot_be_read(told: OpenAIChat, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    with pytest.raises(MediaError):
        told.generate(question="What?", video=tmp_path / "bad.mp4")
