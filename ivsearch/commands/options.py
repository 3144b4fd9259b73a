"""Options that several verbs share, and how they become a Library or a Filters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ivsearch.domain import Filters, MediaKind
from ivsearch.plain_text import read_clock, steady
from ivsearch.settings import DEFAULT_ENCODER, Settings, library_folder, load_settings

if TYPE_CHECKING:
    from ivsearch.encode import Encoder
    from ivsearch.library import Library

CATALOG = "ivsearch.catalog"
"""Where click keeps what --catalog says."""

SOME_SKIPPED = 3
"""What a verb ends with when it is done, but for some files."""

DTYPES = ("float32", "bfloat16", "float16", "fp8")

Command = TypeVar("Command", bound=Callable[..., Any])


def library_option(command: Command) -> Command:
    """``--library``, and ``--catalog``, which no verb has to know of: ``opened`` takes it from the context."""
    command = click.option(
        "--catalog",
        metavar="URL",
        expose_value=False,
        callback=_remember_catalog,
        help="Catalog on a PostgreSQL server; the library remembers it. Passwords: PGPASSWORD or ~/.pgpass.",
    )(command)
    return click.option("--library", metavar="DIR", help="Folder of the library.")(command)


def _remember_catalog(context: click.Context, _parameter: click.Parameter, url: str | None) -> None:
    context.meta[CATALOG] = url


def catalog_flag() -> str | None:
    """What ``--catalog`` says, for verbs that do not come by ``opened``."""
    context = click.get_current_context(silent=True)
    return context.meta.get(CATALOG) if context else None


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def encoder_options(command: Command) -> Command:
    for option in (
        click.option(
            "--preprocess", metavar="WAY", help="How pictures are prepared: retrieval, clip or classification."
        ),
        click.option(
            "--dtype", type=click.Choice(DTYPES), help="What the encoder computes in (default: what suits it)."
        ),
        click.option("--device", metavar="NAME", help="Torch device of the encoder, such as cpu or cuda."),
        click.option("--weights", metavar="DIR|HUB_ID", help="Weights of an encoder that does not bring its own."),
        click.option("--encoder", metavar="NAME", help="Encoder; `ivsearch models` lists them."),
    ):
        command = option(command)
    return command


def chat_options(command: Command) -> Command:
    for option in (
        click.option(
            "--pictures/--no-pictures",
            "chat_pictures",
            default=None,
            help="Whether the model of --chat openai:MODEL takes pictures (default: it does).",
        ),
        click.option("--endpoint", metavar="URL", help="Server of --chat openai:MODEL, as http://localhost:8000/v1."),
        click.option(
            "--chat-dtype", type=click.Choice(DTYPES), help="What the chat model computes in (default: what suits it)."
        ),
        click.option("--chat-device", metavar="NAME", help="Torch device of the chat model (default: the encoder's)."),
        click.option("--chat-weights", metavar="DIR|HUB_ID", help="Weights of the chat model."),
        click.option("--chat", metavar="NAME", help="Chat model; `ivsearch models` lists them. Default: mini."),
    ):
        command = option(command)
    return command


def filter_options(command: Command) -> Command:
    for option in (
        click.option("--before", type=click.DateTime(), help="Only media recorded before this time."),
        click.option("--after", type=click.DateTime(), help="Only media recorded at or after this time."),
        click.option("--max-duration", metavar="TIME", help="Only media this long at most: 90, 1:30 or 2m."),
        click.option("--min-duration", metavar="TIME", help="Only media this long at least."),
        click.option("--kind", type=click.Choice(["video", "image"]), help="Only videos or only images."),
        click.option(
            "--path", "paths", multiple=True, metavar="GLOB", help="Only these files: '*.mp4', '*/2024/*'. Repeatable."
        ),
    ):
        command = option(command)
    return command


def filters_of(
    paths: tuple[str, ...],
    kind: str | None,
    min_duration: str | None,
    max_duration: str | None,
    after: datetime | None,
    before: datetime | None,
) -> Filters:
    """Times without a zone are local ones."""
    return Filters(
        paths=paths,
        kind=MediaKind(kind) if kind else None,
        min_duration_s=seconds(min_duration) if min_duration else None,
        max_duration_s=seconds(max_duration) if max_duration else None,
        after=after.astimezone() if after else None,
        before=before.astimezone() if before else None,
    )


def seconds(text: str) -> float:
    """``90``, ``1:30``, ``1:02:03``, ``2m``, ``1h30m``, ``45s`` → seconds. Raises click.BadParameter."""
    if (time_s := read_clock(text)) is None:
        raise click.BadParameter(f"{text!r} is not a length of time; write 90, 1:30, 2m or 1h30m")
    return time_s


def opened(*, create: bool = False, **flags: Any) -> Library:
    """The library the flags name. Flags that are None were not given."""
    # Here, so that `ivsearch VERB --help` need not wait for the database library.
    from ivsearch.library import open_library

    settings = load_settings({"catalog": catalog_flag(), **flags})
    return open_library(library_folder(settings), create=create, settings=settings)


def loaded_encoder(settings: Settings) -> Encoder:
    """The encoder the settings name, for verbs that need no library."""
    from ivsearch.encode import load_encoder

    return load_encoder(
        settings.encoder or DEFAULT_ENCODER,
        weights=settings.weights or None,
        device=settings.device,
        dtype=settings.dtype,
        preprocess=settings.preprocess or None,
        attention=settings.attention,
    )


def echo_json(document: Any) -> None:
    click.echo(_whole_characters(json.dumps(document, ensure_ascii=False, indent=2)))


def echo_jsonl(documents: Iterable[Any]) -> None:
    for document in documents:
        click.echo(_whole_characters(json.dumps(document, ensure_ascii=False)))


def _whole_characters(document: str) -> str:
    """JSON can hold half a character, as an escape; UTF-8 cannot. (Bytes of a file's name that are no text go out as
    they are.)"""
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", document)


def warn(complaints: Iterable[str]) -> None:
    for complaint in complaints:
        click.echo(f"ivsearch: {steady(complaint)}", err=True)


def readable(text: str) -> None:
    """Raises click.UsageError for a text that is not in the encoding of the terminal."""
    if not text.isascii() and any(0xDC80 <= ord(c) <= 0xDCFF for c in text):
        raise click.UsageError("the text is not valid UTF-8: check the encoding of your terminal or script")


def one_format(as_json: bool, jsonl: bool) -> None:
    """Raises click.UsageError when both are asked for."""
    if as_json and jsonl:
        raise click.UsageError("--json and --jsonl are two formats: ask for one of them")


def existing(path: str) -> Path:
    if not Path(path).exists():
        raise click.BadParameter(f"{path}: no such file")
    return Path(path)
