"""``ivsearch chat``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import click

from ivsearch.commands.chat_choice import Partners, Wished, chat_row_of
from ivsearch.commands.chat_lines import MOST_FRAMES
from ivsearch.commands.chat_partners import Subject
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
)
from ivsearch.commands.proof import Proof, proof_options
from ivsearch.commands.talk import Talk, answer_lines
from ivsearch.settings import load_settings

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
    subject = _subject(videos, images, frames, max_tiles)
    if subject and library:
        raise click.UsageError("--video and --image are asked about without a library: leave --library out")
    lone = (frames and not subject.video) or (max_tiles and not images)
    if lone and (questions or not jsonl):
        raise click.UsageError("--frames goes with --video, --max-tiles with --image")
    if encoder is None and chat_row_of(load_settings({"chat": chat})).alone:
        chat_weights, weights = chat_weights or weights, None
        chat_dtype, dtype = chat_dtype or dtype, None
    settings = load_settings(
        {
            "catalog": catalog_flag(),
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
    )
    wished = Wished(max_new_tokens, temperature, top_p, seed)
    with Partners(settings, wished, Proof(k, verify, unsupported)) as partners:
        if no_library:
            partners.leave_library()
        lines = iter(()) if questions else _typed(prompted=not jsonl)
        first = next(lines, None) if jsonl else None
        if first is not None and first.startswith("{"):
            if not answer_lines(partners, chain([first], lines), frames, max_tiles):
                sys.exit(SOME_SKIPPED)
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


def _subject(
    videos: tuple[str, ...], images: tuple[str, ...], n_frames: int | None, max_tiles: tuple[int, ...]
) -> Subject:
    if len(videos) > 1:
        raise click.UsageError(f"--video is one video, and {len(videos)} came: ask about one at a time")
    video = _file(videos[0]) if videos else None
    return Subject(tuple(map(_file, images)), video, n_frames, max_tiles)


def _file(path: str) -> Path:
    """Raises click.UsageError for what is not there, and for a folder: that is a library's to look through."""
    if existing(path).is_dir():
        raise click.BadParameter(f"{path} is a folder: name files, or index it (`ivsearch index {path}`) and ask that")
    return Path(path)


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
