"""``ivsearch models``."""

from __future__ import annotations

from dataclasses import asdict

import click

from ivsearch.commands.options import echo_json, json_option


@click.command(epilog="\b\nExample:\n  ivsearch models --json")
@json_option
def command(as_json: bool) -> None:
    """Encoders (for index and search) and chat models (for ask and chat), and what each needs."""
    from ivsearch.ask import describe_chats
    from ivsearch.encode import describe_encoders

    if as_json:
        echo_json(
            {
                "encoders": [asdict(row) for row in describe_encoders()],
                "chats": [asdict(row) for row in describe_chats()],
            }
        )
        return
    click.echo("encoders (--encoder)")
    for encoder in describe_encoders():
        click.echo(f"  {encoder.usage:<14} {encoder.summary}")
        click.echo(f"  {'':<14} {encoder.languages}; weights {encoder.licence}")
    click.echo("chat models (--chat)")
    click.echo(f"  {'composed':<14} The default: no language model; answers are put together from the evidence.")
    for chat in describe_chats():
        click.echo(f"  {chat.name:<14} {chat.summary}")
        click.echo(f"  {'':<14} {chat.languages}; {chat.licence}; pip packages {', '.join(chat.packages)}")
