"""``ivsearch ask``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime

import click

from ivsearch import wire
from ivsearch.commands.options import (
    chat_options,
    echo_json,
    encoder_options,
    filter_options,
    filters_of,
    json_option,
    library_option,
    opened,
    readable,
    warn,
)
from ivsearch.commands.proof import advice, proof_options
from ivsearch.domain import Answer, Piece
from ivsearch.errors import NetworkError
from ivsearch.plain_text import steady
from ivsearch.render import sources_text

NOTHING_MATCHED = 1


@click.command(
    epilog="""\b
Examples:
  ivsearch ask "Where is the dog playing in the snow?"
  ivsearch ask "谁在骑马?" --kind video
  ivsearch ask "When does the train arrive?" --path 'station*.mp4' --json
  ivsearch ask "What does she pour?" --chat internvideo2.5 --verify strict
"""
)
@click.argument("question", nargs=-1, required=True, metavar="QUESTION...")
@chat_options
@proof_options
@click.option("--frames", "chat_frames", type=click.IntRange(1), help="Frames a chat model that watches is shown.")
@filter_options
@library_option
@encoder_options
@json_option
def command(
    question: tuple[str, ...],
    chat: str | None,
    chat_weights: str | None,
    chat_device: str | None,
    chat_dtype: str | None,
    endpoint: str | None,
    chat_pictures: bool | None,
    verify: str,
    unsupported: str,
    chat_frames: int | None,
    k: int,
    paths: tuple[str, ...],
    kind: str | None,
    min_duration: str | None,
    max_duration: str | None,
    after: datetime | None,
    before: datetime | None,
    library: str | None,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    as_json: bool,
) -> None:
    """Answer a question from what the library shows.

    Every statement cites clips with times, and every citation is checked before it is shown, sentence by sentence
    as they come. What fails the check is withheld, or marked. When nothing in the library fits clearly, the answer
    says that the footage does not show it, shows at most what comes nearest, and the exit code is 1.
    """
    words = " ".join(question).strip()
    if not words:
        raise click.UsageError("the question is empty")
    readable(words)
    filters = filters_of(paths, kind, min_duration, max_duration, after, before)
    with opened(
        library=library,
        encoder=encoder,
        weights=weights,
        device=device,
        dtype=dtype,
        preprocess=preprocess,
        chat=chat,
        chat_weights=chat_weights,
        chat_device=chat_device,
        chat_dtype=chat_dtype,
        chat_endpoint=endpoint,
        chat_pictures=chat_pictures,
        chat_frames=chat_frames,
    ) as lib:
        if chat_frames is not None and not lib.chat_watches:
            raise click.UsageError(
                "--frames is for chat models that watch (`ivsearch models` lists them): leave it out"
            )
        events = lib.ask_stream(words, k=k, filters=filters, verify=verify, unsupported=unsupported)
        answer = last_of(events) if as_json else spoken(events, advice(lib, unsupported))
        warn(lib.searcher().complaints)
    if as_json:
        echo_json(wire.answer(answer))
    if answer.error:
        raise NetworkError(answer.error)
    if not answer.matched:
        sys.exit(NOTHING_MATCHED)


def spoken(events: Iterable[Piece | Answer], advice: str) -> Answer:
    """Prints the answer as it comes, then its sources. What goes wrong in the middle is told on a line of its own."""
    started = ended = False
    try:
        for event in events:
            if isinstance(event, Answer):
                ended = True
                sources = sources_text(event, advice)
                click.echo(f"\n\n{sources}" if sources else "")
                return event
            started = True
            click.echo(steady(event.text), nl=False)
    finally:
        if started and not ended:
            click.echo()
    raise AssertionError("the last event is the answer")


def last_of(events: Iterable[Piece | Answer]) -> Answer:
    *_, answer = events
    assert isinstance(answer, Answer)
    return answer
