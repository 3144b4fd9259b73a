"""``ivsearch repair``."""

from __future__ import annotations

import click

from ivsearch.commands.options import echo_json, json_option, library_option, opened


@click.command(epilog="\b\nExample:\n  ivsearch repair && ivsearch index && ivsearch verify")
@library_option
@json_option
def command(library: str | None, as_json: bool) -> None:
    """Mend what `verify` finds, from what is durable. Damaged files are set aside, never deleted."""
    with opened(library=library) as lib:
        actions = list(lib.repair())
    if as_json:
        echo_json({"actions": actions})
    else:
        for action in actions:
            click.echo(action)
        if not actions:
            click.echo("nothing to mend")
