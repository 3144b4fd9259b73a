"""``mini`` as a chat model from Python: shown files, with no library around."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ivsearch.ask import load_chat
from ivsearch.ask.chat import Watcher
from ivsearch.errors import MediaError, UsageError
from ivsearch.mini_chat import MiniChat, rate_of


@pytest.fixture
def chat() -> MiniChat:
    loaded = load_chat("mini")
    assert isinstance(loaded, MiniChat) and isinstance(loaded, Watcher)
    return loaded


def test_it_tells_what_a_picture_shows(chat: MiniChat, sample_media: Path) -> None:
    images = [Image.open(sample_media / "table.jpg"), Image.open(sample_media / "pet.jpg")]
    reply = chat.generate(question="Where is the cat?", images=images)
    assert "image2.png" in reply.text and "[1]" in reply.text and reply.token_ids == ()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "F", "I", "PA", "P", "L", "1"])
def test_it_takes_pictures_of_any_kind(chat: MiniChat, sample_media: Path, mode: str) -> None:
    with Image.open(sample_media / "pet.jpg") as opened:
        small = opened.convert("RGB").resize((320, 240))
    between = small.convert("L") if mode in ("F", "I") else small.convert("P") if mode == "PA" else small
    image = Image.new("LAB", small.size, (128, 0, 0)) if mode == "LAB" else between.convert(mode)
    assert chat.generate(question="Where is the cat?", images=[image]).text


def test_it_tells_where_in_a_video(chat: MiniChat, sample_media: Path) -> None:
    video = sample_media / "compilation.mp4"
    (text,) = chat.stream(question="Where is the cat?", video=video, n_frames=60)
    # A cat is there from 17 s to 24 s.
    assert "compilation.mp4" in text and "0:17" in text
    asked_on = chat.generate(question="And where is it?", video=video, history=[("Is there a cat?", text)])
    assert "0:17" in asked_on.text


def test_it_says_what_the_only_file_does_not_show(chat: MiniChat, sample_media: Path) -> None:
    reply = chat.generate(question="Where is the horse?", video=sample_media / "compilation.mp4")
    assert reply.text.startswith("The footage does not show it: nothing found") and "[1]" not in reply.text


def test_frames_become_a_rate(sample_media: Path) -> None:
    import av

    video = sample_media / "call.mp4"
    with av.open(video) as container:
        duration_s = float(container.duration / av.time_base)
    assert rate_of(video, 30) == pytest.approx(30 / duration_s, rel=0.02)
    assert rate_of(sample_media / "pet.jpg", 30) == 1.0


def test_nothing_to_look_at(chat: MiniChat) -> None:
    with pytest.raises(
        UsageError, match=r"^chat model 'mini' can only tell what it sees: show it a picture or a video$"
    ):
        chat.generate(question="Hello?")


def test_a_file_it_cannot_read(chat: MiniChat, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"bad\.mp4: is not a video or image"):
        chat.generate(question="What?", video=tmp_path / "bad.mp4")


def test_where_nobody_words_the_evidence(chat: MiniChat) -> None:
    assert list(chat.reply([], [], max_new_tokens=9)) == []


@pytest.mark.parametrize("wishes", [{"weights": "x"}, {"dtype": "bfloat16"}])
def test_what_it_has_no_use_for(wishes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^chat model 'mini' is no network: leave weights and dtype out$"):
        load_chat("mini", **wishes)
