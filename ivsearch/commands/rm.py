"""``ivsearch rm``."""

from __future__ import annotations

import sys

import click

from ivsearch import wire
from ivsearch.commands.options import echo_json, json_option, library_option, opened
from ivsearch.render import short_path

NOTHING_MATCHED = 1


@click.command(epilog="\b\nExamples:\n  ivsearch rm holiday.mp4\n  ivsearch rm ./old-videos")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@library_option
@json_option
def command(paths: tuple[str, ...], library: str | None, as_json: bool) -> None:
    """Forget files, or everything below folders. The files themselves are not touched."""
    with opened(library=library) as lib:
        removed = lib.remove(paths)
    if as_json:
        echo_json({"removed": [wire.removed(each) for each in removed]})
    else:
        for each in removed:
            click.echo(f"forgot {short_path(each.path)}")
        if not removed:
            click.echo("nothing of that is in the library", err=True)
    if not removed:
        sys.exit(NOTHING_MATCHED)
