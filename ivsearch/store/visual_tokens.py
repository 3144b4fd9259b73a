"""What chat models have seen: features of frames on disk, so that a second question about a clip need not look again.

A cache: bounded in size, never needed; whatever goes wrong with it costs time only. indexes/README.md has the layout.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ivsearch.domain import MediaId

log = logging.getLogger(__name__)

NAME = "visual_tokens"
MAGIC = b"IVT2"
HEAD = struct.Struct("<4sIQ")  # magic, bytes of the JSON header, bytes of the payload
DIGEST_BYTES = 16
# What a file calls them. numpy has no bfloat16: its 16 bits come and go as uint16.
DTYPES: dict[str, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(np.uint16),
}
SUFFIX, HALF_WRITTEN = ".tokens", ".tmp"
LOCK, TOTAL = "lock", "total"
NUMBER_BYTES = 32  # more than the number in TOTAL takes
CLEARED_PERCENT = 90
SPACE_DIGITS = 16
WAIT_S = 10.0


class VisualTokens:
    """What one model, ``space_key``, has seen. All models of a library share ``folder`` and its ``limit_bytes``.

    ``space_key`` stands for everything that features depend on besides the frames. Any number of processes may read
    and write.
    """

    def __init__(self, folder: Path, space_key: str, limit_bytes: int) -> None:
        self.folder, self.space_key, self.limit_bytes = folder, space_key, limit_bytes

    def get(self, media_id: MediaId, times_s: Sequence[float]) -> NDArray[np.generic] | None:
        """The features of the frames at ``times_s`` as they were put, or None. What is damaged is thrown away."""
        path = self._path(media_id, times_s)
        try:
            blob = path.read_bytes()
        except OSError:
            return None
        try:
            header, features = _unpack(blob)
        except ValueError as error:
            log.debug("%s: %s; it is made anew", path, error)
            _remove(path)
            return None
        if header != self._header(media_id, times_s, features):
            return None
        with contextlib.suppress(OSError):  # a library that cannot be written to is read all the same
            os.utime(path)
        return features

    def put(self, media_id: MediaId, times_s: Sequence[float], features: NDArray[np.generic]) -> None:
        """Keeps features in float16 or float32, or uint16, the bits of bfloat16; those not asked for longest make
        room. Where that cannot be, on a full disk or in a library that cannot be written to, nothing is kept."""
        blob = _pack(self._header(media_id, times_s, features), features)
        path = self._path(media_id, times_s)
        if len(blob) + NUMBER_BYTES > self.limit_bytes:
            return
        temporary = path.with_suffix(HALF_WRITTEN)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK, timeout=WAIT_S):
                self._make_room(len(blob))
                path.parent.mkdir(parents=True, exist_ok=True)
                # Not fsynced: after a power cut the checksum tells.
                temporary.write_bytes(blob)
                temporary.replace(path)
        except OSError as error:
            log.debug("what was seen is not kept in %s: %s", self.folder, error)
            _remove(temporary)

    def _make_room(self, size_bytes: int) -> None:
        """Holding the lock. What all takes together is written down, so that not every put has to count; it may be
        written down too high, which the next count sets right, and never too low."""
        total = self._written_down()
        if total is None or total + size_bytes > self.limit_bytes:
            total = self._clear(min(self.limit_bytes * CLEARED_PERCENT // 100, self.limit_bytes - size_bytes))
        (self.folder / TOTAL).write_text(f"{total + size_bytes}\n")

    def _written_down(self) -> int | None:
        try:
            return int((self.folder / TOTAL).read_text())
        except (OSError, ValueError):
            return None

    def _clear(self, most_bytes: int) -> int:
        """Throws away what was not used for longest until at most ``most_bytes`` are left; how many are."""
        for path in self.folder.rglob(f"*{HALF_WRITTEN}"):
            _remove(path)  # left by a process that was killed: the lock is ours
        kept = sorted(_entries(self.folder), key=lambda entry: (entry.used_ns, entry.path))
        total = sum(entry.size_bytes for entry in kept) + NUMBER_BYTES
        for entry in kept:
            if total <= most_bytes:
                break
            _remove(entry.path)
            total -= entry.size_bytes
        return total

    def _path(self, media_id: MediaId, times_s: Sequence[float]) -> Path:
        name = hashlib.blake2b(np.asarray(times_s, "<f8").tobytes(), digest_size=DIGEST_BYTES).hexdigest()
        return self.folder / self.space_key[:SPACE_DIGITS] / media_id[:2] / media_id / f"{name}{SUFFIX}"

    def _header(self, media_id: MediaId, times_s: Sequence[float], features: NDArray[np.generic]) -> dict[str, Any]:
        times = [float(each) for each in times_s]
        kind, shape = _kind(features), list(features.shape)
        return {"space": self.space_key, "media_id": media_id, "times_s": times, "dtype": kind, "shape": shape}


def forget(folder: Path, media_ids: Iterable[MediaId]) -> None:
    """Throws away what was seen of these Media, by any model."""
    models = list(folder.glob("*"))
    for media_id in media_ids:
        for model in models:
            shutil.rmtree(model / media_id[:2] / media_id, ignore_errors=True)


def drop_damaged(folder: Path) -> int:
    """Reads everything, throws away what does not fit its checksum; how much that was."""
    dropped = 0
    for entry in _entries(folder):
        try:
            _unpack(entry.path.read_bytes())
        except ValueError:
            _remove(entry.path)
            dropped += 1
        except OSError:
            continue  # gone meanwhile
    return dropped


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size_bytes: int
    used_ns: int


def _entries(folder: Path) -> Iterator[_Entry]:
    for path in folder.glob(f"*/??/*/*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process made room
            state = path.stat()
            yield _Entry(path, state.st_size, state.st_mtime_ns)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
        # The folder of the Media, its fan-out, the model's: rmdir leaves those that hold more.
        for parent in list(path.parents)[:3]:
            parent.rmdir()


def _kind(features: NDArray[np.generic]) -> str:
    kind = next((name for name, dtype in DTYPES.items() if dtype == features.dtype), None)
    if kind is None:
        raise TypeError(f"features must be {', '.join(map(str, DTYPES.values()))}, not {features.dtype}")
    return kind


def _pack(header: dict[str, Any], features: NDArray[np.generic]) -> bytes:
    text = json.dumps(header).encode()
    payload = np.ascontiguousarray(features).astype(features.dtype.newbyteorder("<"), copy=False).tobytes()
    body = HEAD.pack(MAGIC, len(text), len(payload)) + text + payload
    return body + hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()


def _unpack(blob: bytes) -> tuple[dict[str, Any], NDArray[np.generic]]:
    """Raises ValueError, saying what is wrong."""
    body, digest = blob[:-DIGEST_BYTES], blob[-DIGEST_BYTES:]
    if len(body) < HEAD.size or hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise ValueError("it does not fit its checksum")
    magic, header_bytes, payload_bytes = HEAD.unpack_from(body)
    if magic != MAGIC or HEAD.size + header_bytes + payload_bytes != len(body):
        raise ValueError("it is of another format")
    header = json.loads(body[HEAD.size : HEAD.size + header_bytes])
    kind, shape = _form(header)
    # A copy, which torch may write to.
    features = np.frombuffer(body, kind.newbyteorder("<"), offset=HEAD.size + header_bytes).reshape(shape)
    return header, features.astype(kind)


def _form(header: Any) -> tuple[np.dtype[Any], list[int]]:
    """dtype and shape, which another program may have written. Raises ValueError."""
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    kind, shape = header.get("dtype"), header.get("shape")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise ValueError(f"it holds {kind!r}, not {', '.join(DTYPES)}")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"its shape is {shape!r}")
    return DTYPES[kind], shape
