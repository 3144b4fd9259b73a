"""Ways in which a disk spoils a file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 4096


@dataclass(frozen=True)
class Damage:
    """Bytes ``[start, stop)`` of ``path`` are not what they were."""

    path: Path
    how: str
    start: int
    stop: int

    def hits(self, start: int, stop: int) -> bool:
        return self.start < stop and start < self.stop


def flip(path: Path, rng: random.Random) -> Damage:
    """One bit."""
    blob = bytearray(path.read_bytes())
    at = rng.randrange(len(blob))
    blob[at] ^= 1 << rng.randrange(8)
    path.write_bytes(blob)
    return Damage(path, "flip", at, at + 1)


def tear(path: Path, rng: random.Random) -> Damage:
    """Cuts it off anywhere."""
    blob = path.read_bytes()
    at = rng.randrange(len(blob))
    path.write_bytes(blob[:at])
    return Damage(path, "tear", at, len(blob))


def blank(path: Path, rng: random.Random) -> Damage:
    """Fills a page with zeros, as a power cut leaves it. One that was all zeros is not chosen."""
    blob = bytearray(path.read_bytes())
    pages = [at for at in range(0, len(blob), PAGE_BYTES) if any(blob[at : at + PAGE_BYTES])]
    at = rng.choice(pages)
    stop = min(at + PAGE_BYTES, len(blob))
    blob[at:stop] = bytes(stop - at)
    path.write_bytes(blob)
    return Damage(path, "blank", at, stop)


def lose(path: Path, rng: random.Random) -> Damage:
    """Deletes it."""
    size = path.stat().st_size
    path.unlink()
    return Damage(path, "lose", 0, size)


WAYS: tuple[Callable[[Path, random.Random], Damage], ...] = (flip, flip, flip, tear, blank, lose)
"""Bit flips are the ones that are hard to find."""


def spoil(path: Path, rng: random.Random) -> Damage:
    return rng.choice(WAYS)(path, rng)
