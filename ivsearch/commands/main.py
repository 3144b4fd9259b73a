"""The command ``ivsearch``: a group whose verbs are imported when they are called, so that --help is instant."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from typing import NoReturn

import click

from ivsearch import __version__
from ivsearch.errors import IvsearchError
from ivsearch.plain_text import steady

INTERRUPTED = 130

# name → one line of help; the verb is `command` in the module of that name.
VERBS = {
    "index": "Bring the library up to date with files and folders.",
    "search": "Find moments by a text in any language, an image or a clip.",
    "queries": "List, show and forget saved queries.",
    "cut": "Write found moments to files of their own.",
    "ask": "Answer a question from what the library shows, with proof.",
    "chat": "Ask on, in a conversation.",
    "embed": "Write the vectors of texts, images or videos to a file.",
    "caption": "Say in words what images show.",
    "spaces": "Change to another encoder without a break, and back.",
    "reindex": "Build the vector index anew, as size and memory ask for.",
    "compact": "Free the room that forgotten files still take.",
    "stats": "What the library holds.",
    "rm": "Forget files (the files themselves stay).",
    "verify": "Check everything the library has on disk.",
    "repair": "Mend what `verify` finds.",
    "models": "Encoders and chat models, and what each needs.",
    "doctor": "Check this machine and this library, and say what to do.",
    "completion": "Print the completion script of a shell.",
}


INTERRUPTIONS = {
    "index": "; finished files are kept",
    "spaces": "; what was encoded is kept, and the same command goes on from there",
    "cut": "; no half file is left",
    "embed": "; nothing was written",
}
"""verb → what became of its work; empty where there is nothing to say."""

LIBRARY_PLACE = "choose another --library"
PLACES = {"embed": "write elsewhere (-o)", "cut": "write elsewhere (-o)", "caption": "", "models": "", "completion": ""}
"""verb → how to have it write elsewhere, for verbs that do not write to a library."""


class Verbs(click.Group):
    """Finds a verb's module by its name. Help texts of the list come from the table above, with no import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        _steady_warnings()
        command: click.Command = importlib.import_module(f"ivsearch.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib  # here, because --help must be instant

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            if not near:
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Do you mean `ivsearch {near[0]}`?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


EPILOG = """\b
Examples:
  ivsearch index ./videos ./photos
  ivsearch search "a cat jumps on a sofa"
  ivsearch search "一只猫跳上沙发" --kind video -k 3
  ivsearch ask "Where is the dog playing in the snow?"

\b
The library is --library DIR, else IVSEARCH_LIBRARY, else ./indexes/default if
./indexes exists, else a folder of the user's own. Exit codes: 0 ok, 1 nothing
matched or a check failed, 2 usage, 3 done but some files were skipped,
4 weights or network not available, 130 interrupted.
"""


@click.group(cls=Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ivsearch")
def cli() -> None:
    """Find and ask your own videos and images, in any language, on this machine."""


def _invoke() -> int | None:
    if "_IVSEARCH_COMPLETE" in os.environ:
        cli.main(prog_name="ivsearch")
    # Not cli.main(): click ends with 1 when the reader of our output has gone.
    try:
        with cli.make_context("ivsearch", sys.argv[1:]) as context:
            cli.invoke(context)
            if sys.stdout is not None:  # closed before we began
                sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return 0


def _verb() -> str:
    """What the user called; no option that stands before it takes a value."""
    return next((word for word in sys.argv[1:] if word in VERBS), "")


def _advice(error: OSError) -> str:
    """What to do where there is no room or no permission; empty for any other error."""
    place = PLACES.get(_verb(), LIBRARY_PLACE)
    elsewhere = f" or {place}" if place else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        kept = "what was done before is kept: " if place == LIBRARY_PLACE else ""
        return f"{kept}make room{elsewhere}, and run it again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"this command has to write there: change the permissions{elsewhere}"
    return ""


def _steady_warnings() -> None:
    """Warnings name files, and what a server says: neither may steer the terminal."""
    # Here, because --help must be instant.
    import logging

    def steadied(record: logging.LogRecord) -> bool:
        record.msg, record.args = steady(record.getMessage()), None
        return True

    if logging.lastResort:
        logging.lastResort.addFilter(steadied)


def main() -> NoReturn:
    """Runs the command line and exits as the table of exit codes says."""
    # File names need not be valid in any encoding; they go out byte by byte as they came in.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    # Not by way of SIGINT: a script's background jobs are started with that ignored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(_invoke() or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except IvsearchError as error:
        click.echo(f"ivsearch: {steady(str(error))}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"ivsearch: interrupted{INTERRUPTIONS.get(_verb(), '')}", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        advice = _advice(error)
        if not advice:
            raise
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"ivsearch: {error.strerror}{where}; {advice}", err=True)
        sys.exit(1)
