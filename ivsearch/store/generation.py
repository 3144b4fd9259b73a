"""What an index consists of on disk, by ``current.json``: which files, how much of them counts, what they must be like.

Files are never changed once named there, but for those of rows, which grow at their ends (``clip_rows``). A new
generation is written beside the old one and becomes the one that counts when ``current.json`` is replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Space
from ivsearch.store.changes import ClipStamp
from ivsearch.store.clip_rows import ids_file, mapped, rows_file
from ivsearch.store.files import publish, replace_file, sealed, set_aside, sync_file, unsealed
from ivsearch.store.index_plan import IndexKind, IndexPlan, memory_bytes

CURRENT = "current.json"
COPY = "current.copy.json"
"""The same once more: without it nobody knows what the other files are, and all would have to be built anew."""
FORMAT = 2
# The first format had no checksum: it is known by what it had, so that a flipped bit makes no old file of a new one.
OLD_KEYS, NEW_KEYS = {"file", "digest", "stamp"}, {"format", "checksum"}
BLOCK_BYTES = 4 << 20
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class RowsFile:
    """``name`` without suffix; its first ``n`` rows count."""

    name: str
    n: int


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A small file and the BLAKE2b of all of it."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class ListsFile:
    """Inverted lists over the first ``n`` rows. ``trained_for`` rows their centroids were made; ``pinned``: their kind
    was asked for by name; ``budget_bytes`` was asked for (0: the machine's share). ``blocks``: the digests of every
    4 MiB, so that a part can be checked without the whole."""

    name: str
    n: int
    trained_for: int
    pinned: bool
    budget_bytes: int
    plan: IndexPlan
    size_bytes: int
    blocks: WholeFile


@dataclass(frozen=True, slots=True)
class Generation:
    """All that ``current.json`` says. ``removed``: numbers of rows that no longer count (int64)."""

    number: int
    dim: int
    rows: RowsFile
    removed: WholeFile | None
    lists: ListsFile | None
    stamp: ClipStamp

    def files(self) -> set[str]:
        """Names of the files it needs, without ``current.json``."""
        names = {ids_file(Path(self.rows.name)).name, rows_file(Path(self.rows.name)).name}
        if self.removed:
            names.add(self.removed.name)
        if self.lists:
            names |= {self.lists.name, self.lists.blocks.name}
        return names


@dataclass(frozen=True, slots=True)
class IndexShape:
    """What the index of a Space is like. ``code_bytes``: what searches keep in memory; the rows stay on disk."""

    space: Space
    kind: IndexKind
    clips: int
    n_lists: int
    nprobe: int
    code_bytes: int
    disk_bytes: int


def shape_of(folder: Path, space: Space) -> IndexShape:
    """Of the index in ``folder``. Raises ValueError when its table is damaged, FileNotFoundError without one."""
    generation = read_current(folder)
    if generation is None:
        raise FileNotFoundError(f"there is no index in {folder}")
    lists = generation.lists
    plan = lists.plan if lists else IndexPlan(IndexKind.FLAT)
    listed = lists.n if lists else 0
    tail_bytes = memory_bytes(generation.rows.n - listed, generation.dim, IndexKind.FLAT)
    return IndexShape(
        space,
        plan.kind,
        generation.rows.n - len(removed_rows(folder, generation)),
        plan.n_lists,
        plan.nprobe,
        tail_bytes + (lists.size_bytes if lists else 0),
        sum((folder / name).stat().st_size for name in generation.files()),
    )


def read_current(folder: Path) -> Generation | None:
    """Of the table, or where that is gone or damaged, of its copy. None when there is none, or one of an older
    ivsearch. Raises ValueError when it is damaged and its copy no better."""
    try:
        return _read(folder / CURRENT) or _read_copy(folder)
    except ValueError:
        if copy := _read_copy(folder):
            return copy
        raise


def check_tables(folder: Path) -> Iterator[str]:
    """What is wrong with the table and its copy."""
    for name, other in ((CURRENT, COPY), (COPY, CURRENT)):
        try:
            # Indexes of versions that wrote no copy are no worse.
            if _read(folder / name) is None and name == CURRENT and (folder / other).exists():
                yield f"{folder / name} is missing"
        except ValueError as error:
            yield str(error)


def mend_tables(folder: Path) -> bool:
    """Writes the table and its copy anew from the one that is sound, where only one is, and sets the other aside.
    Whether that was so. Only for the one writer."""
    bad = {name for name in (CURRENT, COPY) if _is_damaged(folder / name)}
    if len(bad) == 2 or not any(check_tables(folder)) or (generation := read_current(folder)) is None:
        return False
    for name in bad:
        set_aside(folder / name)
    write_current(folder, generation)
    return True


def _is_damaged(path: Path) -> bool:
    try:
        _read(path)
    except ValueError:
        return True
    return False


def _read_copy(folder: Path) -> Generation | None:
    try:
        return _read(folder / COPY)
    except ValueError:
        return None


def _read(path: Path) -> Generation | None:
    try:
        content = path.read_bytes()
        written = json.loads(content)
        if written.keys() >= OLD_KEYS and NEW_KEYS.isdisjoint(written):
            return None
        if "checksum" not in written:
            raise ValueError("it has no checksum")
        return _generation(unsealed(content))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def write_current(folder: Path, generation: Generation) -> None:
    """Makes ``generation`` the one that counts, and deletes what only the one before needed. The copy comes first:
    whatever stops us, one of the two is whole, and what it names is there."""
    table = {"format": FORMAT, **asdict(generation)}
    for name in (COPY, CURRENT):
        replace_file(folder / name, sealed(table))
    needed = {CURRENT, COPY, *generation.files()}
    for path in folder.iterdir():
        if path.is_file() and path.name not in needed and ".damaged" not in path.name:
            path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> WholeFile:
    replace_file(path, content)
    return WholeFile(path.name, hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest())


def publish_lists(temporary: Path, path: Path) -> tuple[int, WholeFile]:
    """Gives a file that was just written its name and its digests. Returns its size and where they are."""
    sync_file(temporary)
    blocks = write_whole(path.with_suffix(".blocks"), b"".join(_block_digests(temporary)))
    publish(temporary, path)
    return path.stat().st_size, blocks


def removed_rows(folder: Path, generation: Generation) -> NDArray[np.int64]:
    """Sorted row numbers. Raises ValueError when the file does not fit its checksum."""
    if generation.removed is None:
        return np.empty(0, np.int64)
    return np.frombuffer(_read_whole(folder, generation.removed), np.int64)


def check_lists_head(folder: Path, lists: ListsFile, dim: int) -> None:
    """A quick look for whoever opens them: the size, and the digests of the centroids and of the last block.

    A flip in the lists themselves costs a candidate at worst, since every row is scored by its own vector; only
    ``check_generation`` reads them all. Raises ValueError.
    """
    path = folder / lists.name
    if path.stat().st_size != lists.size_bytes:
        raise ValueError(f"{path} is not of its size")
    wanted = _digests(_read_whole(folder, lists.blocks))
    head = min(len(wanted), 1 + lists.plan.n_lists * dim * 4 // BLOCK_BYTES)
    with path.open("rb") as file:
        for block in sorted({*range(head), len(wanted) - 1}):
            file.seek(block * BLOCK_BYTES)
            if _digest(file.read(BLOCK_BYTES)) != wanted[block]:
                raise ValueError(f"{path} does not fit its checksum")


def check_generation(folder: Path) -> str:
    """Reads every byte of the index in ``folder``: what is wrong with it, in words; empty when nothing is, or when
    there is none."""
    try:
        for complaint in check_tables(folder):
            return complaint
        generation = read_current(folder)
        if generation is None:
            return ""
        removed = removed_rows(folder, generation)
        path = folder / generation.rows.name
        rows = mapped(path, generation.rows.n, generation.dim)
        for start, taken in rows.batches():
            bad = np.setdiff1d(start + np.flatnonzero(~taken.sound), removed)
            if len(bad):
                return f"{rows_file(path)} does not fit its checksums, from row {bad[0]} on"
        if generation.lists:
            lists = folder / generation.lists.name
            if lists.stat().st_size != generation.lists.size_bytes:
                return f"{lists} is not of its size"
            if list(_block_digests(lists)) != _digests(_read_whole(folder, generation.lists.blocks)):
                return f"{lists} does not fit its checksum"
    except FileNotFoundError as error:
        return f"{error.filename} is missing"
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _generation(table: dict) -> Generation:
    lists = table["lists"]
    return Generation(
        number=table["number"],
        dim=table["dim"],
        rows=RowsFile(**table["rows"]),
        removed=WholeFile(**table["removed"]) if table["removed"] else None,
        lists=ListsFile(**{**lists, "plan": _plan(lists["plan"]), "blocks": WholeFile(**lists["blocks"])})
        if lists
        else None,
        stamp=ClipStamp(**table["stamp"]),
    )


def _plan(table: dict) -> IndexPlan:
    return IndexPlan(**{**table, "kind": IndexKind(table["kind"])})


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _block_digests(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield _digest(block)


def _digests(content: bytes) -> list[bytes]:
    return [content[at : at + DIGEST_BYTES] for at in range(0, len(content), DIGEST_BYTES)]


def _read_whole(folder: Path, file: WholeFile) -> bytes:
    path = folder / file.name
    content = path.read_bytes()
    if hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest() != file.digest:
        raise ValueError(f"{path} does not fit its checksum")
    return content
