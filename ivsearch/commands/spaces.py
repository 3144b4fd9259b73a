"""``ivsearch spaces``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ivsearch import wire
from ivsearch.commands.options import SOME_SKIPPED, echo_json, encoder_options, json_option, library_option, opened
from ivsearch.commands.progress import ReencodingProgress
from ivsearch.commands.spaces_shown import (
    reencoding_document,
    reencoding_text,
    space_document,
    spaces_text,
)
from ivsearch.domain import Skipped
from ivsearch.errors import IvsearchError
from ivsearch.render import skipped_text

if TYPE_CHECKING:
    from ivsearch.library import Library

# How long the terminal waits for a background process: to begin, and to end.
BEGIN_S = 20.0
END_S = 60.0


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  ivsearch spaces
  ivsearch spaces add --encoder siglip2:google/siglip2-base-patch16-224 --background
  ivsearch spaces stop
  ivsearch spaces back
  ivsearch spaces drop mini

\b
A space is what one encoder makes of the library. Searches use the active one;
`add` fills another beside it and switches when it is complete.
""",
)
@library_option
@json_option
@click.pass_context
def command(context: click.Context, library: str | None, as_json: bool) -> None:
    """The spaces of the library, and how far a re-encoding is."""
    if context.invoked_subcommand is not None:
        context.obj = library
        return
    with opened(library=library) as lib:
        states, job = lib.spaces(), lib.reencoding()
    if as_json:
        document = reencoding_document(job) if job else None
        echo_json({"spaces": [space_document(each) for each in states], "reencoding": document})
        return
    click.echo(spaces_text(states))
    if job:
        click.echo(reencoding_text(job, time.time()))


def _library_of(context: click.Context, library: str | None) -> str | None:
    """Named after the act or before it."""
    return library or context.obj


@command.command(
    epilog="""\b
Examples:
  ivsearch spaces add --encoder internvl-c --weights OpenGVLab/InternVL-14B-224px --device cuda
  ivsearch spaces add --encoder siglip2:google/siglip2-base-patch16-224 --background
  ivsearch spaces add --encoder siglip2:google/siglip2-base-patch16-224 --no-switch

\b
Searches and `index` work meanwhile. Stop it when you like; the same command
goes on from there.
"""
)
@library_option
@encoder_options
@click.option("--workers", type=click.IntRange(1), help="Decoding processes (default: one a core, at most 8).")
@click.option("--batch", type=click.IntRange(1), help="Frames encoded at once (default: what suits the encoder).")
@click.option("--stall-s", type=click.FloatRange(1), help="Give up a decoder that sends nothing for so long.")
@click.option("--background", is_flag=True, help="In a process of its own, which outlives the terminal.")
@click.option("--no-switch", is_flag=True, help="Leave searches with the space they use, even when this is complete.")
@json_option
@click.pass_context
def add(
    context: click.Context,
    library: str | None,
    encoder: str | None,
    weights: str | None,
    device: str | None,
    dtype: str | None,
    preprocess: str | None,
    workers: int | None,
    batch: int | None,
    stall_s: float | None,
    background: bool,
    no_switch: bool,
    as_json: bool,
) -> None:
    """Encode all that the library holds with another encoder, and switch to it when that is complete.

    Files that cannot be read any more are named, the exit code is 3, and the old space stays in use.
    """
    if not encoder:
        raise click.UsageError("say which encoder: --encoder NAME (`ivsearch models` lists them)")
    with opened(
        library=_library_of(context, library),
        encoder=encoder,
        weights=weights,
        device=device,
        dtype=dtype,
        preprocess=preprocess,
        workers=workers,
        batch=batch,
        stall_s=stall_s,
    ) as lib:
        if background:
            _begin_in_background(lib, _options_of(context), as_json=as_json)
        else:
            _add(lib, no_switch=no_switch, as_json=as_json)


def _add(lib: Library, *, no_switch: bool, as_json: bool) -> None:
    from ivsearch.encode.table import encoder_row

    skipped: list[Skipped] = []
    added, before = 0, lib.manifest().active
    # Nobody who searches by words is to find that no word is understood any more.
    reads_texts = encoder_row(lib.source.name)[0].reads_texts
    with ReencodingProgress(shown=sys.stderr.isatty()) as progress:
        for event in lib.add_space(switches=reads_texts and not no_switch, on_progress=progress.update):
            if isinstance(event, Skipped):
                skipped.append(event)
            else:
                added += 1
    space, active = lib.encoder.space, lib.manifest().active
    if as_json:
        echo_json(
            {
                "space": {"key": space.key, **wire.space(space)},
                "added": added,
                "skipped": [wire.skipped(each) for each in skipped],
                "active": active == space,
            }
        )
    else:
        for each in skipped:
            click.echo(skipped_text(each))
        if active == before == space and not added and not skipped:
            click.echo(f"{space.key} is in use already, and complete: nothing to do")
            return
        click.echo(f"{added} media encoded into {space.key}")
        if active == before == space and not skipped:
            click.echo("searches use it, as before")
        elif active == space and not skipped:
            click.echo("searches use it now; `ivsearch spaces back` undoes that")
        elif skipped:
            missing = "1 medium has" if len(skipped) == 1 else f"{len(skipped)} media have"
            click.echo(
                f"{missing} no vectors in it, so searches stay with {active.key if active else 'none'}. Make the files "
                f"readable and run this again, forget those that are gone (ivsearch index), or switch without them: "
                f"ivsearch spaces use {space.key} --anyway"
            )
        else:
            alone = "" if reads_texts else "it is complete, and finds pictures by pictures only: it has no text side. "
            click.echo(f"{alone}switch to it with: ivsearch spaces use {space.key}")
    if skipped:
        sys.exit(SOME_SKIPPED)


