"""``ivsearch cut``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ivsearch.commands.options import echo_json, json_option, library_option, opened, readable, seconds, warn
from ivsearch.domain import Query
from ivsearch.media.suffixes import IMAGE
from ivsearch.plain_text import clock
from ivsearch.render import short_path

if TYPE_CHECKING:
    from ivsearch.media.extract import Cutout, Extract

# As many as `ivsearch search` shows.
SHOWN = 10
_FILE = re.compile(r"(.+)@([^@]+?)-([^@-]+)", re.DOTALL)


@click.command(
    epilog="""\b
Examples:
  ivsearch cut 1234 -o cat.mp4                      # a clip, by its id
  ivsearch cut holiday.mp4@1:30-1:45 -o beach.mp4   # a part of a file
  ivsearch cut --query "a cat" --rank 1 -o cat.mp4
  ivsearch cut 1234 1240 1251 -o ./clips            # several, into a folder
  ivsearch cut 1234 -o cat.mp4 --exact
"""
)
@click.argument("hits", nargs=-1, metavar="[CLIP_ID | FILE@START-END]...")
@click.option("-o", "--output", required=True, metavar="FILE|DIR", help="Where to; for several a folder.")
@click.option("--query", metavar="TEXT", help="Cut what a search for this finds.")
@click.option("--rank", type=click.IntRange(1), multiple=True, help="Which of its hits (default: 1). Repeatable.")
@click.option("--exact", is_flag=True, help="Start and end at the very picture: encodes the picture anew.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@library_option
@json_option
def command(
    hits: tuple[str, ...],
    output: str,
    query: str | None,
    rank: tuple[int, ...],
    exact: bool,
    force: bool,
    library: str | None,
    as_json: bool,
) -> None:
    """Write found moments to files of their own, without encoding them anew where that is possible.

    A clip is cut as it is in the library, the hit of a --query at the moment that matches.
    """
    if bool(hits) == (query is not None):
        raise click.UsageError("say what to cut: clip ids or FILE@START-END, or --query TEXT")
    if rank and query is None:
        raise click.UsageError("--rank goes with --query TEXT")
    if not output:
        raise click.UsageError("--output has no name: write -o FILE, or -o . for the folder you are in")
    cutouts = _found(query, rank or (1,), library) if query is not None else _named(hits, library)
    # Here, so that `ivsearch cut --help` need not wait for FFmpeg.
    from ivsearch.media.extract import check_target, copied, extract
    from ivsearch.media.reencode import encoded

    targets = _targets(cutouts, Path(output), exact)
    # All before the first is written: what cannot be done is said at once.
    for cutout, target in zip(cutouts, targets, strict=True):
        check_target(cutout, target, force=force)
    made = [
        extract(cutout, target, encoded if exact else copied, force=force)
        for cutout, target in zip(cutouts, targets, strict=True)
    ]
    if as_json:
        echo_json({"files": [_document(cutout, each) for cutout, each in zip(cutouts, made, strict=True)]})
        return
    for cutout, each in zip(cutouts, made, strict=True):
        click.echo(f"{short_path(each.path)}  {_span(cutout, each)} of {short_path(cutout.source)}{_notes(each)}")


def _named(hits: tuple[str, ...], library: str | None) -> list[Cutout]:
    from ivsearch.media.extract import Cutout

    cutouts: list[Cutout | None] = [_part(hit) for hit in hits]
    ids = [int(hit) for hit, cutout in zip(hits, cutouts, strict=True) if cutout is None]
    if ids:
        with opened(library=library) as lib:
            clips = {
                clip_id: (clip, lib.catalog.media_paths([clip.media_id]))
                for clip_id, clip in lib.catalog.clips(ids).items()
            }
        for place, (hit, cutout) in enumerate(zip(hits, cutouts, strict=True)):
            if cutout is not None:
                continue
            if int(hit) not in clips:
                raise click.UsageError(f"there is no clip {hit} in this library; `ivsearch search` shows clip ids")
            clip, paths = clips[int(hit)]
            cutouts[place] = Cutout(_there(paths.get(clip.media_id, [])), clip.start_s, clip.end_s)
    return [cutout for cutout in cutouts if cutout is not None]


def _part(hit: str) -> Cutout | None:
    """``FILE@START-END``; None for the id of a clip."""
    from ivsearch.media.extract import Cutout

    if hit.isdecimal():
        return None
    match = _FILE.fullmatch(hit)
    if match is None:
        raise click.UsageError(f"{hit}: write the id of a clip, or FILE@START-END, as in holiday.mp4@1:30-1:45")
    start_s, end_s = seconds(match[2]), seconds(match[3])
    if not start_s < end_s:
        raise click.UsageError(f"{hit}: the end must come after the start")
    if not Path(match[1]).is_file():
        raise click.UsageError(f"{match[1]}: no such file")
    if Path(match[1]).suffix.lower() in IMAGE:
        raise click.UsageError(f"{match[1]} is a picture and has no times: copy it, or write the id of its clip")
    return Cutout(Path(match[1]), start_s, end_s)


def _found(text: str, ranks: tuple[int, ...], library: str | None) -> list[Cutout]:
    from ivsearch.media.extract import Cutout

    readable(text)
    with opened(library=library) as lib:
        # As many as a search shows: how many hits one file gets depends on it, and with that the ranks.
        found = lib.find(Query(text), k=max(SHOWN, *ranks))
        warn(lib.searcher().complaints)
    hits = found.hits
    if not found.matched:
        warn(["nothing stands out as a match: what is cut are the nearest moments there are"])
    if max(ranks) > len(hits):
        raise click.UsageError(f"there is no hit {max(ranks)}: {len(hits)} found")
    chosen = [hits[rank - 1] for rank in ranks]
    return [Cutout(_there([hit.path]), hit.moment.start_s, hit.moment.end_s) for hit in chosen]


def _there(paths: list[Path]) -> Path:
    if not paths:
        raise click.UsageError("that file has just been removed from the library: search again")
    there = next((path for path in paths if path.is_file()), None)
    if there is None:
        raise click.UsageError(f"{paths[0]} is not there any more: run `ivsearch index`, or bring its disk back")
    return there


def _targets(cutouts: list[Cutout], output: Path, exact: bool) -> list[Path]:
    """``output`` itself for one, unless it is a folder; in a folder, names made of the source's and the times."""
    if len(cutouts) == 1 and not output.is_dir() and output.suffix:
        return [output]
    if output.suffix and not output.is_dir():
        raise click.UsageError(f"{output} is one file for {len(cutouts)} hits: name a folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise click.UsageError(
            f"{output} cannot be a folder, a file is in its place: name another folder, or a file such as {output}.mp4"
        ) from None
    targets: list[Path] = []
    for cutout in cutouts:
        first = target = output / _name(cutout, exact)
        number = 2
        while target in targets:  # files of one name in several folders, cut at the same times
            target, number = first.with_stem(f"{first.stem} ({number})"), number + 1
        targets.append(target)
    return targets


