"""What went wrong with one file, in words that say what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ivsearch import pictures
from ivsearch.errors import MediaError

FAULTS = pictures.FAULTS
"""What a broken file makes the decoders raise: FFmpeg's errors mostly derive from the built-in ones, as Pillow's do."""


def explain(path: Path, error: BaseException) -> str:
    """Plain words for ``error`` met while reading ``path``; looks at the first bytes of the file to say more."""
    if isinstance(error, MediaError):
        return str(error)
    if path.is_symlink() and not path.exists():
        return f"is a link to {str(path.readlink())!r}, which is not there"
    if path.is_dir():
        return "is a directory, not a media file"
    if isinstance(error, FileNotFoundError):
        return "file is gone: it was moved or deleted after it was found; index again"
    if isinstance(error, PermissionError):
        return "no permission to read it; change its permissions or run as its owner"
    if isinstance(error, OSError) and error.errno in _DISK and not _is_ffmpeg(error):
        return f"the disk or network share gives an error ({os.strerror(error.errno)}); check it, then index again"
    head = _head(path)
    if head == b"":
        return "file is empty (0 bytes)"
    if isinstance(error, MemoryError):
        return "its header is damaged (it asks for absurd amounts of memory), or memory ran out; copy the file again"
    if isinstance(error, EOFError):
        return "file ends inside its header: it was cut short; copy or download it again"
    if _is_mp4(head) and b"moov" not in (head or b""):
        return "its index (moov) is missing or damaged: recording or copying was cut off; copy it again or repair it"
    if _is_mp4(head):
        return "its header is damaged; copy or download it again"
    detail = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    if _looks_like_text(head):
        return "is not a video or image: it holds text"
    return f"is not a video or image that can be read, or its header is damaged ({_without_path(detail)})"


_DISK = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ESTALE}


def _is_ffmpeg(error: OSError) -> bool:
    return type(error).__module__.startswith("av.")


def _head(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return None


def _is_mp4(head: bytes | None) -> bool:
    return head is not None and head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def _looks_like_text(head: bytes | None) -> bool:
    if not head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
    return not any(byte < 9 for byte in head)


def _without_path(detail: str) -> str:
    """FFmpeg's text without number and path: ``[Errno 1094995529] Invalid data …: '/a/b'`` → ``Invalid data …``."""
    if detail.startswith("[Errno") and "] " in detail:
        detail = detail.split("] ", 1)[1]
    return detail.split(": '", 1)[0]
