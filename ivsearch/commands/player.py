"""Opening a hit at the right second in a player that is there, or in the user's own."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Hit, Hits, MediaKind
from ivsearch.errors import IvsearchError, UsageError

PLAYERS = (
    ("mpv", "--start={start_s} {path}"),
    ("vlc", "--start-time={start_s} {path}"),
    ("ffplay", "-ss {start_s} {path}"),
    ("celluloid", "--mpv-start={start_s} {path}"),
    ("iina", "--mpv-start={start_s} {path}"),
    ("/Applications/IINA.app/Contents/MacOS/iina-cli", "--mpv-start={start_s} {path}"),
    ("/Applications/VLC.app/Contents/MacOS/VLC", "--start-time={start_s} {path}"),
)
"""In the order of preference: those that begin at any frame first."""

PLACEHOLDERS = ("{path}", "{start_s}", "{end_s}")
# The only one of them that shows photos, and goes on showing one.
PHOTO_VIEWER = ("mpv", "--image-display-duration=inf {path}")
OPENERS = {"darwin": "open"}
"""Platform → what opens a file as the desktop would; xdg-open elsewhere."""

# One that fails says so at once; one that plays has not ended by then.
FAILS_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Started:
    """What was started; ``at_start`` tells whether it begins at the hit, or at the beginning of the file."""

    words: tuple[str, ...]
    at_start: bool


def open_hit(hits: Hits, rank: int, player: str) -> Started:
    """Opens hit ``rank``. ``player``: the user's own command, or empty. Raises UsageError for a rank there is not,
    IvsearchError when the file has gone, no player is there, or it fails."""
    if not 1 <= rank <= len(hits):
        there = "nothing was found" if not hits.hits else f"{len(hits)} found" if len(hits) > 1 else "only 1 was found"
        raise UsageError(f"there is no hit {rank} to open: {there}")
    hit = hits[rank - 1]
    path = Path.cwd() / hit.path
    if not path.exists():
        raise IvsearchError(f"{hit.path} is not there any more: run `ivsearch index`, or bring its disk back")
    started = _chosen(hit, path, player)
    _start(started.words)
    return started


def check_player(player: str) -> list[str]:
    """The words of the setting ``player``; none where it is empty. Raises UsageError for one that cannot be meant."""
    try:
        words = shlex.split(player)
    except ValueError as error:
        raise UsageError(f"the setting player cannot be read ({error}): close its quotes") from error
    if words and "{path}" not in player:
        raise UsageError('the setting player must hold {path}, such as "mpv --start={start_s} {path}"')
    unknown = [each for each in re.findall(r"\{\w*\}", player) if each not in PLACEHOLDERS]
    if unknown:
        raise UsageError(f"the setting player holds {unknown[0]}; known are {', '.join(PLACEHOLDERS)}")
    return words


def _chosen(hit: Hit, path: Path, player: str) -> Started:
    if hit.kind is MediaKind.VIDEO:
        if player:
            return Started(_filled(check_player(player), hit, path), at_start="{start_s}" in player)
        for program, arguments in PLAYERS:
            if found := shutil.which(program):
                return Started((found, *_filled(arguments.split(), hit, path)), at_start=True)
    opener = OPENERS.get(sys.platform, "xdg-open")
    if found := shutil.which(opener):
        return Started((found, str(path)), at_start=hit.kind is MediaKind.IMAGE)
    if hit.kind is MediaKind.IMAGE:
        program, arguments = PHOTO_VIEWER
        if found := shutil.which(program):
            return Started((found, *_filled(arguments.split(), hit, path)), at_start=True)
        raise IvsearchError(
            f"no program is there to open the photo {hit.path} with: photos are opened by {opener}, as the desktop "
            f"would, or by {program}: install one of them"
        )
    raise IvsearchError(
        f"no program is there to open {hit.path} with: install mpv or vlc, or set `player` in ivsearch.toml, such as "
        'player = "mpv --start={start_s} {path}"'
    )


def _filled(words: list[str], hit: Hit, path: Path) -> tuple[str, ...]:
    """Each word with its placeholders filled: no shell ever sees the file's name."""
    times = {"{start_s}": f"{hit.moment.start_s:.3f}", "{end_s}": f"{hit.moment.end_s:.3f}"}
    filled = []
    for word in words:
        for placeholder, value in times.items():
            word = word.replace(placeholder, value)
        filled.append(word.replace("{path}", str(path)))
    return tuple(filled)


def _start(words: tuple[str, ...]) -> None:
    quiet = subprocess.DEVNULL
    try:
        # In a session of its own, so that it plays on when the terminal is closed.
        started = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError as error:
        raise IvsearchError(f"cannot start {words[0]} ({error.strerror}): check the setting `player`") from error
    try:
        code = started.wait(FAILS_WITHIN_S)
    except subprocess.TimeoutExpired:
        return
    if code != 0:
        raise IvsearchError(f"{words[0]} ended at once with code {code}: run `{shlex.join(words)}` to see why")
