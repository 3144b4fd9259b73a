"""``ivsearch reindex``."""

from __future__ import annotations

import dataclasses

import click

from ivsearch import wire
from ivsearch.commands.options import echo_json, json_option, library_option, opened, warn
from ivsearch.render import size

KINDS = ("flat", "ivf-sq8", "ivf-rabitq")


@click.command(
    epilog="""\b
Examples:
  ivsearch reindex                       # as suits the library and this machine
  ivsearch reindex --memory-budget 2GB
  ivsearch reindex --kind ivf-rabitq --json

\b
`ivsearch index` does this by itself when it is due. Searches go on with the old
index until the new one is complete; no file is decoded or encoded again.
"""
)
@library_option
@click.option(
    "--memory-budget", metavar="SIZE", help="Memory for the index, as 6GB (default: a quarter of the machine's)."
)
@click.option("--kind", type=click.Choice(KINDS), help="Exact, 8-bit or 1-bit codes (default: what suits the size).")
@json_option
def command(library: str | None, memory_budget: str | None, kind: str | None, as_json: bool) -> None:
    """Build the vector index anew from the stored vectors."""
    with opened(library=library, memory_budget=memory_budget) as lib:
        shapes = lib.reindex(kind or "", tell=lambda line: warn([line]))
    if as_json:
        rows = [{**dataclasses.asdict(shape), "space": wire.space(shape.space)} for shape in shapes]
        echo_json({"library": str(lib.folder), "indexes": rows})
        return
    for shape in shapes:
        lists = f", {shape.n_lists:,} lists" if shape.n_lists else ""
        click.echo(
            f"{shape.space.encoder} {shape.space.revision[:12]}: {shape.kind.value}{lists}, {shape.clips:,} clips, "
            f"{size(shape.code_bytes)} to search, {size(shape.disk_bytes)} on disk"
        )
