"""The VectorIndex: the FAISS structure over the vectors of all Clips of a Space. The only FAISS of ivsearch.

It is derived: whatever happens to its files, it is built again from the VectorStore and the Catalog. On disk it is
a row of generations, each a file that is never changed once written; ``current.json`` names the one that counts
and holds its checksum (FAISS loads a file with flipped bytes without a word).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Space
from ivsearch.errors import SpaceMismatch
from ivsearch.store.catalog import ClipStamp
from ivsearch.store.files import digest_of, publish, replace_file, set_aside, sync_file

CURRENT = "current.json"


@dataclass(frozen=True, slots=True)
class Generation:
    """What ``current.json`` says."""

    file: str
    digest: str
    stamp: ClipStamp


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Clips found for one query vector, best first: ``clip_ids`` (k,) int64, ``scores`` (k,) float32 cosines."""

    clip_ids: NDArray[np.int64]
    scores: NDArray[np.float32]


class VectorIndex:
    """Exact search by inner product of unit vectors, with Clip ids as labels."""

    def __init__(self, space: Space, index: faiss.Index | None = None) -> None:
        self.space = space
        self._index = index if index is not None else faiss.IndexIDMap2(faiss.IndexFlatIP(space.dim))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def clip_ids(self) -> NDArray[np.int64]:
        """(n,) int64, in no particular order."""
        return faiss.vector_to_array(self._index.id_map)  # type: ignore[attr-defined]

    def add(self, clip_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """``vectors`` (n, dim) float32 unit rows. Raises SpaceMismatch when the width is another."""
        self._check(vectors)
        if len(vectors):
            self._index.add_with_ids(np.ascontiguousarray(vectors), clip_ids)

    def clear(self) -> None:
        self._index.reset()

    def remove(self, clip_ids: NDArray[np.int64]) -> None:
        if len(clip_ids):
            self._index.remove_ids(faiss.IDSelectorBatch(clip_ids))

    def search(self, vector: NDArray[np.float32], k: int, among: Sequence[int] | None = None) -> Found:
        """The k Clips most similar to ``vector`` (dim,), optionally only among these ids. Fewer if there are fewer."""
        self._check(vector[None])
        parameters = None
        if among is not None:
            allowed = np.asarray(among, np.int64)
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(allowed))  # type: ignore[call-arg]
            k = min(k, len(allowed))
        k = min(k, len(self))
        if k == 0:
            return Found(np.empty(0, np.int64), np.empty(0, np.float32))
        scores, ids = self._index.search(np.ascontiguousarray(vector[None], np.float32), k, params=parameters)
        found = ids[0] >= 0
        return Found(ids[0][found], scores[0][found])

    def _check(self, vectors: NDArray[np.float32]) -> None:
        if vectors.shape[1] != self.space.dim:
            raise SpaceMismatch(
                f"vectors of {vectors.shape[1]} dimensions do not belong in the space {self.space.key} "
                f"of {self.space.dim}"
            )

    # ---- on disk ----

    def save(self, folder: Path, stamp: ClipStamp) -> None:
        """Writes a new generation and makes it current; the one before is deleted after that."""
        folder = folder / self.space.key
        folder.mkdir(parents=True, exist_ok=True)
        before = _current(folder)
        number = int(before.file.split("-")[1].removesuffix(".faiss")) + 1 if before else 1
        path = folder / f"generation-{number:06d}.faiss"
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        faiss.write_index(self._index, str(temporary))
        sync_file(temporary)
        publish(temporary, path)
        generation = Generation(path.name, digest_of(path), stamp)
        replace_file(folder / CURRENT, (json.dumps(asdict(generation), indent=2) + "\n").encode())
        for old in folder.iterdir():
            if old.name.endswith(".tmp") or (old.suffix == ".faiss" and old.name != path.name):
                old.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, space: Space, *, mend: bool) -> tuple[VectorIndex, ClipStamp | None]:
        """The current generation and its stamp; an empty index and None when there is none that is sound.

        With ``mend`` (for the one writer only) a damaged file is set aside.
        """
        folder = folder / space.key
        if not check_generation(folder):
            generation = _current(folder)
            if generation is None:
                return cls(space), None
            try:
                return cls(space, faiss.read_index(str(folder / generation.file))), generation.stamp
            except RuntimeError:
                # A writer has just replaced it: the caller fills an empty one from the VectorStore.
                return cls(space), None
        if mend:
            for path in [*folder.glob(CURRENT), *folder.glob("*.faiss")]:
                set_aside(path)
        return cls(space), None


def check_generation(folder: Path) -> str:
    """What is wrong with the current generation in ``folder``; empty when nothing is, or when there is none."""
    try:
        generation = _current(folder)
    except (ValueError, KeyError, TypeError) as error:
        return f"{folder / CURRENT} is damaged: {error!r}"
    if generation is None:
        return ""
    path = folder / generation.file
    try:
        sound = digest_of(path) == generation.digest
    except FileNotFoundError:
        return f"{path} is missing"
    return "" if sound else f"{path} does not fit its checksum"


def _current(folder: Path) -> Generation | None:
    path = folder / CURRENT
    if not path.exists():
        return None
    table = json.loads(path.read_bytes())
    return Generation(table["file"], table["digest"], _stamp(table["stamp"]))


def _stamp(table: dict) -> ClipStamp:
    """Of an index saved before changes were counted, a stamp whose changes no catalog can tell."""
    return ClipStamp(table["catalog_id"], table.get("version", -1), table["last_id"])
