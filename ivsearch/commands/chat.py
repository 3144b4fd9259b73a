"""``ivsearch chat``."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ivsearch.commands.chat_lines import MOST_FRAMES, read_asked
from ivsearch.commands.chat_partners import Asked, FileLibrarian, Librarian, Manner, Model, Partner, Subject
from ivsearch.commands.options import (
    SOME_SKIPPED,
    catalog_flag,
    chat_options,
    echo_json,
    echo_jsonl,
    encoder_options,
    existing,
    json_option,
    library_option,
    one_format,
    readable,
)
from ivsearch.commands.proof import Proof, proof_options
from ivsearch.errors import AnswerCut, IvsearchError, NetworkError, UsageError
from ivsearch.plain_text import steady
from ivsearch.settings import Settings, library_folder, load_settings

if TYPE_CHECKING:
    from ivsearch.ask.table import ChatRow

Command = Callable[..., Any]


def manner_options(command: Command) -> Command:
    for option in (
        click.option("--seed", type=int, metavar="N", help="Of chance, where there is any (default: 0)."),
        click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Draw from this share (default: 1)."),
        click.option("--temperature", type=click.FloatRange(0), help="0, the default: always the likeliest word."),
        click.option("--max-new-tokens", type=click.IntRange(1), help="At most so long an answer (default: 1024)."),
    ):
        command = option(command)
    return command


def subject_options(command: Command) -> Command:
    for option in (
        click.option(
            "--max-tiles",
            type=click.IntRange(1, 40),
            multiple=True,
            help="Into how many tiles a picture is cut at most. Once for all, or once for each --image.",
        ),
        click.option("--frames", type=click.IntRange(1, MOST_FRAMES), help="Frames of the video that are looked at."),
        click.option("--image", "images", metavar="FILE", multiple=True, help="Ask about this picture. Repeatable."),
        click.option("--video", "videos", metavar="FILE", multiple=True, help="Ask about this video, one at a time."),
    ):
        command = option(command)
    return command


@click.command(
    epilog="""\b
Examples:
  ivsearch chat                               # type questions; an empty line or Ctrl-D ends
  ivsearch chat -q "Is there a horse?" -q "Where?"
  ivsearch chat --video holiday.mp4 -q "Where is the beach?"
  ivsearch chat --chat internvideo2.5 --weights DIR --video holiday.mp4 --frames 128
  ivsearch chat --chat openai:qwen2.5-vl --endpoint http://localhost:8000/v1 --image a.jpg -q "What is this?"
  ivsearch chat --jsonl < questions.txt       # one JSON object an answer

