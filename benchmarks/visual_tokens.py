"""What a second question about the same clips costs, with what the chat model saw kept on disk and without.

    python benchmarks/visual_tokens.py --weights DIR [--chat internvideo2.5] [--media DIR] [--device cuda] [--json OUT]

``DIR`` holds a chat model in the official layout; its words are not judged, so random weights do as well as real ones.
Every question is asked by a library opened anew, whose model is loaded before the clock starts: what is left is
decoding, looking, reading the prompt and the first word.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import ivsearch
from ivsearch.domain import Evidence, MediaKind, Turn
from ivsearch.library import Library
from ivsearch.models.loaded_chat import LoadedChat
from ivsearch.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo.sample_media import make

KEPT_BYTES = 2 << 30


class Looking:
    """Seconds that ``LoadedChat.watch`` takes, decoding among them."""

    def __init__(self) -> None:
        self.wall_s, self.frames = 0.0, 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        watch = LoadedChat.watch

        def timed(loaded, parts):  # type: ignore[no-untyped-def]
            started = time.perf_counter()
            features = watch(loaded, parts)
            self.wall_s += time.perf_counter() - started
            self.frames += len(features)
            return features

        LoadedChat.watch = timed  # type: ignore[method-assign]
        try:
            yield
        finally:
            LoadedChat.watch = watch  # type: ignore[method-assign]


def clips(library: Library, n: int) -> list[Evidence]:
    """Of the videos, as an answer about something seen would show them."""
    hits = [hit for hit in library.search("something that moves", k=50) if hit.kind is MediaKind.VIDEO][:n]
    return [Evidence(label, hit, hit.start_s, hit.end_s, ()) for label, hit in enumerate(hits, 1)]


def ask(folder: Path, settings: Settings, question: str, n_clips: int) -> dict[str, float]:
    """One question; seconds to the first word, and how much of it went into looking."""
    with ivsearch.open_library(folder, settings=settings) as library:
        chat, evidence = library.chat, clips(library, n_clips)
        assert chat is not None
        looking = Looking()
        with looking.watched():
            started = time.perf_counter()
            next(iter(chat.reply([Turn(question, "")], evidence, max_new_tokens=1)), "")
            wall_s = time.perf_counter() - started
        return {
            "clips": len(evidence),
            "frames_looked_at": looking.frames,
            "look_s": round(looking.wall_s, 3),
            "first_word_s": round(wall_s, 3),
            "kept_bytes": library.stats().visual_token_bytes,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="folder or hub id of the chat model")
    parser.add_argument("--chat", default="internvideo2.5")
    parser.add_argument("--media", type=Path, help="a folder of videos (default: the demo's sample media)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many is told")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        media = arguments.media or Path(temporary) / "media"
        if arguments.media is None:
            make(media)
        folder = Path(temporary) / "library"
        with ivsearch.open_library(folder, settings=Settings()) as library:
            list(library.index([media]))

        def settings(kept_bytes: int) -> Settings:
            return Settings(
                chat=arguments.chat,
                chat_weights=arguments.weights,
                chat_device=arguments.device,
                chat_dtype=arguments.dtype,
                visual_tokens_bytes=kept_bytes,
            )

        rounds = range(arguments.rounds)
        fresh = [ask(folder, settings(0), f"What happens here, {number}?", arguments.clips) for number in rounds]
        first = ask(folder, settings(KEPT_BYTES), "What happens here?", arguments.clips)
        again = [ask(folder, settings(KEPT_BYTES), f"And then, {number}?", arguments.clips) for number in rounds]

    def median(asked: list[dict[str, float]]) -> dict[str, float]:
        return {name: float(np.median([each[name] for each in asked])) for name in asked[0]}

    table = {"nothing kept": median(fresh), "first, kept": first, "second, found": median(again)}
    print(f"{'':16}{'clips':>7}{'frames looked at':>18}{'looking, s':>12}{'first word, s':>15}{'on disk, MB':>13}")
    for name, row in table.items():
        print(
            f"{name:16}{row['clips']:7.0f}{row['frames_looked_at']:18.0f}{row['look_s']:12.3f}"
            f"{row['first_word_s']:15.3f}{row['kept_bytes'] / 1e6:13.1f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
