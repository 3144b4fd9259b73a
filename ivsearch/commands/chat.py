"""``ivsearch chat``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ivsearch import wire
from ivsearch.commands.options import echo_json, echo_jsonl, encoder_options, json_option, library_option, opened
from ivsearch.domain import Answer, Turn
from ivsearch.render import answer_text

if TYPE_CHECKING:
    from ivsearch.library import Library


@click.command(
    epilog="""\b
Examples:
  ivsearch chat                               # type questions; an empty line or Ctrl-D ends
  ivsearch chat -q "Is there a horse?" -q "Where?"
  ivsearch chat --json < questions.txt        # one JSON object an answer
"""
)
@click.option("--question", "-q", "questions", multiple=True, help="Ask this and end. Repeatable: one conversation.")
@click.option("--chat", metavar="NAME", help="Chat model; `ivsearch models` lists them. Default: composed.")
@click.option("-k", type=click.IntRange(1), default=8, show_default=True, help="How many clips to look at.")
@library_option
@encoder_options
@json_option
def command(
    questions: tuple[str, ...],
    chat: str | None,
    k: int,
    library: str | None,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Ask on, in a conversation: a short question is understood from the ones before it."""
    with opened(library=library, encoder=encoder, weights=weights, device=device, chat=chat) as lib:
        if len(questions) == 1 and as_json:
            echo_json(wire.answer(lib.ask(questions[0], k=k)))
            return
        talk(lib, questions, k=k, as_json=as_json)


def talk(lib: Library, questions: tuple[str, ...], *, k: int, as_json: bool) -> None:
    history: list[Turn] = []
    for question in questions or _typed():
        answer = lib.ask(question, k=k, history=history)
        history.append(Turn(question, answer.text))
        _show(answer, as_json=as_json)


def _typed() -> Iterator[str]:
    asked_on_a_terminal = sys.stdin.isatty()
    while True:
        if asked_on_a_terminal:
            click.echo("? ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line or (asked_on_a_terminal and not line.strip()):
            return
        if line.strip():
            yield line.strip()


def _show(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        echo_jsonl([wire.answer(answer)])
    else:
        click.echo(answer_text(answer) + "\n")
