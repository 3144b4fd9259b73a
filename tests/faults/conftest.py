"""Small real media, a library of them that met no fault, and the table of what came of faults."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ivsearch.domain import Embeddings, Hit, Ingested
from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library, open_library
from ivsearch.settings import Settings

from .fault_run import Table
from .held import Held, held_by
from .zygote import Zygote

PHOTOS = ("pet.jpg", "table.jpg", "night.jpg", "portrait.jpg")
FILM, SHORT = "film.mp4", "call.mp4"
FPS = 10
FILM_S = (4, 14)  # of the compilation: street, rocket
QUERIES = ("a cat", "骑自行车的人", "صاروخ", "a cup of coffee")


class Counting:
    """The real encoder, counting the pictures it is given. It reads each query once."""

    def __init__(self, mini: Encoder) -> None:
        self.mini, self.space, self.batch_size = mini, mini.space, mini.batch_size
        self.transparency = mini.transparency
        self.pictures = 0
        self._texts: dict[str, Embeddings] = {}

    def preprocess(self, pixels: Sequence) -> np.ndarray:
        return self.mini.preprocess(pixels)

    def encode_images(self, batch: np.ndarray) -> Embeddings:
        self.pictures += len(batch)
        return self.mini.encode_images(batch)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        key = "\0".join(texts)
        if key not in self._texts:
            self._texts[key] = self.mini.encode_texts(texts)
        return self._texts[key]


@dataclass(frozen=True)
class Whole:
    """A library that met no fault, closed; what it holds, and what it answers."""

    folder: Path
    media: Path
    held: Held
    hits: dict[str, list[tuple]]

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.folder, folder))


def shown(hits: Sequence[Hit]) -> list[tuple]:
    """What a user sees of hits: everything but the ids."""
    return [(h.path.name, round(h.score, 3), h.start_s, h.end_s, h.moment.start_s, h.moment.end_s) for h in hits]


def opened(encoder: Counting, folder: Path) -> Library:
    """A library with the encoder, decoding in one process: it costs more to start than these media to decode."""
    library = open_library(folder, settings=Settings(workers=1))
    library.encoder = encoder
    return library


def outcomes(library: Library, *paths: Path) -> dict[str, str]:
    """File name → what became of it."""
    return {
        event.path.name: event.outcome.value if isinstance(event, Ingested) else type(event).__name__.lower()
        for event in library.index(list(paths))
    }


@pytest.fixture(scope="session")
def footage(sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small photos, ten seconds of film in two scenes, a short clip. Read only."""
    folder = tmp_path_factory.mktemp("footage")
    for name in PHOTOS:
        with Image.open(sample_media / name) as photo:
            photo.thumbnail((320, 320))
            photo.save(folder / name, quality=90)
    shutil.copyfile(sample_media / SHORT, folder / SHORT)
    with av.open(str(sample_media / "compilation.mp4")) as source, av.open(str(folder / FILM), "w") as target:
        stream = target.add_stream("libx264", FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.options = {"preset": "veryfast", "g": str(FPS)}
        for frame in source.decode(video=0):
            if FILM_S[0] <= frame.time < FILM_S[1]:
                small = frame.to_image().resize((320, 180))
                target.mux(stream.encode(av.VideoFrame.from_image(small)))
        target.mux(stream.encode(None))
    return folder


@pytest.fixture(scope="session")
def counting(mini: Encoder) -> Counting:
    return Counting(mini)


@pytest.fixture(scope="session")
def whole(footage: Path, counting: Counting, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole") / "library"
    with opened(counting, folder) as library:
        assert set(outcomes(library, footage).values()) == {"indexed"}
        hits = {query: shown(library.search(query, k=4)) for query in QUERIES}
        assert list(library.verify()) == []
    assert hits["a cat"][0][0] == "pet.jpg" and hits["a cup of coffee"][0][0] == "table.jpg"
    return Whole(folder, footage, held_by(folder), hits)


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path_factory.mktemp("zygote") / "said.txt")
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    """Printed at the end, and written to the file that IVSEARCH_FAULTS_JSON names."""
    table = Table()
    yield table
    print("\n" + table.text())
    if path := os.environ.get("IVSEARCH_FAULTS_JSON"):
        rows = [run.as_json() for run in table.runs]
        Path(path).write_text(
            json.dumps({"faults": rows, "table": [run.cells() for run in table.runs]}, indent=2) + "\n"
        )
