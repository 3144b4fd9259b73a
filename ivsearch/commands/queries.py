"""``ivsearch queries``."""

from __future__ import annotations

import click

from ivsearch import wire
from ivsearch.commands.options import echo_json, json_option, library_option, opened
from ivsearch.domain import Query
from ivsearch.render import query_text


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  ivsearch search "red car" --kind video --save cars
  ivsearch queries
  ivsearch search @cars --new
  ivsearch queries show cars
  ivsearch queries rm cars
""",
)
@library_option
@json_option
@click.pass_context
def command(context: click.Context, library: str | None, as_json: bool) -> None:
    """List the queries saved in the library; show or remove one."""
    if context.invoked_subcommand is not None:
        return
    with opened(library=library) as lib:
        saved = lib.saved_queries.all()
    if as_json:
        queries = {name: _document(each.query, each.k, each.per_media) for name, each in sorted(saved.items())}
        echo_json({"queries": queries})
    elif saved:
        for name, each in sorted(saved.items()):
            click.echo(f"@{name}  {query_text(each.query)}")
    else:
        click.echo("no query is saved yet: `ivsearch search … --save NAME`", err=True)


@command.command("show", epilog="\b\nExample:\n  ivsearch queries show cars")
@click.argument("name")
@library_option
@json_option
def show(name: str, library: str | None, as_json: bool) -> None:
    """Show what a saved query asks."""
    with opened(library=library) as lib:
        saved = lib.saved_queries.get(name.removeprefix("@"))
    if as_json:
        echo_json(_document(saved.query, saved.k, saved.per_media))
    else:
        click.echo(query_text(saved.query))


@command.command("rm", epilog="\b\nExample:\n  ivsearch queries rm cars")
@click.argument("name")
@library_option
def remove(name: str, library: str | None) -> None:
    """Forget a saved query."""
    with opened(library=library) as lib:
        lib.saved_queries.remove(name.removeprefix("@"))
    click.echo(f"forgot @{name.removeprefix('@')}")


def _document(query: Query, k: int, per_media: int | None) -> dict[str, object]:
    return {"query": wire.query(query), "filters": wire.filters(query.filters), "k": k, "per_media": per_media}
