"""``mini`` as a chat model of its own: what it is shown becomes a small library, which is asked and thrown away."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ivsearch.ask.chat import Reply
from ivsearch.ask.table import ChatRequest
from ivsearch.domain import Evidence, Skipped, Turn
from ivsearch.errors import MediaError, UsageError
from ivsearch.library import Library, open_library
from ivsearch.media.probe import probe
from ivsearch.settings import Settings

# What a PNG can hold; inks and numbers become the colours they stand for.
AS_IT_IS = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
SLOWEST_FPS, FASTEST_FPS = 0.001, 1000.0


@contextmanager
def library_of(paths: Sequence[Path], settings: Settings) -> Iterator[Library]:
    """A library of these files alone, gone when the context ends. Raises MediaError for one that cannot be read."""
    settings = dataclasses.replace(settings, library="", catalog="", chat="")
    with (
        tempfile.TemporaryDirectory(prefix="ivsearch-") as folder,
        open_library(Path(folder) / "library", settings=settings) as library,
    ):
        for event in library.index(list(paths)):
            if isinstance(event, Skipped):
                raise MediaError(f"{event.path}: {event.reason}")
        yield library


def rate_of(video: Path, n_frames: int) -> float:
    """Frames a second, so that about ``n_frames`` of the video are looked at. Raises MediaError."""
    duration_s = probe(video).duration_s
    return min(max(n_frames / duration_s, SLOWEST_FPS), FASTEST_FPS) if duration_s else 1.0


class MiniChat:
    """A Watcher without a language model; ``load`` makes one. Answers cite what they say, as ``ivsearch ask`` does."""

    name = "mini"
    watches = True
    languages: frozenset[str] | None = None
    missed: frozenset[int] = frozenset()

    def generate(
        self,
        *,
        question: str,
        images: Sequence[Image.Image] = (),
        video: Path | None = None,
        n_frames: int | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 1024,
        max_tiles: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Reply:
        """As Watcher says, but images and a video may come together. It writes no tokens, draws nothing by chance and
        cuts no tiles: the other wishes change nothing.

        Raises UsageError when there is nothing to look at, MediaError for a video that cannot be read.
        """
        if not images and video is None:
            raise UsageError("chat model 'mini' can only tell what it sees: show it a picture or a video")
        settings = Settings(fps=1.0 if video is None or n_frames is None else rate_of(video, n_frames))
        with tempfile.TemporaryDirectory(prefix="ivsearch-") as folder:
            paths = [] if video is None else [video]
            for number, image in enumerate(images, 1):
                paths.append(Path(folder) / f"image{number}.png")
                like = "I;16" if image.mode == "I" else "RGB"
                (image if image.mode in AS_IT_IS else image.convert(like)).save(paths[-1])
            with library_of(paths, settings) as library:
                answer = library.ask(question, history=[Turn(*turn) for turn in history])
        return Reply(answer.text, ())

    def stream(
        self,
        *,
        question: str,
        images: Sequence[Image.Image] = (),
        video: Path | None = None,
        n_frames: int | None = None,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 1024,
        max_tiles: int | Sequence[int] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """As ``generate``, all at once."""
        yield self.generate(question=question, images=images, video=video, n_frames=n_frames, history=history).text

    def reply(self, turns: Sequence[Turn], evidence: Sequence[Evidence], *, max_new_tokens: int) -> Iterator[str]:
        """Nothing: where nobody words the Evidence, the composed answer stands."""
        yield from ()


def load(request: ChatRequest) -> MiniChat:
    """Raises UsageError for weights or a dtype: it has none."""
    if request.weights is not None or request.dtype:
        raise UsageError("chat model 'mini' is no network: leave weights and dtype out")
    return MiniChat()
