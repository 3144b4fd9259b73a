"""Is every byte of a model's files as published? Headers, sizes and digests. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ivsearch.errors import WeightsError
from ivsearch.models.hub import needed
from ivsearch.models.layout import STEMS, SUFFIXES, check_file, read_index, stays_inside

SUMS = "SHA256SUMS"
SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
SHA256 = re.compile(r"[0-9a-f]{64}")
GIT_BLOB = re.compile(r"[0-9a-f]{40}")
CHUNK_BYTES = 1 << 22


# Told of every stretch read: the file's name and a number of bytes.
OnRead = Callable[[str, int], None]


def _unheard(file: str, n_bytes: int) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file. ``digest`` is empty where it cannot be read, ``expected`` where there is nothing to compare with.

    Both are hexadecimal: sha256, or git's sha1 of a blob where the hub knows only that (its small files).
    ``fault`` says what is wrong otherwise.
    """

    file: str
    size_bytes: int
    digest: str
    expected: str
    fault: str

    @property
    def is_sound(self) -> bool:
        return not self.fault and self.expected in ("", self.digest)


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """``compared_with``: where the expected digests are from; empty when there are none."""

    folder: Path
    compared_with: str
    files: tuple[FileCheck, ...]

    @property
    def is_sound(self) -> bool:
        return all(file.is_sound for file in self.files)


def check_folder(folder: Path, missing: Iterable[str] = (), on_read: OnRead = _unheard) -> FolderCheck:
    """Reads every byte of the files that loading needs, and of those that ``SHA256SUMS`` lists.

    Digests are compared with ``SHA256SUMS`` in the folder; without one, with what the hub said at the download: the
    names of the cache's blobs, or the notes beside a ``hf download --local-dir``. ``missing`` are names known to
    belong there. What is wrong is in the answer; raises WeightsError for a ``SHA256SUMS`` that cannot be read.
    """
    compared_with, expected = _expected(folder)
    tensors, faults = _indexed(folder)
    names = {*needed(path.name for path in folder.iterdir()), *missing, *tensors, *faults}
    names |= set(expected) if compared_with == SUMS else set()
    if not any(Path(name).suffix in SUFFIXES for name in names):
        names.add(STEMS[0])
    files = []
    for name in sorted(names):
        fault = faults.get(name) or _fault(folder / name, tensors.get(name, set()))
        files.append(_check_bytes(folder, name, expected.get(name, ""), fault, on_read))
    return FolderCheck(folder, compared_with, tuple(files))


def _check_bytes(folder: Path, name: str, expected: str, fault: str, on_read: OnRead) -> FileCheck:
    path = folder / name
    if not path.is_file():
        return FileCheck(name, 0, "", expected, fault)
    try:
        return FileCheck(name, path.stat().st_size, _digest(path, expected, on_read), expected, fault)
    except OSError as error:
        return FileCheck(name, path.stat().st_size, "", expected, fault or f"{path} cannot be read ({error.strerror})")


def bytes_ahead(folder: Path) -> int:
    """About how many bytes ``check_folder`` will read, for a progress bar."""
    names = needed(path.name for path in folder.iterdir())
    return sum((folder / name).stat().st_size for name in names if (folder / name).is_file())


def write_sums(check: FolderCheck) -> Path:
    """Records the digests in ``SHA256SUMS``, as ``sha256sum`` writes and ``sha256sum -c`` reads it."""
    path = check.folder / SUMS
    lines = []
    for file in check.files:
        sha256 = file.digest if SHA256.fullmatch(file.digest) else _digest(check.folder / file.file, "", _unheard)
        lines.append(f"{sha256}  {file.file}\n")
    temporary = path.with_name(f"{SUMS}.{os.getpid()}.tmp")
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(path)
    return path


def _expected(folder: Path) -> tuple[str, Mapping[str, str]]:
    if (folder / SUMS).exists():
        return SUMS, _read_sums(folder / SUMS)
    told = {path.name: _told_by_hub(path) for path in folder.iterdir()}
    known = {name: digest for name, digest in told.items() if digest}
    return ("what the hub said at the download" if known else ""), known


def _read_sums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): write it anew with sha256sum") from error
    sums = {}
    for number, line in enumerate(lines, 1):
        match = SUMS_LINE.fullmatch(line)
        if match and stays_inside(match[2]):
            sums[match[2].removeprefix("./")] = match[1].lower()
        elif line.strip() and not line.startswith("#"):
            raise WeightsError(
                f"{path}, line {number}: {line!r} is not a digest and the name of a file of this folder; "
                "write it anew with sha256sum"
            )
    return sums


def _told_by_hub(path: Path) -> str:
    """The digest the hub gave as the file's ETag; empty where none is known."""
    if path.is_symlink():
        etag = path.readlink().name
    else:
        # `hf download --local-dir` notes the commit, the ETag and the time, a line each.
        note = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
        lines = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
        etag = lines[1] if len(lines) > 1 else ""
    return etag if SHA256.fullmatch(etag) or GIT_BLOB.fullmatch(etag) else ""


def _indexed(folder: Path) -> tuple[dict[str, set[str]], dict[str, str]]:
    """By file: the tensors an index says it holds; and what is wrong with an index itself."""
    for stem in STEMS:
        index = folder / f"{stem}.index.json"
        if (folder / stem).exists() or not index.exists():
            continue
        try:
            weight_map = read_index(index)
        except WeightsError as error:
            return {}, {index.name: str(error)}
        tensors: dict[str, set[str]] = {}
        for tensor, name in weight_map.items():
            tensors.setdefault(name, set()).add(tensor)
        return tensors, {}
    return {}, {}


def _fault(path: Path, tensors: set[str]) -> str:
    """What is wrong with a file, its digest aside; ``tensors`` must be in it."""
    try:
        check_file(path)
        if path.suffix == ".safetensors":
            _check_safetensors(path, tensors)
        elif path.suffix == ".bin":
            _check_pickled(path)
    except WeightsError as error:
        return str(error)
    return ""


def _check_safetensors(path: Path, tensors: set[str]) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            held = set(file.keys())
    except SafetensorError as error:
        raise WeightsError(f"{path} is cut short or damaged ({error}): download it again") from error
    if lacking := sorted(tensors - held):
        raise WeightsError(f"{path} lacks {lacking[0]}, which the index says it holds: download both again")


def _check_pickled(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return  # As torch wrote before 1.6: nothing in it says how long it should be.
    try:
        zipfile.ZipFile(path).close()
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path} is cut short or damaged ({error}): download it again") from error


def _digest(path: Path, like: str, on_read: OnRead) -> str:
    """sha256, or git's sha1 of a blob where ``like`` is one."""
    if GIT_BLOB.fullmatch(like):
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            on_read(path.name, len(chunk))
    return digest.hexdigest()