\b
Lines that are JSON objects, {"question": "...", "image": "a.jpg"} or with "images" or
"video", are questions on their own, whose answers come with --jsonl, one a line.
"""
)
@click.option("--question", "-q", "questions", multiple=True, help="Ask this and end. Repeatable: one conversation.")
@subject_options
@chat_options
@manner_options
@click.option("--no-library", is_flag=True, help="Talk with the chat model alone.")
@proof_options
@library_option
@encoder_options
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object an answer, as it comes.")
def command(
    questions: tuple[str, ...],
    videos: tuple[str, ...],
    images: tuple[str, ...],
    frames: int | None,
    max_tiles: tuple[int, ...],
    chat: str | None,
    chat_weights: str | None,
    chat_device: str | None,
    chat_dtype: str | None,
    endpoint: str | None,
    chat_pictures: bool | None,
    max_new_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    no_library: bool,
    verify: str,
    unsupported: str,
    k: int,
    library: str | None,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    as_json: bool,
    jsonl: bool,
) -> None:
    """Ask on, in a conversation: a short question is understood from the ones before it.

    About the library; about pictures or a video with --image and --video; or with a chat model that can be talked
    with and no library there, about anything. --weights and --dtype are the chat model's where it has some and no
    --encoder is named.
    """
    one_format(as_json, jsonl)
    if len(videos) > 1:
        raise click.UsageError(f"--video is one video, and {len(videos)} came: ask about one at a time")
    video = _file(videos[0]) if videos else None
    subject = Subject(tuple(map(_file, images)), video, frames, max_tiles)
    if subject and library:
        raise click.UsageError("--video and --image are asked about without a library: leave --library out")
    lone = (frames and not video) or (max_tiles and not images)
    if lone and (questions or not jsonl):
        raise click.UsageError("--frames goes with --video, --max-tiles with --image")
    wished = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    flags = {
        "library": library,
        "encoder": encoder,
        "weights": weights,
        "device": device,
        "dtype": dtype,
        "preprocess": preprocess,
        "chat": chat,
        "chat_weights": chat_weights,
        "chat_device": chat_device,
        "chat_dtype": chat_dtype,
        "chat_endpoint": endpoint,
        "chat_pictures": chat_pictures,
    }
    with Partners(
        _settings(flags),
        {name: value for name, value in wished.items() if value is not None},
        Proof(k, verify, unsupported),
    ) as partners:
        if no_library:
            partners.leave_library()
        lines = iter(()) if questions else _typed(prompted=not jsonl)
        first = next(lines, None) if jsonl else None
        if first is not None and first.startswith("{"):
            _batch(partners, chain([first], lines), frames, max_tiles)
            return
        asked = questions or (line for line in chain([first] if first else [], lines))
        talk = Talk(partners.of(subject), subject, goes_on=not questions)
        if as_json or jsonl:
            documents = talk.documents(asked, echo_jsonl if jsonl else lambda _: None)
        else:
            talk.tell(asked)
    if as_json:
        # One question, one answer: the same document as `ask` prints.
        echo_json(documents[0] if len(questions) == 1 else {"answers": documents})
    if talk.exit_code:
        sys.exit(talk.exit_code)


class Partners:
    """Finds the one to answer; what one needs is loaded when it is first asked. A context manager."""

    def __init__(self, settings: Settings, wished: dict[str, Any], proof: Proof) -> None:
        self._settings, self._wished, self._proof = settings, wished, proof
        self._row = _row(settings)
        self._asks_library = not self._row.alone or bool(settings.library) or _is_there(settings)
        self._open, self._shown = ExitStack(), ExitStack()
        self._showing: tuple[Subject, FileLibrarian] | None = None

    def __enter__(self) -> Partners:
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()
        self._shown.close()

    def leave_library(self) -> None:
        """Raises UsageError where nobody is left to answer."""
        if not self._row.alone:
            raise click.UsageError(f"chat model {self._row.name!r} cannot be talked with alone: name one (--chat)")
        self._asks_library = False

    def of(self, subject: Subject) -> Partner:
        if not subject and self._asks_library:
            return self._librarian
        if self._row.alone:
            return self._model
        if self._row.name == "mini":
            return self._librarian_of(subject)
        raise UsageError(
            f"chat model {self._row.name!r} takes no pictures: ask it about a library, or take --chat mini"
        )

    @cached_property
    def _librarian(self) -> Librarian:
        from ivsearch.library import open_library

        if self._wished:
            option = f"--{next(iter(self._wished)).replace('_', '-')}"
            raise click.UsageError(f"{option} is for a chat model alone: add --no-library, --video or --image")
        folder = library_folder(self._settings)
        if self._row.alone and not self._settings.library and sys.stderr.isatty():
            click.echo(f"ivsearch: asking the library in {folder}; --no-library talks with the model alone", err=True)
        library = open_library(folder, create=False, settings=self._settings)
        return Librarian(self._open.enter_context(library), self._proof)

    @cached_property
    def _model(self) -> Model:
        from ivsearch.ask.chat import Watcher
        from ivsearch.ask.table import load_chat, server_of

        if self._proof != Proof(self._proof.k):
            raise click.UsageError("--verify and --unsupported are for answers from a library: leave them out")
        settings = self._settings
        chat = load_chat(
            settings.chat,
            weights=settings.chat_weights or None,
            device=settings.chat_device or settings.device,
            dtype=settings.chat_dtype,
            attention=settings.attention,
            server=server_of(settings),
        )
        assert isinstance(chat, Watcher), f"{settings.chat} is said to talk alone"
        return Model(chat, Manner(**self._wished))

    def _librarian_of(self, subject: Subject) -> FileLibrarian:
        """One at a time: those of the questions before are thrown away."""
        from ivsearch.mini_chat import library_of, rate_of

        if self._showing is None or self._showing[0] != subject:
            self._shown.close()
            settings = self._settings
            if subject.video and subject.n_frames:
                settings = dataclasses.replace(settings, fps=rate_of(subject.video, subject.n_frames))
            library = self._shown.enter_context(library_of(subject.files, settings))
            self._showing = subject, FileLibrarian(library, subject, self._proof)
        return self._showing[1]


def _settings(flags: dict[str, Any]) -> Settings:
    """--weights and --dtype given to the chat model where they are meant for it."""
    row = _row(load_settings({"chat": flags["chat"]}))
    if row.alone and flags["encoder"] is None:
        for name in ("weights", "dtype"):
            flags[f"chat_{name}"] = flags[f"chat_{name}"] or flags[name]
            flags[name] = None
    return load_settings({"catalog": catalog_flag(), **flags})


def _row(settings: Settings) -> ChatRow:
    from ivsearch.ask.table import chat_row

    return chat_row("mini" if settings.chat in ("", "composed") else settings.chat)


def _is_there(settings: Settings) -> bool:
    from ivsearch.store.manifest import NAME

    return (library_folder(settings) / NAME).exists()


class Talk:
    """Questions one after the other; each is asked with those before it. ``exit_code``: what the last thing that went
    wrong ends with, 0 where nothing did.

    ``goes_on``: after a server that broke off or said nothing, the next question may go well.
    """

    def __init__(self, partner: Partner, subject: Subject, *, goes_on: bool) -> None:
        self._partner, self._subject, self._goes_on = partner, subject, goes_on
        self._history: list[tuple[str, str]] = []
        self.exit_code = 0

    def tell(self, questions: Iterable[str]) -> None:
        for question in questions:
            try:
                self._history.append((question, self._partner.tell(self._asked(question), _echo)))
            except NetworkError as error:
                if not self._goes_on:
                    raise
                self._complain(str(error), error.exit_code)
                if isinstance(error, AnswerCut):
                    self._history.append((question, error.text))
            click.echo()

    def documents(self, questions: Iterable[str], show: Callable[[list[dict[str, Any]]], None]) -> list[dict[str, Any]]:
        """``show`` is called with each as it comes. What goes wrong at the first question is raised; later on it is the
        ``error`` of the last one, and what had been answered is kept."""
        documents: list[dict[str, Any]] = []
        for question in questions:
            try:
                document = self._partner.document(self._asked(question))
                code = NetworkError.exit_code
            except IvsearchError as error:
                if not documents:
                    raise
                document = {"question": question, "answer": "", "error": str(error)}
                code = error.exit_code
            documents.append(document)
            self._history.append((question, document["answer"]))
            show([document])
            if "error" in document:
                self._complain(document["error"], code)
                if not self._goes_on or code != NetworkError.exit_code:
                    break
        return documents

    def _asked(self, question: str) -> Asked:
        readable(question)
        return Asked(question, self._subject, tuple(self._history))

    def _complain(self, what: str, exit_code: int) -> None:
        click.echo(f"ivsearch: {steady(what)}", err=True)
        self.exit_code = exit_code


def _batch(partners: Partners, lines: Iterable[str], n_frames: int | None, max_tiles: tuple[int, ...]) -> None:
    """A line in, a line out, in order. One that goes wrong has ``error`` instead of an answer; the exit code is 3."""
    failed = False
    for number, line in enumerate(lines, 1):
        try:
            readable(line)
            asked = read_asked(line, n_frames=n_frames, max_tiles=max_tiles)
            document = partners.of(asked.subject).document(asked)
        except click.UsageError as error:
            document = {"error": error.message}
        except IvsearchError as error:
            document = {"error": str(error)}
        failed |= "error" in document
        echo_jsonl([{"line": number, **document}])
    if failed:
        sys.exit(SOME_SKIPPED)


def _file(path: str) -> Path:
    """Raises click.UsageError for what is not there, and for a folder: that is a library's to look through."""
    if existing(path).is_dir():
        raise click.BadParameter(f"{path} is a folder: name files, or index it (`ivsearch index {path}`) and ask that")
    return Path(path)


def _echo(text: str) -> None:
    click.echo(text, nl=False)


def _typed(*, prompted: bool) -> Iterator[str]:
    """Lines of standard input, without those that are empty; on a terminal an empty one ends."""
    if hasattr(sys.stdin, "reconfigure"):
        # What is no UTF-8 is told line by line.
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    asked_on_a_terminal = sys.stdin.isatty()
    while True:
        if asked_on_a_terminal and prompted and sys.stdout.isatty():
            line = _edited()
        else:
            if asked_on_a_terminal and prompted:
                click.echo("? ", nl=False, err=True)
            line = sys.stdin.readline()
        if not line or (asked_on_a_terminal and not line.strip()):
            return
        if line.strip():
            yield line.strip()


def _edited() -> str:
    """A line typed on a terminal, empty at its end; with arrow keys, and the lines before, where Python has them."""
    with suppress(ImportError):
        importlib.import_module("readline")  # what it does, it does to ``input``
    try:
        return input("? ") + "\n"
    except EOFError:
        return ""
