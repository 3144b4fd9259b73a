"""A library keeps what its chat model has seen: a second question does not look again, and nothing depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ivsearch.ask.internvl_chat import InternVLWatcher
from ivsearch.ask.table import server_of
from ivsearch.domain import Evidence, Ingested, Turn
from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library, open_library
from ivsearch.models.loaded_chat import LoadedChat
from ivsearch.settings import Settings

from .conftest import library_with

FEW_TOKENS = 4


class Seeing:
    """A library whose questions are told apart by what its chat model had to look at."""

    def __init__(self, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library, self.looks = library, 0
        watch = LoadedChat.watch

        def counting(loaded: LoadedChat, parts):  # type: ignore[no-untyped-def]
            self.looks += 1
            return watch(loaded, parts)

        monkeypatch.setattr(LoadedChat, "watch", counting)

    def evidence(self) -> list[Evidence]:
        hits = self.library.search("a cat", k=3)
        return [Evidence(label, hit, hit.start_s, hit.end_s, ()) for label, hit in enumerate(hits, 1)]

    def said(self, question: str) -> str:
        chat = self.library.chat
        assert chat is not None
        return "".join(chat.reply([Turn(question, "")], self.evidence(), max_new_tokens=FEW_TOKENS))


@pytest.fixture(scope="module")
def indexed(sample_media: Path, mini: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    library = library_with(mini, tmp_path_factory.mktemp("library"))
    media = [path for path in sample_media.iterdir() if path.suffix in (".mp4", ".jpg")][:6]
    assert all(isinstance(event, Ingested) for event in library.index(media))
    yield library
    library.close()


def again(indexed: Library, mini: Encoder, shared: Path, limit_bytes: int = 1 << 30) -> Library:
    weights = str(shared / "parity" / "iv25_168")
    settings = Settings(chat="internvideo2.5", chat_weights=weights, visual_tokens_bytes=limit_bytes)
    library = open_library(indexed.folder, settings=settings)
    library.encoder = mini
    return library


def test_a_second_question_does_not_look_again(
    indexed: Library, mini: Encoder, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with again(indexed, mini, shared, limit_bytes=0) as library:
        without = Seeing(library, monkeypatch)
        fresh = [without.said("What does the cat do?"), without.said("What colour is it?")]
        assert without.looks > 0
        assert library.stats().visual_token_bytes == 0

    with again(indexed, mini, shared) as library:
        first = Seeing(library, monkeypatch)
        assert first.said("What does the cat do?") == fresh[0]
        looked = first.looks
        assert looked > 0
        assert library.stats().visual_token_bytes > looked * 4 * 16 * 96
        assert first.said("What colour is it?") == fresh[1]
        assert first.looks == looked

    # Another process finds it, too; a damaged note is made anew; rm forgets those of its files.
    with again(indexed, mini, shared) as library:
        later = Seeing(library, monkeypatch)
        assert later.said("What colour is it?") == fresh[1] and later.looks == 0
        note = next((library.folder / "visual_tokens").rglob("*.tokens"))
        note.write_bytes(note.read_bytes()[:-3])
        assert list(library.verify()) == []
        assert later.said("What does the cat do?") == fresh[0] and later.looks == 1
        note.write_bytes(note.read_bytes()[:-3])
        assert any("1 damaged notes" in line for line in library.repair())
        assert list(library.repair()) == []
        media = {evidence.hit.media_id: evidence.hit.path for evidence in later.evidence()}
        gone, path = media.popitem()
        notes = library.folder / "visual_tokens"
        assert list(notes.glob(f"*/*/{gone}/*"))
        library.remove(path)
        assert not list(notes.glob(f"*/*/{gone}"))
        assert not media or list(notes.glob("*/*/*/*.tokens"))


def test_settings_say_how_many_frames_a_chat_model_is_shown(indexed: Library, mini: Encoder, shared: Path) -> None:
    weights = str(shared / "parity" / "chat_qwen2")
    for chat_frames, shown in ((0, 16), (5, 5)):
        settings = Settings(chat="internvl2.5", chat_weights=weights, chat_frames=chat_frames)
        with open_library(indexed.folder, settings=settings) as library:
            chat = library.chat
            assert isinstance(chat, InternVLWatcher) and chat.evidence_frames == shown
        assert server_of(settings).n_frames == (chat_frames or 32)
