"""``ivsearch models``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ivsearch.commands.options import echo_json, json_option
from ivsearch.plain_text import printable
from ivsearch.render import short_path, size

if TYPE_CHECKING:
    from ivsearch.models.checksums import FileCheck, FolderCheck

CHECK_FAILED = 1


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  ivsearch models
  ivsearch models pull OpenGVLab/InternVL-14B-224px
  ivsearch models verify OpenGVLab/InternVL-14B-224px
""",
)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Encoders (for index and search) and chat models (for ask and chat), and what each needs."""
    if context.invoked_subcommand is not None:
        return
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
    for chat in describe_chats():
        click.echo(f"  {chat.usage:<14} {chat.summary}")
        needs = [f"pip packages {', '.join(chat.packages)}"] if chat.packages else []
        needs += [f"weights {chat.hub_id}"] if chat.hub_id else []
        click.echo(f"  {'':<14} {'; '.join([chat.languages, chat.licence, *needs])}")


@command.command(
    epilog="""\b
Examples:
  ivsearch models pull OpenGVLab/InternVL-14B-224px
  ivsearch models pull OpenGVLab/InternVL-14B-224px@main
  HF_HOME=/data/hub ivsearch models pull OpenGVLab/InternVideo2_5_Chat_8B
"""
)
@click.argument("hub_id")
@json_option
def pull(hub_id: str, as_json: bool) -> None:
    """Download a model into the hub's cache and print its folder.

    HUB_ID is org/name, or org/name@revision for a branch, a tag or a commit. What is there already is not
    downloaded again; a download that broke off goes on where it stopped.
    """
    from ivsearch.models.hub import hub_model
    from ivsearch.models.hub import pull as pulled

    if Path(hub_id).is_dir():
        raise click.BadParameter(f"{hub_id} is a folder already: nothing to download, name it with --weights")
    model = hub_model(hub_id)
    if model is None:
        raise click.BadParameter(f"{hub_id!r} is not a hub id: write org/name or org/name@revision")
    folder = pulled(model)
    if as_json:
        echo_json({"model": str(model), "folder": str(folder)})
    else:
        click.echo(folder)


@command.command(
    epilog="""\b
Examples:
  ivsearch models verify OpenGVLab/InternVL-14B-224px
  ivsearch models verify ./weights/InternVL-14B-224px
  ivsearch models verify --write ./weights/*     # record the digests, to compare with later
"""
)
@click.argument("weights", nargs=-1, required=True)
@click.option("--write", is_flag=True, help="Write the digests into SHA256SUMS in the folder, unless a check fails.")
@json_option
def verify(weights: tuple[str, ...], write: bool, as_json: bool) -> None:
    """Check every byte of models' files. WEIGHTS are folders or hub ids.

    Every file that an index names must be there, headers must fit the sizes of their files, and digests must be
    those of SHA256SUMS in the folder or, without one, those the hub gave at the download. Exit code 1 when a check
    fails.
    """
    checks = []
    for each in weights:
        check = _checked(each)
        checks.append(check)
        if not as_json:
            _echo_check(check)
        if write and check.is_sound:
            _write(check)
    if as_json:
        echo_json({"sound": all(check.is_sound for check in checks), "weights": [_document(check) for check in checks]})
    if not all(check.is_sound for check in checks):
        sys.exit(CHECK_FAILED)


def _checked(weights: str) -> FolderCheck:
    from ivsearch.models.checksums import bytes_ahead, check_folder
    from ivsearch.models.hub import at_hand, missing_at_hand

    folder = at_hand(weights)
    with _reading(bytes_ahead(folder), shown=sys.stderr.isatty()) as on_read:
        return check_folder(folder, missing_at_hand(weights), on_read)


def _write(check: FolderCheck) -> None:
    from ivsearch.models.checksums import write_sums

    click.echo(f"ivsearch: wrote {short_path(write_sums(check))}", err=True)


def _echo_check(check: FolderCheck) -> None:
    name = short_path(check.folder)
    if not check.compared_with:
        click.echo(f"{name}: nothing to compare the digests with; --write records them in SHA256SUMS for later")
    else:
        click.echo(f"{name}: compared with {check.compared_with}")
    for file in check.files:
        click.echo(f"  {_line(file)}")
    bad = sum(not file.is_sound for file in check.files)
    if bad:
        click.echo(f"  {bad} of {len(check.files)} files failed")
    else:
        click.echo("  sound" if check.compared_with else "  all there and of the right size")


def _line(file: FileCheck) -> str:
    name = printable(file.file)
    if file.fault:
        return f"FAILED  {name}: {file.fault}"
    if not file.expected:
        return f"{file.digest}  {name} ({size(file.size_bytes)})"
    if file.digest != file.expected:
        return f"FAILED  {name}: expected {file.expected}, found {file.digest}: download it again"
    return f"ok      {name} ({size(file.size_bytes)})"


def _document(check: FolderCheck) -> dict:
    return {
        "folder": str(check.folder),
        "sound": check.is_sound,
        "compared_with": check.compared_with or None,
        "files": [{**asdict(file), "sound": file.is_sound} for file in check.files],
    }


@contextmanager
def _reading(bytes_total: int, *, shown: bool) -> Iterator[Callable[[str, int], None]]:
    """A live line on stderr: the file, how much of all, the rate, the time left."""
    if not shown:
        yield lambda file, n_bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking", total=bytes_total)
        yield lambda file, n_bytes: bar.update(task, advance=n_bytes, description=printable(Path(file).name))
