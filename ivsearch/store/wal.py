"""SQLite's write-ahead log, looked at from outside: was something lost in it that had been committed?

SQLite reads a log up to the first frame that does not fit its checksum and takes all behind for never written: a
flipped bit there quietly undoes commits. The layout is described in SQLite's "Database File Format", section 4.
"""

from __future__ import annotations

import filecmp
import os
import struct
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.store.files import set_aside_copy

HEADER_BYTES = 32
FRAME_HEAD = struct.Struct(">6I")  # page, size of the database after a commit (else 0), two salts, two checksums
LITTLE, BIG = 0x377F0682, 0x377F0683
ATTEMPTS = 5


def lost_commits(path: Path) -> int:
    """How many commits stand in the log behind a damaged place; 0 for a sound log, or for none.

    What a crash leaves half written at the end is no commit. A log that is being written to meanwhile is read again.
    """
    for _ in range(ATTEMPTS):
        try:
            before = path.stat()
            blob = path.read_bytes()
            after = path.stat()
        except FileNotFoundError:
            return 0
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, len(blob)):
            return _lost(blob)
    return 0


def log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def keep_damaged(log: Path) -> tuple[int, Path] | None:
    """How many commits are lost in the log, and the copy of it that is set aside; None when none is. To be called
    before anybody opens the database: SQLite then drops what it cannot read, and deletes the log. Raises OSError."""
    lost = lost_commits(log) if os.access(log.parent, os.W_OK) else 0
    if not lost:
        return None
    kept = (path for path in log.parent.glob(f"{log.name}.damaged*") if filecmp.cmp(path, log, shallow=False))
    return lost, next(kept, None) or set_aside_copy(log)


def _lost(blob: bytes) -> int:
    if len(blob) < HEADER_BYTES + FRAME_HEAD.size:
        return 0
    magic, _, page_bytes, _, *salts = struct.unpack_from(">6I", blob)
    words = ">" if magic == BIG else "<"
    sums = _checksum(blob[:24], words, (0, 0))
    sound = magic in (LITTLE, BIG) and sums == struct.unpack_from(">2I", blob, 24)
    if not sound:
        # Its frames still say whose they are; the size of a page can only be guessed from them.
        salts = list(struct.unpack_from(">2I", blob, HEADER_BYTES + 8))
        page_bytes = _page_bytes(blob, salts)
    if not page_bytes:
        return 0
    lost = 0
    frame_bytes = FRAME_HEAD.size + page_bytes
    for at in range(HEADER_BYTES, len(blob) - frame_bytes + 1, frame_bytes):
        _, commit, salt_1, salt_2, *wanted = FRAME_HEAD.unpack_from(blob, at)
        if sound and [salt_1, salt_2] != salts and not _others_follow(blob, at + frame_bytes, frame_bytes, salts):
            break  # frames of an earlier round begin here
        if sound:
            page = blob[at + FRAME_HEAD.size : at + frame_bytes]
            sums = _checksum(page, words, _checksum(blob[at : at + 8], words, sums))
            sound = [salt_1, salt_2] == salts and list(sums) == wanted
        if not sound and commit and [salt_1, salt_2] == salts:
            lost += 1
    return lost


def _others_follow(blob: bytes, start: int, frame_bytes: int, salts: list[int]) -> bool:
    """Whether frames of this round come after: then the one before was damaged, and is not one of an earlier round."""
    heads = range(start, len(blob) - frame_bytes + 1, frame_bytes)
    return any(list(struct.unpack_from(">2I", blob, at + 8)) == salts for at in heads)


def _page_bytes(blob: bytes, salts: list[int]) -> int:
    for page_bytes in (4096, *(1 << n for n in range(9, 17))):
        second = HEADER_BYTES + FRAME_HEAD.size + page_bytes
        if second == len(blob):
            return page_bytes
        if second + FRAME_HEAD.size <= len(blob) and list(struct.unpack_from(">2I", blob, second + 8)) == salts:
            return page_bytes
    return 0


def _checksum(content: bytes, words: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Each pair of words (a, b) makes (s, t) into (s', t') = (s + a + t, t + b + s'), modulo 2^32. That is linear: what
    each pair adds to the end is known before, for any number of pairs."""
    pairs = np.frombuffer(content, f"{words}u4").reshape(-1, 2).astype(np.uint32)
    steps = _steps(len(pairs))
    added = np.einsum("nij,nj->i", steps[-2::-1] @ _PAIR, pairs)
    first, second = steps[-1] @ np.asarray(sums, np.uint32) + added
    return int(first), int(second)


_STATE = np.array([[1, 1], [1, 2]], np.uint32)
_PAIR = np.array([[1, 0], [1, 1]], np.uint32)


@cache
def _steps(n: int) -> NDArray[np.uint32]:
    """What 0 to n pairs make of the state, (n + 1, 2, 2): powers of a matrix modulo 2^32."""
    powers = [np.eye(2, dtype=np.uint32)]
    for _ in range(n):
        powers.append(powers[-1] @ _STATE)
    return np.stack(powers)
