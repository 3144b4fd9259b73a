"""The words an encoder is asked about: does it see this? They are data, in eleven languages."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from ivsearch.domain import Space
from ivsearch.encode.encoder import Encoder
from ivsearch.store.files import replace_file

COLUMNS = ("en", "zh", "ja", "fr", "es", "de", "ru", "ar", "it", "pt", "ko")


@dataclass(frozen=True, slots=True)
class Word:
    """One concept: its ``kind`` (animal, sport, place, …) and what it is called in each language of COLUMNS."""

    kind: str
    names: tuple[str, ...]

    @property
    def english(self) -> str:
        return self.names[0]

    def name(self, language: str) -> str:
        """In English where there is no other name."""
        return self.names[COLUMNS.index(language)] if language in COLUMNS else self.english


@cache
def vocabulary() -> tuple[Word, ...]:
    """All words, in the order of the file."""
    rows = (line.split("|") for line in _lines("vocabulary.txt"))
    return tuple(Word(kind, tuple(names)) for kind, *names in rows)


@cache
def kind_names() -> dict[str, tuple[str, ...]]:
    """What each kind is called in the languages of COLUMNS; synonyms are separated by commas, the first is shown."""
    return {row[0].split(",")[0]: tuple(row) for row in (line.split("|") for line in _lines("kinds.txt"))}


def _lines(name: str) -> list[str]:
    text = files("ivsearch.scoring").joinpath("data", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


# One encoder's vectors of the vocabulary are the same for every question and every library: kept for the process, and
# in the user's cache folder for the next one. The key is the Space, which names the weights.
_VECTORS: dict[str, NDArray[np.float32]] = {}


def vocabulary_vectors(encoder: Encoder, folder: Path | None = None) -> NDArray[np.float32]:
    """(words, dim) float32 unit rows, in the order of ``vocabulary()``. ``folder``: where they are kept on disk."""
    name = _file_name(encoder.space)
    if name not in _VECTORS:
        path = (folder or platformdirs.user_cache_path("ivsearch") / "vocabulary") / name
        vectors = _read(path, encoder.space)
        if vectors is None:
            vectors = encoder.encode_texts([word.english for word in vocabulary()]).vectors
            _write(path, vectors)
        _VECTORS[name] = vectors
    return _VECTORS[name]


def _file_name(space: Space) -> str:
    digest = hashlib.sha256("\n".join(word.english for word in vocabulary()).encode()).hexdigest()
    return f"{space.key}-{digest[:12]}.npy"


def _read(path: Path, space: Space) -> NDArray[np.float32] | None:
    """None when there is no such file or it is not what it should be: it is only a cache."""
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if vectors.shape != (len(vocabulary()), space.dim) or vectors.dtype != np.float32:
        return None
    return vectors if np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3) else None


def _write(path: Path, vectors: NDArray[np.float32]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, vectors)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, buffer.getvalue())
    except OSError:
        # A full disk or a read-only home: the vectors are made anew next time, nothing else is lost.
        return
