"""``ivsearch verify``."""

from __future__ import annotations

import sys

import click

from ivsearch.commands.options import echo_json, json_option, library_option, opened

CHECK_FAILED = 1


@click.command(epilog="\b\nExample:\n  ivsearch verify && echo sound")
@library_option
@json_option
def command(library: str | None, as_json: bool) -> None:
    """Check everything the library has on disk: rows, checksums of all vectors, the index.

    Exit code 1 when something is wrong; `ivsearch repair` mends it.
    """
    with opened(library=library) as lib:
        problems = list(lib.verify())
    if as_json:
        echo_json({"sound": not problems, "problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        if not problems:
            click.echo("sound")
    if problems:
        sys.exit(CHECK_FAILED)
