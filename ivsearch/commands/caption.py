"""``ivsearch caption``."""

from __future__ import annotations

import sys
from typing import Any

import click

from ivsearch import wire
from ivsearch.commands.options import (
    SOME_SKIPPED,
    echo_json,
    echo_jsonl,
    encoder_options,
    json_option,
    loaded_encoder,
    one_format,
    readable,
)
from ivsearch.commands.progress import CountProgress
from ivsearch.domain import Skipped
from ivsearch.plain_text import printable
from ivsearch.render import skipped_text
from ivsearch.settings import load_settings

DEFAULT_CAPTIONER = "internvl-g"


@click.command(
    epilog="""\b
Examples:
  ivsearch caption photo.jpg --weights DIR
  ivsearch caption ./photos --weights DIR --device cuda --dtype bfloat16 --jsonl
  ivsearch caption photo.jpg --weights DIR --prompt "a picture of" --beams 1
"""
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@encoder_options
@click.option("--prompt", default="English caption:", show_default=True, help="What the caption is to follow.")
@click.option("--beams", type=click.IntRange(1), default=5, show_default=True, help="Beams; 1 is greedy.")
@click.option("--min-new-tokens", type=click.IntRange(0), default=8, show_default=True, help="At least so long.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=19, show_default=True, help="At most so long.")
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object an image, as it comes.")
def command(
    paths: tuple[str, ...],
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    prompt: str,
    beams: int,
    min_new_tokens: int,
    max_new_tokens: int,
    as_json: bool,
    jsonl: bool,
) -> None:
    """Say in words what images show: a line an image, path and caption with a tab between.

    It takes an encoder that can write: internvl-g, which is the default, or internvl-c, which captions alike. What
    cannot be read is skipped, and the exit code is 3.
    """
    one_format(as_json, jsonl)
    readable(prompt)
    if min_new_tokens > max_new_tokens:
        raise click.UsageError(f"--min-new-tokens {min_new_tokens} is more than --max-new-tokens {max_new_tokens}")
    from ivsearch.embed import files_in
    from ivsearch.encode.captions import caption_files
    from ivsearch.media.suffixes import IMAGE

    flags = {"encoder": encoder or DEFAULT_CAPTIONER, "weights": weights, "device": device, "dtype": dtype}
    loaded = loaded_encoder(load_settings({**flags, "preprocess": preprocess}))
    files = list(files_in(paths, IMAGE))
    skipped = [each for each in files if isinstance(each, Skipped)]
    captions: list[dict[str, Any]] = []
    with CountProgress("captions", shown=sys.stderr.isatty() and not sys.stdout.isatty()) as progress:
        for each in caption_files(
            loaded,
            [each for each in files if not isinstance(each, Skipped)],
            prompt=prompt,
            beams=beams,
            min_new_tokens=min_new_tokens,
            max_new_tokens=max_new_tokens,
        ):
            if isinstance(each, Skipped):
                skipped.append(each)
                continue
            path, caption = each
            captions.append({"path": str(path), "caption": caption.text, "token_ids": list(caption.token_ids)})
            progress.update(len(captions))
            if jsonl:
                echo_jsonl(captions[-1:])
            elif not as_json:
                click.echo(f"{printable(str(path))}\t{printable(caption.text)}")
    for fault in skipped:
        click.echo(skipped_text(fault), err=True)
    if as_json:
        echo_json({"captions": captions, "skipped": [wire.skipped(fault) for fault in skipped]})
    if skipped:
        sys.exit(SOME_SKIPPED)
