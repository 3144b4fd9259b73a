"""``ivsearch search``."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime

import click

from ivsearch import wire
from ivsearch.commands.options import (
    echo_json,
    echo_jsonl,
    encoder_options,
    existing,
    filter_options,
    filters_of,
    json_option,
    library_option,
    one_format,
    opened,
    readable,
    warn,
)
from ivsearch.domain import Query, Reranking
from ivsearch.render import hits_text

NOTHING_MATCHED = 1


@click.command(
    epilog="""\b
Examples:
  ivsearch search a cat jumps on a sofa
  ivsearch search "一只猫跳上沙发" -k 3
  ivsearch search "red car" --kind video --path '*/2024/*' --min-duration 1m
  ivsearch search --image beach.jpg --json
  ivsearch search --clip 1234                 # more like this one
  ivsearch search "a red car" --rerank internvl-g --rerank-weights DIR
"""
)
@click.argument("text", nargs=-1, metavar="[TEXT]...")
@click.option("--image", metavar="FILE", help="Find what looks like this image.")
@click.option("--clip", type=int, metavar="ID", help="Find what looks like this clip of the library.")
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="How many hits.")
@click.option(
    "--per-media", type=click.IntRange(1), help="At most so many hits of one file (default: as few as fill -k hits)."
)
@click.option("--rerank", metavar="NAME", help="Encoder that judges the best hits again.")
@click.option(
    "--rerank-weights",
    metavar="DIR|HUB_ID",
    help="Its weights (default: the library's, of its kind).",
)
@click.option("--rerank-depth", type=click.IntRange(1), help="How many hits it judges (default: 20).")
@click.option("--rerank-itm", is_flag=True, help="By its image-text matching head (experimental; texts only).")
@filter_options
@library_option
@encoder_options
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object a hit.")
def command(
    text: tuple[str, ...],
    image: str | None,
    clip: int | None,
    k: int,
    per_media: int | None,
    rerank: str | None,
    rerank_weights: str | None,
    rerank_depth: int | None,
    rerank_itm: bool,
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
    jsonl: bool,
) -> None:
    """Find moments by a text in any language, an image or a clip. The best comes first."""
    one_format(as_json, jsonl)
    words = " ".join(text).strip()
    if sum((bool(words), image is not None, clip is not None)) != 1:
        raise click.UsageError("say what to look for: a text, or --image FILE, or --clip ID (one of them)")
    readable(words)
    again = _reranking(rerank, rerank_weights, rerank_depth, rerank_itm)
    filters = filters_of(paths, kind, min_duration, max_duration, after, before)
    query = Query(words or None, existing(image) if image is not None else None, clip, filters)
    with opened(
        library=library, encoder=encoder, weights=weights, device=device, dtype=dtype, preprocess=preprocess
    ) as lib:
        hits = lib.find(query, k=k, per_media=per_media, rerank=again)
        warn(lib.searcher().complaints)
    if as_json:
        echo_json(wire.hits(hits))
    elif jsonl:
        echo_jsonl(wire.hit(hit) for hit in hits.hits)
    else:
        click.echo(hits_text(hits))
    if not hits.matched:
        sys.exit(NOTHING_MATCHED)


def _reranking(encoder: str | None, weights: str | None, depth: int | None, itm: bool) -> Reranking | None:
    if encoder is None:
        if weights or depth or itm:
            raise click.UsageError("--rerank-weights, --rerank-depth and --rerank-itm go with --rerank NAME")
        return None
    asked = Reranking(encoder, weights or "", itm=itm)
    return asked if depth is None else replace(asked, depth=depth)
