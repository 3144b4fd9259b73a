"""``ivsearch compact``."""

from __future__ import annotations

import click

from ivsearch import wire
from ivsearch.commands.options import echo_json, json_option, library_option, opened, warn
from ivsearch.render import size


@click.command(
    epilog="""\b
Examples:
  ivsearch stats                 # says when it is worth while
  ivsearch compact

\b
Searches go on meanwhile. Stop it when you like: what was freed stays free, and the
same command goes on from there. It needs room for a copy of one segment, 1 GiB at most.
"""
)
@library_option
@json_option
def command(library: str | None, as_json: bool) -> None:
    """Free the room of vectors that nothing needs: of files that were forgotten, or read anew."""
    with opened(library=library) as lib:
        compacted = lib.compact(tell=lambda line: warn([line]))
    if as_json:
        rows = [
            {"space": wire.space(each.space), "before_bytes": each.before_bytes, "after_bytes": each.after_bytes}
            for each in compacted
        ]
        echo_json({"library": str(lib.folder), "spaces": rows})
        return
    for each in compacted:
        freed = size(each.before_bytes - each.after_bytes)
        click.echo(f"{each.space.encoder} {each.space.revision[:12]}: freed {freed}, {size(each.after_bytes)} are left")
