"""``ivsearch search``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import click
from click.core import ParameterSource

from ivsearch import wire
from ivsearch.commands.asked import Dashed, asked
from ivsearch.commands.options import (
    echo_json,
    echo_jsonl,
    encoder_options,
    filter_options,
    filters_of,
    json_option,
    library_option,
    one_format,
    opened,
    warn,
)
from ivsearch.domain import Filters, Hits, Only, Query, Reranking
from ivsearch.plain_text import clock
from ivsearch.render import absence_text, copies_text, explained_text, hits_text

NOTHING_MATCHED = 1


@click.command(
    cls=Dashed,
    epilog="""\b
Examples:
  ivsearch search a cat jumps on a sofa
  ivsearch search "一只猫跳上沙发" -k 3
  ivsearch search "red car" --kind video --path '*/2024/*' --min-duration 1m
  ivsearch search --image beach.jpg --json
  ivsearch search --clip 1234                 # more like this one
  ivsearch search "a dog" + ./beach.jpg - snow
  ivsearch search 2:"red car" + clip:1234
  ivsearch search --image street.jpg --region 10%,40%,30%,50%
  ivsearch search "a cat" --then "a dog" --within 20s
  ivsearch search "red car" --kind video --save cars
  ivsearch search @cars --new                 # only in what was indexed since
  ivsearch search "a cat" --open              # play the best hit
  ivsearch search "abandon ship" --only text  # in subtitles, speech, on screen
  ivsearch search "a red car" --explain --copies
  ivsearch search "a red car" --why-not car.mp4
  ivsearch search "a red car" --rerank internvl-g --rerank-weights DIR
