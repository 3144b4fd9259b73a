"""How answers from a library are checked, and what becomes of what fails: the options of ``ask`` and ``chat``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ivsearch.library import Library

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Proof:
    """What the options say."""

    k: int = 8
    verify: str = "encoder"
    unsupported: str = "withhold"


def proof_options(command: Command) -> Command:
    for option in (
        click.option("-k", type=click.IntRange(1), default=8, show_default=True, help="How many clips to look at."),
        click.option(
            "--unsupported",
            type=click.Choice(["withhold", "mark"]),
            default="withhold",
            show_default=True,
            help="What becomes of a chat model's sentences that fail the check.",
        ),
        click.option(
            "--verify",
            type=click.Choice(["encoder", "strict"]),
            default="encoder",
            show_default=True,
            help="strict: the chat model is also asked about each sentence, shown the cited clip alone.",
        ),
    ):
        command = option(command)
    return command


def advice(library: Library, unsupported: str) -> str:
    """How to see what was withheld; empty where no option shows it. What one says that has not looked is an invention,
    and withheld in any case."""
    return "--unsupported mark shows it" if unsupported == "withhold" and library.chat_watches else ""
