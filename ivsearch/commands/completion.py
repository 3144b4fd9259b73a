"""``ivsearch completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="""\b
Examples:
  ivsearch completion bash >> ~/.bashrc
  ivsearch completion zsh >> ~/.zshrc
  ivsearch completion fish > ~/.config/fish/completions/ivsearch.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "ivsearch", "_IVSEARCH_COMPLETE").source())
