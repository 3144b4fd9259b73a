"""The vocabulary's data, and its vectors on disk."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest

from ivsearch.ask.language import LANGUAGES
from ivsearch.ask.phrases import PHRASES
from ivsearch.encode.encoder import Encoder
from ivsearch.scoring import vocabulary as module
from ivsearch.scoring.vocabulary import COLUMNS, kind_names, vocabulary, vocabulary_vectors

SCRIPTS = {
    "zh": (0x2E80, 0x9FFF),
    "ja": (0x3040, 0x9FFF),
    "ru": (0x400, 0x4FF),
    "ar": (0x600, 0x6FF),
    "ko": (0xAC00, 0xD7AF),
}


def test_every_word_has_a_name_in_every_language() -> None:
    words = vocabulary()
    assert len({word.english for word in words}) == len(words) > 200
    for word in words:
        assert len(word.names) == len(COLUMNS)
        assert all(name == name.strip() and name for name in word.names), word


@pytest.mark.parametrize("language", SCRIPTS)
def test_names_are_in_their_script(language: str) -> None:
    low, high = SCRIPTS[language]
    for word in vocabulary():
        assert any(low <= ord(letter) <= high for letter in word.name(language)), word


def test_a_language_without_names_gets_english() -> None:
    assert vocabulary()[0].name("hi") == vocabulary()[0].english


def test_every_kind_but_people_can_be_asked_for() -> None:
    assert {word.kind for word in vocabulary()} - set(kind_names()) == {"person"}
    assert all(len(columns) == len(COLUMNS) for columns in kind_names().values())


def test_every_language_speaks_every_sentence() -> None:
    assert set(PHRASES) == set(LANGUAGES)
    english = PHRASES["en"]
    for language, phrases in PHRASES.items():
        assert set(phrases.beyond) == set(english.beyond)
        assert all("{label}" in sentence for sentence in phrases.beyond.values()), language
        for name in ("best", "nearest", "looks", "likely", "also", "next", "previous", "ends", "begins", "nothing"):
            assert fields(getattr(phrases, name)) == fields(getattr(english, name)), (language, name)


def fields(sentence: str) -> set[str | None]:
    return {field for _, field, _, _ in string.Formatter().parse(sentence)} - {None}


def test_vectors_are_kept_on_disk(mini: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_VECTORS", {})
    made = vocabulary_vectors(mini, tmp_path)
    assert made.shape == (len(vocabulary()), mini.space.dim)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-3)
    (file,) = tmp_path.iterdir()
    module._VECTORS.clear()
    np.testing.assert_array_equal(vocabulary_vectors(mini, tmp_path), made)
    for damage in (b"", b"not an array", file.read_bytes()[:500]):
        file.write_bytes(damage)
        assert module._read(file, mini.space) is None, "made anew, then"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    module._write(tmp_path / "file" / "below" / "vectors.npy", np.zeros((1, 1), np.float32))
    assert (tmp_path / "file").read_bytes() == b"in the way"
