"""Questions put to whoever answers: one after the other, or each line on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from ivsearch.commands.chat_choice import Partners
from ivsearch.commands.chat_lines import read_asked
from ivsearch.commands.chat_partners import Asked, Partner, Subject
from ivsearch.commands.options import echo_jsonl, readable
from ivsearch.errors import AnswerCut, IvsearchError, NetworkError
from ivsearch.plain_text import steady


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


def answer_lines(partners: Partners, lines: Iterable[str], n_frames: int | None, max_tiles: tuple[int, ...]) -> bool:
    """A line in, a line out, in order. One that goes wrong has ``error`` instead of an answer; False when one did."""
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
    return not failed


def _echo(text: str) -> None:
    click.echo(text, nl=False)
