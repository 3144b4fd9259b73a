"""``ivsearch chat``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ivsearch import wire
from ivsearch.commands.options import (
    echo_json,
    echo_jsonl,
    encoder_options,
    json_option,
    library_option,
    one_format,
    opened,
    warn,
)
from ivsearch.domain import Answer, Turn
from ivsearch.render import answer_text

if TYPE_CHECKING:
    from ivsearch.library import Library


@click.command(
    epilog="""\b
Examples:
  ivsearch chat                               # type questions; an empty line or Ctrl-D ends
  ivsearch chat -q "Is there a horse?" -q "Where?"
  ivsearch chat --jsonl < questions.txt       # one JSON object an answer
"""
)
@click.option("--question", "-q", "questions", multiple=True, help="Ask this and end. Repeatable: one conversation.")
@click.option("--chat", metavar="NAME", help="Chat model; `ivsearch models` lists them. Default: composed.")
@click.option("-k", type=click.IntRange(1), default=8, show_default=True, help="How many clips to look at.")
@library_option
@encoder_options
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object an answer, as it comes.")
def command(
    questions: tuple[str, ...],
    chat: str | None,
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
    """Ask on, in a conversation: a short question is understood from the ones before it."""
    one_format(as_json, jsonl)
    with opened(
        library=library,
        encoder=encoder,
        weights=weights,
        device=device,
        dtype=dtype,
        preprocess=preprocess,
        chat=chat,
    ) as lib:
        answers = []
        for answer in talk(lib, questions or _typed(), k=k):
            answers.append(wire.answer(answer))
            if jsonl:
                echo_jsonl(answers[-1:])
            elif not as_json:
                click.echo(answer_text(answer) + "\n")
            warn(lib.searcher().complaints)
            lib.searcher().complaints.clear()
    if as_json:
        # One question, one answer: the same document as `ask` prints.
        echo_json(answers[0] if len(questions) == 1 else {"answers": answers})


def talk(lib: Library, questions: Iterable[str], *, k: int) -> Iterator[Answer]:
    """Asks one after the other; each knows those before it."""
    history: list[Turn] = []
    for question in questions:
        answer = lib.ask(question, k=k, history=history)
        history.append(Turn(question, answer.text))
        yield answer


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
