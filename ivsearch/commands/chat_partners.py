"""Who answers in ``ivsearch chat``: a library, the embedded encoder shown some files, or a chat model alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ivsearch import wire
from ivsearch.commands.options import warn
from ivsearch.commands.proof import Proof, advice
from ivsearch.domain import Answer, Piece, Turn
from ivsearch.errors import AnswerCut, MediaError
from ivsearch.plain_text import steady
from ivsearch.render import sources_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from ivsearch.ask.chat import Watcher
    from ivsearch.library import Library

Echo = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is asked about. Nothing at all: the library, or with a chat model alone, anything under the sun."""

    images: tuple[Path, ...] = ()
    video: Path | None = None
    n_frames: int | None = None
    max_tiles: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.images) or self.video is not None

    @property
    def files(self) -> list[Path]:
        return [*([self.video] if self.video else []), *self.images]

    def document(self) -> dict[str, Any]:
        return {"video": str(self.video) if self.video else None, "images": [str(path) for path in self.images]}


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, after the (question, answer) of ``history``."""

    question: str
    subject: Subject = Subject()
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Manner:
    """How a chat model alone is to speak. ``temperature`` 0: always the likeliest word."""

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Partner(Protocol):
    """``tell`` echoes the answer for a reader, as it comes, and returns what of it the next question may lean on; it
    raises AnswerCut where it broke off. ``document`` is the same for a machine, with that under ``answer``, and then
    ``error``."""

    def tell(self, asked: Asked, echo: Echo) -> str: ...

    def document(self, asked: Asked) -> dict[str, Any]: ...


class Librarian:
    """Answers from a library, with proof."""

    def __init__(self, library: Library, proof: Proof) -> None:
        self._library, self._proof = library, proof

    def tell(self, asked: Asked, echo: Echo) -> str:
        answer = self._answer(asked, echo)
        sources = sources_text(answer, advice(self._library, self._proof.unsupported))
        echo(f"\n\n{sources}\n" if sources else "\n")
        if answer.error:
            raise AnswerCut(answer.error, answer.text)
        return answer.text

    def document(self, asked: Asked) -> dict[str, Any]:
        return wire.answer(self._answer(asked, lambda text: None))

    def _answer(self, asked: Asked, echo: Echo) -> Answer:
        """Each piece is echoed when it is checked."""
        history = [Turn(*turn) for turn in asked.history]
        proof = self._proof
        events = self._library.ask_stream(
            asked.question, k=proof.k, history=history, verify=proof.verify, unsupported=proof.unsupported
        )
        answer: Answer | None = None
        started = False
        try:
            for event in events:
                if isinstance(event, Piece):
                    started = True
                    echo(steady(event.text))
                else:
                    answer = event
        finally:
            if started and answer is None:
                echo("\n")
        assert answer is not None, "the last event is the answer"
        complaints = self._library.searcher().complaints
        warn(complaints)
        complaints.clear()
        return answer


class FileLibrarian:
    """Answers from a library of the very files it was made for."""

    def __init__(self, library: Library, subject: Subject, proof: Proof) -> None:
        self._librarian, self._subject = Librarian(library, proof), subject

    def tell(self, asked: Asked, echo: Echo) -> str:
        return self._librarian.tell(asked, echo)

    def document(self, asked: Asked) -> dict[str, Any]:
        started = time.perf_counter()
        document = self._librarian.document(asked)
        seconds = round(time.perf_counter() - started, wire.TIME_DIGITS)
        return {**document, "token_ids": [], "frames": [], **self._subject.document(), "seconds": seconds}


class Model:
    """A chat model alone, shown pictures or a video, or only spoken to."""

    def __init__(self, chat: Watcher, manner: Manner) -> None:
        self._chat, self._manner = chat, manner

    def tell(self, asked: Asked, echo: Echo) -> str:
        manner, subject = self._manner, asked.subject
        pieces = []
        try:
            with _named(subject.video):
                stream = self._chat.stream(
                    question=asked.question,
                    images=_read(subject.images),
                    video=subject.video,
                    n_frames=subject.n_frames,
                    history=asked.history,
                    max_tiles=_most_tiles(subject),
                    max_new_tokens=manner.max_new_tokens,
                    temperature=manner.temperature,
                    top_p=manner.top_p,
                    seed=manner.seed,
                )
                for piece in stream:
                    pieces.append(piece)
                    echo(steady(piece))
        finally:
            # Also after Ctrl-C or an answer that broke off: what is said of that begins a line.
            if pieces:
                echo("\n")
        return "".join(pieces).strip()

    def document(self, asked: Asked) -> dict[str, Any]:
        manner, subject = self._manner, asked.subject
        images = _read(subject.images)
        started = time.perf_counter()
        try:
            with _named(subject.video):
                reply = self._chat.generate(
                    question=asked.question,
                    images=images,
                    video=subject.video,
                    n_frames=subject.n_frames,
                    history=asked.history,
                    max_tiles=_most_tiles(subject),
                    max_new_tokens=manner.max_new_tokens,
                    temperature=manner.temperature,
                    top_p=manner.top_p,
                    seed=manner.seed,
                )
        except AnswerCut as cut:
            said: dict[str, Any] = {"answer": cut.text, "token_ids": [], "frames": []}
            faults = {"error": str(cut)}
        else:
            frames = [{"index": look.index, "pts_s": round(look.pts_s, wire.TIME_DIGITS)} for look in reply.frames]
            said, faults = {"answer": reply.text, "token_ids": list(reply.token_ids), "frames": frames}, {}
        seconds = round(time.perf_counter() - started, wire.TIME_DIGITS)
        about = {"chat": self._chat.name, **subject.document(), "seconds": seconds}
        return {"question": asked.question, **said, **about, **faults}


def _most_tiles(subject: Subject) -> int | tuple[int, ...] | None:
    """One number counts for all pictures."""
    return subject.max_tiles[0] if len(subject.max_tiles) == 1 else subject.max_tiles or None


@contextmanager
def _named(path: Path | None) -> Iterator[None]:
    """A MediaError tells of which file it is."""
    try:
        yield
    except MediaError as error:
        if path is None or str(path) in str(error):
            raise
        raise MediaError(f"{path}: {error}") from error


def _read(paths: tuple[Path, ...]) -> list[Image]:
    """Pictures as the official code has them, their colours also where nothing of them is to be seen; but upright."""
    from PIL.Image import fromarray

    from ivsearch.encode.picture_files import read_picture
    from ivsearch.pictures import Transparency

    pictures = []
    for path in paths:
        with _named(path):
            pictures.append(fromarray(read_picture(path, Transparency.DROPPED)))
    return pictures
