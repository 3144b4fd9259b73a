"""How long every act takes in a library of a million media: their rows, in SQLite or PostgreSQL, and real segments.

    python benchmarks/catalog_rows.py [--rows N] [--library DIR] [--catalog URL] [--json OUT]

Every media is an image with one path, one encoding and one clip; its vector is seeded noise of 16 dimensions in a real
segment, so that searches run over a real index. The encoder of the library is a toy, which costs nothing to load: what
is measured is the rest. ``catalog`` lists acts of the Catalog alone, the better of two, ``library`` whole acts of an
open Library, each once, ``command line`` whole new processes, beside some in a library of five files.
Seconds by the clock, and of processor time, which other work on the machine does not lengthen. The goal is a second.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image

from ivsearch.domain import Embeddings, Filters, FrameVectors, Media, MediaKind, Space
from ivsearch.library import Library, open_library
from ivsearch.pictures import Transparency
from ivsearch.settings import Settings
from ivsearch.store import tables
from ivsearch.store.catalog import Catalog, PathRow
from ivsearch.store.changes import count_added
from ivsearch.store.manifest import EncoderSource, Manifest, write_manifest
from ivsearch.store.ownership import claim
from ivsearch.store.record_bytes import DIGEST_BYTES, HEAD, MAGIC, Facts, pack
from ivsearch.store.refresh import save_index
from ivsearch.store.rows import media_row

SPACE = Space("toy", "0" * 32, 16)
SAMPLING = "fps=1 gate=on"
BATCH = 10_000
GOAL_S = 1.0


class Toy:
    """An Encoder whose texts are seeded noise."""

    space = SPACE
    batch_size = 16
    transparency = Transparency.ON_WHITE

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.stack([picture[:1, :1].ravel()[:3] for picture in pixels]).astype(np.float32)

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        return self._noise([int(row.sum()) for row in batch])

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        return self._noise([sum(text.encode()) for text in texts])

    def _noise(self, seeds: Sequence[int]) -> Embeddings:
        return Embeddings(SPACE, np.stack([unit(np.random.default_rng(seed), 1)[0] for seed in seeds]))


def unit(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((n, SPACE.dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def id_of(number: int) -> str:
    # As fingerprints are: spread over all values, so that neighbours in time are none in the indexes.
    return f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"


def _when_s(number: int) -> int:
    return 1_400_000_000 + number * 300


def media_of(number: int) -> Media:
    when = datetime.fromtimestamp(_when_s(number), UTC)
    return Media(id_of(number), MediaKind.IMAGE, 0.0, 4000, 3000, "jpeg", 3_000_000 + number, None, when)


def path_of(number: int) -> Path:
    return Path(f"/media/{number // 10_000:03d}/{number // 100 % 100:02d}/IMG_{number:07d}.jpg")


def begin(folder: Path) -> None:
    encoders = {SPACE.key: EncoderSource("mini")}
    write_manifest(folder, Manifest(active=SPACE, fps=1.0, roots=("/media",), encoders=encoders))


def make(folder: Path, catalog: Catalog, rows: int) -> None:
    """Rows and records as indexing writes them (which is checked), but all at once: four million rows in one go."""
    catalog.add_space(SPACE)
    rng, at = np.random.default_rng(20261122), 0
    segment = folder / "vectors" / SPACE.key / "000001.seg"
    segment.parent.mkdir(parents=True)
    with segment.open("wb") as file, catalog.writer.begin() as connection:
        cursor = connection.connection.cursor()
        for start in range(0, rows, BATCH):
            numbers = range(start, min(start + BATCH, rows))
            vectors = unit(rng, len(numbers)).astype(np.float16)
            medias = [media_row(media_of(start))] * len(numbers)
            medias = [{**row, **_own(number)} for number, row in zip(numbers, medias, strict=True)]
            blobs = [_record(row, vector) for row, vector in zip(medias, vectors, strict=True)]
            if start == 0:
                frames = FrameVectors(np.zeros(1), np.zeros(1, np.int32), vectors[:1])
                media = media_of(0)
                assert blobs[0] == pack(media.media_id, frames, SPACE, Facts(media, SAMPLING))
                assert medias[0] == media_row(media)
            file.writelines(blobs)
            places = at + np.cumsum([0, *map(len, blobs)])
            at = int(places[-1])
            ids = [row["media_id"] for row in medias]
            sizes = [row["size_bytes"] for row in medias]
            _insert(cursor, tables.media, [tuple(row.values()) for row in medias], tuple(medias[0]))
            names = ("path", "media_id", "size_bytes", "mtime_ns")
            paths = [str(path_of(number)) for number in numbers]
            _insert(cursor, tables.path, list(zip(paths, ids, sizes, numbers, strict=True)), names)
            of_one = (SPACE.key, SAMPLING, segment.name)
            encodings = [
                (each, *of_one, int(place), len(blob), 1, 1, 1)
                for each, place, blob in zip(ids, places, blobs, strict=False)
            ]
            _insert(cursor, tables.encoding, encodings, tuple(tables.encoding.c.keys()))
            clips = [(SPACE.key, each, 0.0, 0.0, 0, 1) for each in ids]
            _insert(cursor, tables.clip, clips, tuple(tables.clip.c.keys())[1:])
        count_added(connection, SPACE)
    save_index(folder, catalog, SPACE)


def _insert(cursor: Any, table: sa.Table, rows: list[tuple], names: tuple[str, ...]) -> None:
    mark = "?" if type(cursor).__module__ == "sqlite3" else "%s"
    marks = ", ".join([mark] * len(names))
    cursor.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", rows)


def _own(number: int) -> dict[str, Any]:
    """What the row of a media has to itself."""
    return {"media_id": id_of(number), "size_bytes": 3_000_000 + number, "recorded_at_s": float(_when_s(number))}


def _record(row: dict[str, Any], vector: NDArray[np.float16]) -> bytes:
    """As ``pack`` gives it."""
    when = datetime.fromtimestamp(row["recorded_at_s"], UTC).isoformat()
    head = _HEAD % (row["media_id"], row["media_id"], row["size_bytes"], when)
    payload = bytes(12) + vector.tobytes()
    body = HEAD.pack(MAGIC, len(head), len(payload)) + head.encode() + payload
    return body + hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()


_HEAD = (
    f'{{"media_id": "%s", "space": "{SPACE.key}", "samples": 1, "frames": 1, "dim": {SPACE.dim}, '
    f'"sampling": "{SAMPLING}", "media": {{"media_id": "%s", "kind": "image", "duration_s": 0.0, "width": 4000, '
    '"height": 3000, "codec": "jpeg", "size_bytes": %d, "fps": null, "recorded_at": "%s", "warnings": []}}'
)


class Taken(NamedTuple):
    """Seconds by the clock, and of this process's (or its children's) processor time."""

    clock_s: float
    processor_s: float


def taken(act: Callable[[], object]) -> Taken:
    started, used_s = time.perf_counter(), _used_s()
    act()
    return Taken(time.perf_counter() - started, _used_s() - used_s)


def _used_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def opened(folder: Path, url: str) -> Library:
    library = open_library(folder, create=False, settings=Settings(catalog=url))
    library.encoder, library.source = Toy(), EncoderSource("mini")
    return library


def catalog_acts(catalog: Catalog, rows: int) -> dict[str, Callable[[], object]]:
    some = [media_of(number).media_id for number in range(0, rows, max(1, rows // 500))][:500]
    stamp = catalog.clip_stamp(SPACE)
    return {
        "spaces": catalog.spaces,
        "is_complete": lambda: catalog.is_complete(SPACE),
        "clip_stamp": lambda: catalog.clip_stamp(SPACE),
        "clip_changes": lambda: catalog.clip_changes(SPACE, stamp),
        "totals": lambda: catalog.totals(SPACE),
        "media of 500": lambda: catalog.media(some),
        "media_paths of 500": lambda: catalog.media_paths(some),
        "encodings of 500": lambda: catalog.encodings(SPACE, some),
        "clips_of 500": lambda: catalog.clips_of(SPACE, some),
        "clips of 500": lambda: catalog.clips(range(1, 501)),
        "paths_below a folder": lambda: catalog.paths_below([path_of(rows // 2).parent]),
        "skipped": catalog.skipped,
        "link and unlink a file": lambda: (
            catalog.link([PathRow(Path("/copy.jpg"), some[0], 1, 1)]),
            catalog.remove_paths([Path("/copy.jpg")]),
        ),
        "ids that pass a glob, 1 %": lambda: catalog.matching_clips(SPACE, Filters(paths=("*/05/IMG_*",))),
        "ids that pass a date, 0.1 %": lambda: catalog.matching_clips(SPACE, _days(rows, 1000)),
        "ids of a kind, 100 %": lambda: catalog.matching_clips(SPACE, Filters(kind=MediaKind.IMAGE)),
        "all ids": lambda: catalog.clip_ids(SPACE),
    }


def _days(rows: int, share: int) -> Filters:
    first, last = media_of(rows // 2), media_of(rows // 2 + rows // share)
    return Filters(after=first.recorded_at, before=last.recorded_at)


def library_acts(library: Library, rows: int, pictures: Path) -> dict[str, Callable[[], object]]:
    return {
        "search": lambda: library.search("a cat"),
        "search, k 50": lambda: library.search("a dog", k=50),
        "search --kind image (100 %)": lambda: library.search("a cat", filters=Filters(kind=MediaKind.IMAGE)),
        "search --path '*/05/*' (1 %)": lambda: library.search("a cat", filters=Filters(paths=("*/05/*",))),
        "search --path 'IMG_00000?[1-5].jpg'": lambda: library.search(
            "a cat", filters=Filters(paths=("IMG_00000?[1-5].jpg",))
        ),
        "search --after --before (0.1 %)": lambda: library.search("a cat", filters=_days(rows, 1000)),
        "search --after --before (10 %)": lambda: library.search("a cat", filters=_days(rows, 10)),
        "search --clip": lambda: library.search(clip=rows // 2),
        "ask": lambda: library.ask("Where is the cat?"),
        "spaces": library.spaces,
        "index of 5 new files": lambda: list(library.index([pictures])),
        "index of 5 unchanged files": lambda: list(library.index([pictures])),
        "rm of one file": lambda: library.remove(pictures / "0.png"),
        "search after that": lambda: library.search("a cat"),
        "stats": library.stats,
    }


def command_lines(folder: Path, url: str, verbs: dict[str, list[str]]) -> dict[str, Taken]:
    """Whole processes: Python's start and all that is imported is in them."""
    place = ["--library", str(folder), *(["--catalog", url] if url else [])]
    start = [sys.executable, "-m", "ivsearch"]
    return {
        name: taken(lambda words=words: subprocess.run([*start, *words, *place], check=True, capture_output=True))
        for name, words in verbs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--library", type=Path, help="made when it is not there, and kept (default: a temporary one)")
    parser.add_argument("--catalog", default="", help="URL of an empty PostgreSQL database (default: SQLite)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.library or Path(temporary) / "library"
        if not folder.exists():
            folder.mkdir(parents=True)
            begin(folder)
            with opened(folder, arguments.catalog) as library:
                claim(folder, library.catalog)
                made = taken(lambda: make(folder, library.catalog, arguments.rows))
                print(f"made in {made.clock_s:.0f} s ({made.processor_s:.0f} s of processor time)")
        figures: dict[str, dict[str, Taken]] = {}

        def note(part: str, of_part: dict[str, Taken]) -> None:
            figures[part] = of_part
            print(f"\n{part}")
            for name, (clock_s, processor_s) in of_part.items():
                over = "" if clock_s < GOAL_S else "  over"
                print(f"  {name:<40} {clock_s:8.3f} s {processor_s:8.3f} s{over}", flush=True)

        with opened(folder, arguments.catalog) as library:
            acts = catalog_acts(library.catalog, arguments.rows)
            note("catalog", {name: min(taken(act), taken(act)) for name, act in acts.items()})
            note("catalog, every row", {"complaints (verify)": taken(lambda: list(library.catalog.complaints()))})
        pictures = Path(temporary) / "pictures"
        pictures.mkdir()
        for number in range(5):
            noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(noise).save(pictures / f"{number}.png")
        with opened(folder, arguments.catalog) as library:
            note("library, opening it", {"first search": taken(lambda: library.search("a tree"))})
            acts = library_acts(library, arguments.rows, pictures)
            note("library", {name: taken(act) for name, act in acts.items()})
        verbs = {verb: [verb] for verb in ("stats", "spaces", "queries")}
        more = {"rm of one file": ["rm", str(pictures / "1.png")], "rm of a folder": ["rm", str(pictures)]}
        note("command line", command_lines(folder, arguments.catalog, verbs | more))
        small = Path(temporary) / "small"
        small.mkdir()
        begin(small)
        with opened(small, "") as library:
            list(library.index([pictures]))
        note("command line, 5 files", command_lines(small, "", verbs))
    if arguments.json:
        document = {"rows": arguments.rows, "catalog": "PostgreSQL" if arguments.catalog else "SQLite"}
        arguments.json.write_text(json.dumps({**document, "seconds": _rounded(figures)}, indent=2) + "\n")


def _rounded(figures: dict[str, dict[str, Taken]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        part: {name: {key: round(s, 3) for key, s in each._asdict().items()} for name, each in of_part.items()}
        for part, of_part in figures.items()
    }


if __name__ == "__main__":
    main()