def _name(cutout: Cutout, exact: bool) -> str:
    if cutout.end_s <= cutout.start_s:
        return cutout.source.name
    from ivsearch.media.extract import FORMATS

    suffix = cutout.source.suffix.lower()
    if suffix not in FORMATS or (exact and suffix == ".avi"):
        suffix = ".mkv"
    return f"{cutout.source.stem}-{cutout.start_s:.1f}-{cutout.end_s:.1f}{suffix}"


def _span(cutout: Cutout, made: Extract) -> str:
    if cutout.end_s <= cutout.start_s:
        return "copy"
    return f"{clock(cutout.start_s)}–{clock(cutout.end_s - made.short_s)}"


def _notes(made: Extract) -> str:
    notes = []
    if made.early_s >= 0.05:
        notes.append(f"starts {made.early_s:.1f} s earlier at a key frame; --exact cuts there")
    if made.late_s >= 0.05:
        notes.append(f"ends {made.late_s:.1f} s later")
    if made.short_s >= 0.05:
        notes.append(f"the source ends {made.short_s:.1f} s before what was asked for")
    if made.left_out:
        notes.append(f"without {', '.join(made.left_out)}")
    return f"  ({'; '.join(notes)})" if notes else ""


def _document(cutout: Cutout, made: Extract) -> dict[str, Any]:
    return {
        "path": str(made.path),
        "source": str(cutout.source),
        "start_s": round(cutout.start_s, 3),
        "end_s": round(cutout.end_s - made.short_s, 3),
        "early_s": round(made.early_s, 3),
        "late_s": round(made.late_s, 3),
        "left_out": made.left_out,
    }
