"""Who answers what is asked in ``ivsearch chat``: made, or loaded, when it is first asked."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from ivsearch.commands.chat_partners import FileLibrarian, Librarian, Manner, Model, Partner, Subject
from ivsearch.commands.proof import Proof
from ivsearch.errors import UsageError
from ivsearch.settings import Settings, library_folder

if TYPE_CHECKING:
    from ivsearch.ask.table import ChatRow


@dataclass(frozen=True, slots=True)
class Wished:
    """What was typed of the Manner of a chat model alone; None where nothing was."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    def typed(self) -> list[str]:
        """The options."""
        names = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]
        return [f"--{name.replace('_', '-')}" for name in names]

    def manner(self) -> Manner:
        usual = Manner()
        return Manner(
            usual.max_new_tokens if self.max_new_tokens is None else self.max_new_tokens,
            usual.temperature if self.temperature is None else self.temperature,
            usual.top_p if self.top_p is None else self.top_p,
            usual.seed if self.seed is None else self.seed,
        )


class Partners:
    """Finds the one to answer; what one needs is loaded when it is first asked. A context manager."""

    def __init__(self, settings: Settings, wished: Wished, proof: Proof) -> None:
        self._settings, self._wished, self._proof = settings, wished, proof
        self._row = chat_row_of(settings)
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

        if typed := self._wished.typed():
            raise click.UsageError(f"{typed[0]} is for a chat model alone: add --no-library, --video or --image")
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
        return Model(chat, self._wished.manner())

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


def chat_row_of(settings: Settings) -> ChatRow:
    from ivsearch.ask.table import chat_row

    return chat_row("mini" if settings.chat in ("", "composed") else settings.chat)


def _is_there(settings: Settings) -> bool:
    from ivsearch.store.manifest import NAME

    return (library_folder(settings) / NAME).exists()