def _options_of(add: click.Context) -> list[str]:
    """How the encoder and its work were asked for, as it was typed, for a process that does it."""
    names = ("encoder", "weights", "device", "dtype", "preprocess", "workers", "batch", "stall_s")
    typed = {name: add.params[name] for name in names if add.params[name] is not None}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in typed.items()]
    return [*options, *(["--no-switch"] if add.params["no_switch"] else [])]


def _begin_in_background(lib: Library, options: list[str], *, as_json: bool) -> None:
    """Starts ``add`` in a session of its own and waits until it has begun, or said why not."""
    from ivsearch.store.reencoding_state import LOG

    options = [f"--library={os.path.abspath(lib.folder)}", *options]
    log = lib.folder / LOG
    with log.open("ab") as file:
        began = file.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "ivsearch", "spaces", "add", *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    if hasattr(os, "setpriority"):
        # Searches come first.
        os.setpriority(os.PRIO_PROCESS, process.pid, 10)
    deadline = time.monotonic() + BEGIN_S
    while time.monotonic() < deadline and process.poll() is None:
        job = lib.reencoding()
        if job and job.pid == process.pid and job.space:
            break
        time.sleep(0.1)
    if process.poll() not in (None, 0, SOME_SKIPPED):
        raise IvsearchError(f"it did not begin: {_last_line(log, began)} (see {log})")
    if as_json:
        echo_json({"pid": process.pid, "log": str(log)})
    else:
        click.echo(f"encoding in the background (process {process.pid}, log in {log}); `ivsearch spaces` shows how far")


def _last_line(log: Path, began: int) -> str:
    lines = log.read_bytes()[began:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("ivsearch: ") if lines else "it said nothing"


@command.command(epilog="\b\nExample:\n  ivsearch spaces stop")
@library_option
@click.pass_context
def stop(context: click.Context, library: str | None) -> None:
    """End a re-encoding that is under way, in the background or not. What it has done is kept."""
    from ivsearch.store.reencoding_state import wait_until_ended

    with opened(library=_library_of(context, library)) as lib:
        job = lib.reencoding()
        if job is None or not job.is_running:
            click.echo("no re-encoding is under way")
            return
        os.kill(job.pid, signal.SIGTERM)
        if not wait_until_ended(lib.folder, END_S):
            raise IvsearchError(
                f"process {job.pid} has not ended in {END_S:.0f} s; end it with `kill -9 {job.pid}`: nothing is lost"
            )
        click.echo(f"stopped process {job.pid}; the same `ivsearch spaces add` goes on from there")


@command.command(epilog="\b\nExamples:\n  ivsearch spaces use mini\n  ivsearch spaces use mini-1a2b3c4d5e6f --anyway")
@click.argument("wanted", metavar="KEY|ENCODER")
@click.option("--anyway", is_flag=True, help="Also when media have no vectors in it; they are not found then.")
@library_option
@click.pass_context
def use(context: click.Context, wanted: str, anyway: bool, library: str | None) -> None:
    """Make searches use a space, from their next one on."""
    with opened(library=_library_of(context, library)) as lib:
        space = lib.use_space(wanted, anyway=anyway)
    click.echo(f"searches use {space.key} now")


@command.command(epilog="\b\nExample:\n  ivsearch spaces back")
@library_option
@click.pass_context
def back(context: click.Context, library: str | None) -> None:
    """Make searches use the space they used before the last switch."""
    with opened(library=_library_of(context, library)) as lib:
        space = lib.switch_back()
    click.echo(f"searches use {space.key} again")


@command.command(epilog="\b\nExamples:\n  ivsearch spaces drop mini\n  ivsearch spaces drop mini-1a2b3c4d5e6f --yes")
@click.argument("wanted", metavar="KEY|ENCODER")
@click.option("--yes", is_flag=True, help="Do not ask.")
@library_option
@click.pass_context
def drop(context: click.Context, wanted: str, yes: bool, library: str | None) -> None:
    """Free what a space takes: its vectors, its index, its clips. The media stay, and so do other spaces."""
    from ivsearch.spaces import droppable, find_space

    with opened(library=_library_of(context, library)) as lib:
        state = find_space(droppable(lib.folder, lib.catalog, lib.manifest()), wanted)
        if not yes and not state.is_dropping:
            if not sys.stdin.isatty():
                raise click.UsageError(f"to drop {state.key} takes --yes where nobody can be asked")
            if not click.confirm(f"{spaces_text([state])}\ndrop it for good?", err=True):
                click.echo("nothing was dropped", err=True)
                sys.exit(1)
        key = lib.drop_space(state.key)
    click.echo(f"dropped {key}")