""",
)
@click.argument("text", nargs=-1, metavar="[TEXT]... | [TERM] [+|- TERM]... | @NAME")
@click.option("--image", metavar="FILE", help="Find what looks like this image.")
@click.option("--region", metavar="X,Y,W,H", help="Only this part of --image: shares, percentages or pixels.")
@click.option("--clip", type=int, metavar="ID", help="Find what looks like this clip of the library.")
@click.option("--then", "thens", multiple=True, metavar="TEXT", help="What must follow in the same video. Repeatable.")
@click.option(
    "--within", multiple=True, metavar="TIME", help="How soon after the step before has ended (default: 30 s)."
)
@click.option("--save", metavar="NAME", help="Keep the query in the library; @NAME runs it again.")
@click.option("--new", is_flag=True, help="With @NAME: only in what was indexed since it was last run.")
@click.option(
    "--open",
    "to_open",
    is_flag=False,
    flag_value="1",
    metavar="[N]",
    help="Open hit N (default: the first) in a player, at the right second.",
)
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="How many hits.")
@click.option(
    "--per-media", type=click.IntRange(1), help="At most so many hits of one file (default: as few as fill -k hits)."
)
@click.option(
    "--min-likely",
    type=click.FloatRange(0, 1),
    metavar="0-1",
    help="How likely the best hit must be for something to match; less ends with 1 (default: 0.25).",
)
@click.option("--diverse", type=click.FloatRange(0, 1), metavar="0-1", help="How much hits are to differ (default: 0).")
@click.option("--copies", is_flag=True, help="List the near-duplicates that were folded into hits.")
@click.option("--explain", is_flag=True, help="Say of every hit why it is where it is.")
@click.option("--why-not", metavar="FILE", help="Say why this file is not among the hits.")
@click.option("--rerank", metavar="NAME", help="Encoder that judges the best hits again.")
@click.option(
    "--rerank-weights",
    metavar="DIR|HUB_ID",
    help="Its weights (default: the library's, of its kind).",
)
@click.option("--rerank-depth", type=click.IntRange(1), help="How many hits it judges (default: 20).")
@click.option("--rerank-itm", is_flag=True, help="By its image-text matching head (experimental; texts only).")
@click.option(
    "--only", type=click.Choice([each.value for each in Only]), help="Look at words in the footage, or pictures."
)
@filter_options
@library_option
@encoder_options
@json_option
@click.option("--jsonl", is_flag=True, help="Print one JSON object a hit.")
def command(
    text: tuple[str, ...],
    image: str | None,
    region: str | None,
    clip: int | None,
    thens: tuple[str, ...],
    within: tuple[str, ...],
    save: str | None,
    new: bool,
    to_open: str | None,
    k: int,
    per_media: int | None,
    min_likely: float | None,
    diverse: float | None,
    copies: bool,
    explain: bool,
    why_not: str | None,
    rerank: str | None,
    rerank_weights: str | None,
    rerank_depth: int | None,
    rerank_itm: bool,
    only: str | None,
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
    rank = _rank(to_open)
    again = _reranking(rerank, rerank_weights, rerank_depth, rerank_itm)
    filters = filters_of(paths, kind, min_duration, max_duration, after, before)
    saved = _saved_name(text)
    if new and saved is None:
        raise click.UsageError("--new goes with a saved query: `ivsearch search @NAME --new`")
    if saved is not None:
        of_query = (save, image, region, clip, thens or None, within or None)
        asks_more = any(option is not None for option in of_query) or filters != Filters()
        _check_alone(saved, asks_more=asks_more, only=only)
    query = None if saved is not None else asked(text, image, clip, region, thens, within, filters)
    if jsonl and why_not is not None:
        raise click.UsageError("--why-not is no hit, and --jsonl prints only hits: use --json")
    given = {
        "--only": only,
        "--rerank": rerank,
        "--diverse": diverse,
        "--min-likely": min_likely,
        "--new": new or None,
        "--why-not": why_not,
    }
    said = {"--only text": only == Only.TEXT, "--save": save is not None, "--why-not": why_not is not None}
    _check_pairs(said | _kinds(query), given)
    with opened(
        library=library,
        encoder=encoder,
        weights=weights,
        device=device,
        dtype=dtype,
        preprocess=preprocess,
        min_likely=min_likely,
        diverse=diverse,
    ) as lib:
        # What cannot be done afterwards is told before the search, which may take long.
        if save is not None:
            lib.saved_queries.check_new(save)
        if rank is not None:
            _check_player(lib.settings.player)
        if saved is not None:
            kept = lib.saved_queries.get(saved, f". To search for the words, write text:@{saved}")
            _check_pairs(_kinds(kept.query), given, saved)
            k_given = click.get_current_context().get_parameter_source("k") is not ParameterSource.DEFAULT
            k = k if k_given else kept.k
            per_media = kept.per_media if per_media is None else per_media
            hits = lib.find_saved(saved, k=k, per_media=per_media, rerank=again, new=new)
        else:
            assert query is not None
            last_clip = lib.last_clip() if save is not None else None
            hits = lib.find(query, k=k, per_media=per_media, rerank=again, only=Only(only) if only else None)
            if save is not None:
                lib.save_query(save, query, k=k, per_media=per_media, last_clip=last_clip)
        hits = lib.explain(hits) if explain else hits
        absence = None
        if why_not is not None:
            absence = lib.why_not(hits.query, why_not, k=k, per_media=per_media, only=Only(only) if only else None)
        warn(lib.searcher().complaints)
        player = lib.settings.player
    if as_json:
        echo_json(wire.hits(hits) | ({} if absence is None else {"why_not": wire.absence(absence)}))
    elif jsonl:
        echo_jsonl(wire.hit(hit) for hit in hits.hits)
    else:
        parts = [hits_text(hits)]
        parts += [copies_text(hits)] if copies else []
        parts += [explained_text(hits)] if explain and hits.hits else []
        parts += [absence_text(absence)] if absence is not None else []
        click.echo("\n".join(parts))
    if rank is not None and hits.hits:
        _open(hits, rank, player)
    if not hits.matched:
        sys.exit(NOTHING_MATCHED)


# What goes with what else: each on the left takes no notice of those on the right.
_APART = {
    "--then": ("--rerank", "--diverse", "--min-likely", "--why-not"),
    "a text composed with pictures": ("--min-likely",),
    "--only text": ("--rerank", "--diverse", "--min-likely"),
    "--save": ("--only", "--rerank", "--diverse", "--min-likely"),
    "--why-not": ("--rerank", "--new"),
}


def _kinds(query: Query | None) -> dict[str, bool]:
    """Which of ``_APART`` the query is."""
    terms = () if query is None else query.terms
    worded = [term.text is not None for term in terms]
    return {
        "--then": query is not None and bool(query.then),
        "a text composed with pictures": any(worded) and not all(worded),
    }


def _check_pairs(said: Mapping[str, bool], given: Mapping[str, object], saved: str = "") -> None:
    """Raises click.UsageError for two options of which one would be passed over. ``saved``: the name of the query that
    has those of ``said``; empty where they were typed."""
    for one, others in _APART.items():
        for other in others:
            if said.get(one) and given.get(other) is not None:
                if saved:
                    raise click.UsageError(f"@{saved} has {one}, which does not go with {other}: leave {other} out")
                raise click.UsageError(f"{one} does not go with {other}: leave one of them out")


def _saved_name(words: tuple[str, ...]) -> str | None:
    if words == ("@",):
        raise click.UsageError("name a saved query: @NAME (`ivsearch queries` lists them)")
    return words[0][1:] if len(words) == 1 and words[0].startswith("@") else None


def _check_alone(saved: str, *, asks_more: bool, only: str | None) -> None:
    """Raises click.UsageError for what a saved query cannot be run with."""
    if asks_more:
        raise click.UsageError(f"@{saved} is run as it was saved: leave the other options of the query out")
    if only:
        raise click.UsageError(f"@{saved} looks at everything: leave --only out, or write the text")


def _rank(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise click.UsageError(
            f"--open takes the rank of a hit, not {text!r}: write --open=1, or --open after the text"
        )
    return int(text)


def _check_player(player: str) -> None:
    from ivsearch.commands.player import check_player

    check_player(player)


def _open(hits: Hits, rank: int, player: str) -> None:
    # Here, so that `ivsearch search` need not look for players it does not need.
    from ivsearch.commands.player import open_hit

    started = open_hit(hits, rank, player)
    if not started.at_start:
        click.echo(
            f"{started.words[0]} opens it at the beginning: go to {clock(hits[rank - 1].moment.start_s)}, or install "
            "mpv or vlc",
            err=True,
        )


def _reranking(encoder: str | None, weights: str | None, depth: int | None, itm: bool) -> Reranking | None:
    if encoder is None:
        if weights or depth or itm:
            raise click.UsageError("--rerank-weights, --rerank-depth and --rerank-itm go with --rerank NAME")
        return None
    asked = Reranking(encoder, weights or "", itm=itm)
    return asked if depth is None else replace(asked, depth=depth)
