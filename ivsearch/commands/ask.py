"""``ivsearch ask``."""

from __future__ import annotations

import sys
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
from ivsearch.render import answer_text

NOTHING_MATCHED = 1


@click.command(
    epilog="""\b
Examples:
  ivsearch ask "Where is the dog playing in the snow?"
  ivsearch ask "谁在骑马?" --kind video
  ivsearch ask "When does the train arrive?" --path 'station*.mp4' --json
"""
)
@click.argument("question", nargs=-1, required=True, metavar="QUESTION...")
@chat_options
@click.option("-k", type=click.IntRange(1), default=8, show_default=True, help="How many clips to look at.")
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

    Every statement cites clips with times, and every citation is checked before it is shown. When nothing
    in the library fits clearly, the answer says so, shows at most what comes nearest, and the exit code is 1.
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
    ) as lib:
        answer = lib.ask(words, k=k, filters=filters)
        warn(lib.searcher().complaints)
    if as_json:
        echo_json(wire.answer(answer))
    else:
        click.echo(answer_text(answer))
    if not answer.matched:
        sys.exit(NOTHING_MATCHED)
