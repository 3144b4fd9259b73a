"""SQLite's write-ahead log, looked at from outside: was something lost in it that had been committed?

SQLite reads a log up to the first frame that does not fit its checksum and takes all behind for never written: a
flipped bit there quietly undoes commits. The layout is described in SQLite's "Database File Format", section 4.
"""

from __future__ import annotations

import struct
from pathlib import Path

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
    first, second = sums
    for one, other in struct.iter_unpack(f"{words}2I", content):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
