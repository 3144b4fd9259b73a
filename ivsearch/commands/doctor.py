"""``ivsearch doctor``."""

from __future__ import annotations

import sys

import click

from ivsearch.commands.options import catalog_flag, echo_json, json_option, library_option
from ivsearch.plain_text import printable
from ivsearch.settings import load_settings

CHECK_FAILED = 1


@click.command(epilog="\b\nExample:\n  ivsearch doctor --library ./indexes/default")
@library_option
@json_option
def command(library: str | None, as_json: bool) -> None:
    """Check this machine and this library: versions, threads, GPU, codecs, weights, health; and say what to do.

    Exit code 1 when something has to be done before ivsearch can work.
    """
    from ivsearch.doctor import State, examine

    failed = False
    checks = []
    for check in examine(load_settings({"library": library, "catalog": catalog_flag()})):
        failed |= check.state is State.FAIL
        if as_json:
            checks.append(
                {"name": check.name, "state": check.state.value, "detail": check.detail, "advice": check.advice}
            )
        else:
            advice = f"  → {check.advice}" if check.advice else ""
            click.echo(printable(f"{check.state.value:<5} {check.name:<14} {check.detail}{advice}"))
    if as_json:
        echo_json({"ok": not failed, "checks": checks})
    if failed:
        sys.exit(CHECK_FAILED)
