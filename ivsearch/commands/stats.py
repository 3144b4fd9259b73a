"""``ivsearch stats``."""

from __future__ import annotations

import dataclasses

import click

from ivsearch import wire
from ivsearch.commands.options import echo_json, json_option, library_option, opened
from ivsearch.plain_text import printable
from ivsearch.render import length, short_path, size


@click.command(epilog="\b\nExample:\n  ivsearch stats --json")
@library_option
@json_option
def command(library: str | None, as_json: bool) -> None:
    """What the library holds, and how much room it takes."""
    with opened(library=library) as lib:
        stats = lib.stats()
    if as_json:
        document = {
            "library": str(stats.folder),
            "space": wire.space(stats.space) if stats.space else None,
            "spaces": [wire.space(space) for space in stats.spaces],
            **dataclasses.asdict(stats.totals),
            "texts": {
                source.value: {"tracks": tracks, "lines": lines} for source, (tracks, lines) in stats.texts.items()
            },
            "skipped": [wire.skipped(each) for each in stats.skipped],
            **({"catalog": stats.catalog} if stats.catalog else {}),
            "catalog_bytes": stats.catalog_bytes,
            "vector_bytes": stats.vector_bytes,
            "dead_bytes": stats.dead_bytes,
            "index_bytes": stats.index_bytes,
            "thumb_bytes": stats.thumb_bytes,
            "visual_token_bytes": stats.visual_token_bytes,
        }
        echo_json(document)
        return
    totals = stats.totals
    click.echo(f"library   {short_path(stats.folder)}")
    if stats.space:
        click.echo(f"encoder   {stats.space.encoder} {stats.space.revision[:12]}, {stats.space.dim} dimensions")
    click.echo(f"media     {totals.videos} videos ({length(totals.duration_s)}), {totals.images} images")
    click.echo(f"files     {totals.paths} paths, {size(totals.size_bytes)}")
    click.echo(f"frames    {totals.frames} encoded of {totals.samples} sampled")
    click.echo(f"clips     {totals.clips}")
    if stats.texts:
        words = [f"{lines} lines of {source.value}" for source, (_, lines) in stats.texts.items()]
        click.echo(f"words     {', '.join(words)}")
    about = "about " if stats.thumbs_are_many else ""
    click.echo(
        f"on disk   catalog {size(stats.catalog_bytes)}, vectors {size(stats.vector_bytes)}, "
        f"index {size(stats.index_bytes)}, thumbnails {about}{size(stats.thumb_bytes)}"
        + (f", visual tokens {size(stats.visual_token_bytes)}" if stats.visual_token_bytes else "")
    )
    if stats.wants_compaction:
        dead = size(stats.dead_bytes)
        click.echo(f"dead      {dead} of the vectors are of no use any more: `ivsearch compact` frees them")
    if stats.catalog:
        click.echo(f"catalog   {printable(stats.catalog)}")
    for each in stats.skipped:
        click.echo(f"skipped   {short_path(each.path)}: {printable(each.reason)}")
