"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def replace_file(path: Path, content: bytes) -> None:
    """Writes beside ``path``, fsyncs, renames over it, fsyncs the folder."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Renames an fsynced file to its final name and fsyncs the folder."""
    temporary.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Makes names created or renamed in it durable."""
    sync_file(folder)


def sealed(table: dict[str, Any]) -> bytes:
    """``table`` as a small JSON file that notices when a bit of it is flipped."""
    return (json.dumps({**table, "checksum": _digest(table)}, indent=2) + "\n").encode()


def unsealed(content: bytes) -> dict[str, Any]:
    """What was sealed; files of versions that sealed nothing are taken as they are. Raises ValueError."""
    table = json.loads(content)
    if not isinstance(table, dict):
        raise ValueError("it holds no table")
    checksum = table.pop("checksum", None)
    if checksum is not None and checksum != _digest(table):
        raise ValueError("it does not fit its checksum")
    return table


def _digest(table: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(table, sort_keys=True).encode(), digest_size=16).hexdigest()


def set_aside(path: Path) -> Path:
    """Renames a damaged file to ``NAME.damaged`` (``.damaged-2``, …) beside it. Nothing is ever deleted in silence."""
    return path.rename(_aside(path))


def set_aside_copy(path: Path) -> Path:
    """As ``set_aside``, of a file part of which is still good."""
    return Path(shutil.copy2(path, _aside(path)))


def set_aside_and_replace(path: Path, fresh: Path) -> Path:
    """As ``set_aside``, with ``fresh``, on the disk already, in its place: at no moment is there none."""
    target = _aside(path)
    try:
        target.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copy2(path, target)
    publish(fresh, path)
    return target


def _aside(path: Path) -> Path:
    target, n = path.with_name(f"{path.name}.damaged"), 1
    while target.exists():
        n += 1
        target = path.with_name(f"{path.name}.damaged-{n}")
    return target


def bytes_below(folder: Path) -> int:
    """What the files below it hold; 0 without it."""
    return bytes_of(folder.rglob("*"))


def bytes_of(paths: Iterable[Path]) -> int:
    """What those hold that are files; one that a writer has just removed holds nothing."""
    return sum(map(_size_bytes, paths))


def _size_bytes(path: Path) -> int:
    try:
        state = path.stat()
    except FileNotFoundError:
        return 0
    return state.st_size if stat.S_ISREG(state.st_mode) else 0
