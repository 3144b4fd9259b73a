"""Roots → the files worth opening, in an order that is the same on every run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Skipped
from ivsearch.media.suffixes import MEDIA


@dataclass(frozen=True, slots=True)
class Found:
    """A file to index: ``path`` is absolute, links in it are left as they are; ``mtime_ns`` in nanoseconds."""

    path: Path
    size_bytes: int
    mtime_ns: int


def scan(roots: Sequence[Path]) -> Iterator[Found | Skipped]:
    """Walk ``roots`` (files or folders) and yield each file once, sorted by name within each folder.

    In a folder, files are picked by suffix and hidden names (leading dot) are left out; a root itself is always taken.
    Linked folders are followed, a folder that is its own ancestor or was walked before is not entered again.
    What cannot be read comes as Skipped. Raises nothing for a bad path.
    """
    walk = _Walk()
    for root in roots:
        yield from walk.root(Path(os.path.abspath(root)))  # not resolve(): links stay as they are


class _Walk:
    def __init__(self) -> None:
        self._folders: set[tuple[int, int]] = set()
        self._files: set[Path] = set()

    def root(self, path: Path) -> Iterator[Found | Skipped]:
        try:
            info = path.stat()
        except OSError as error:
            if self._is_new(path):
                yield Skipped(path, _why_no_stat(path, error))
            return
        if stat.S_ISDIR(info.st_mode):
            yield from self._folder(path, info)
        else:
            yield from self._file(path, info)

    def _folder(self, path: Path, info: os.stat_result) -> Iterator[Found | Skipped]:
        identity = (info.st_dev, info.st_ino)
        if identity in self._folders:
            return
        self._folders.add(identity)
        try:
            with os.scandir(path) as entries:
                names = sorted((entry.name for entry in entries), key=os.fsencode)
        except OSError as error:
            yield Skipped(path, f"folder cannot be listed: {_words(error)}; check its permissions")
            return
        for name in names:
            if not name.startswith("."):
                yield from self._entry(path / name)

    def _entry(self, path: Path) -> Iterator[Found | Skipped]:
        wanted = path.suffix.lower() in MEDIA
        try:
            info = path.stat()
        except OSError as error:
            if wanted and self._is_new(path):
                yield Skipped(path, _why_no_stat(path, error))
            return
        if stat.S_ISDIR(info.st_mode):
            if wanted and self._is_new(path):
                yield Skipped(path, "is a directory with the name of a media file; the files in it are looked at")
            yield from self._folder(path, info)
        elif wanted:
            yield from self._file(path, info)

    def _file(self, path: Path, info: os.stat_result) -> Iterator[Found | Skipped]:
        if not self._is_new(path):
            return
        if not stat.S_ISREG(info.st_mode):
            yield Skipped(path, f"is {_kind(info.st_mode)}, not a file; record it to a file first")
        elif not os.access(path, os.R_OK):
            yield Skipped(path, "no permission to read it; change its permissions or run as its owner")
        else:
            yield Found(path, info.st_size, info.st_mtime_ns)

    def _is_new(self, path: Path) -> bool:
        if path in self._files:
            return False
        self._files.add(path)
        return True


def _why_no_stat(path: Path, error: OSError) -> str:
    if path.is_symlink():
        if isinstance(error, FileNotFoundError):
            return f"is a link to {str(path.readlink())!r}, which is not there"
        return f"is a link that cannot be followed: {_words(error)}"
    if isinstance(error, FileNotFoundError):
        return "no such file or folder; check the spelling, or whether the disk is mounted"
    return f"cannot be looked at: {_words(error)}; check the permissions of its folder"


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
