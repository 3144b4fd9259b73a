"""Inverted lists over the codes of Clip vectors, in FAISS: which rows are worth scoring exactly.

FAISS's own traps are dealt with here: each kind wants another class of parameters; adding to a mapped index aborts the
process; ``IO_FLAG_MMAP`` starts threads at every search to prefetch lists and is five times slower than
``IO_FLAG_MMAP_IFC``; range search on fast-scan codes loses results (it is not used).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from ivsearch.store.index_plan import IndexKind, IndexPlan

TRAINING_ROUNDS = 10


class ClipLists:
    """An IVF index whose labels are row numbers. Searching is thread-safe."""

    def __init__(self, index: faiss.IndexIVF, plan: IndexPlan) -> None:
        self._index = index
        self.plan = plan

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def trained(cls, plan: IndexPlan, sample: NDArray[np.float32], seed: int = 0) -> ClipLists:
        """Empty lists, their centroids found by spherical k-means in ``sample`` (m, dim) unit rows."""
        dim = sample.shape[1]
        quantizer = faiss.IndexFlatIP(dim)
        index: faiss.IndexIVF
        if plan.kind is IndexKind.IVF_SQ8:
            index = faiss.IndexIVFScalarQuantizer(
                quantizer, dim, plan.n_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
            )
        else:
            index = faiss.IndexIVFRaBitQFastScan(quantizer, dim, plan.n_lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.spherical = True
        index.cp.niter = TRAINING_ROUNDS
        index.cp.seed = seed
        index.cp.min_points_per_centroid = 1
        index.train(np.ascontiguousarray(sample))
        return cls(index, plan)

    def fill(self, batches: Callable[[], Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]]) -> None:
        """Adds all that ``batches`` gives, pairs of row numbers (m,) and vectors (m, dim). It may be asked twice and
        must give the same both times. Never on what ``opened`` with ``to_grow`` False gave.

        Lists double their memory as they grow, which in sum takes twice what they hold in the end. So 8-bit lists
        first learn how long they will be; 1-bit codes, which FAISS packs itself, are small enough without.
        """
        if self.plan.kind is not IndexKind.IVF_SQ8:
            for rows, vectors in batches():
                if len(rows):  # for none FAISS raises
                    self._index.add_with_ids(np.ascontiguousarray(vectors), rows)
            return
        nearest = [self._nearest(vectors) for _, vectors in batches()]
        lists = np.concatenate([np.empty(0, np.int32), *nearest])
        self._make_room(np.bincount(lists[lists >= 0], minlength=self.plan.n_lists))
        for (rows, vectors), few in zip(batches(), nearest, strict=True):
            # Named, as FAISS keeps none of them alive.
            vectors, rows, where = np.ascontiguousarray(vectors), np.ascontiguousarray(rows), few.astype(np.int64)
            self._index.add_core(len(rows), faiss.swig_ptr(vectors), faiss.swig_ptr(rows), faiss.swig_ptr(where))

    def _nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
        """Numbers of the lists (m,) that vectors (m, dim) belong in; -1 for one that is not all numbers."""
        lists: NDArray[np.int64] = self._index.quantizer.search(np.ascontiguousarray(vectors), 1)[1]
        return lists[:, 0].astype(np.int32)

    def _make_room(self, counts: NDArray[np.int64]) -> None:
        """For so many more rows in each list: shrunk again, a list keeps the memory."""
        lists = self._index.invlists
        assert lists is not None
        for number, count in enumerate(counts.tolist()):
            held = lists.list_size(number)
            lists.resize(number, held + count)
            lists.resize(number, held)

    def search(
        self, vectors: NDArray[np.float32], k: int, nprobe: int, bits: NDArray[np.uint8] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k rows whose codes fit best, in the ``nprobe`` lists nearest to each of ``vectors`` (m, dim): their
        rough scores and their numbers (m, k), -1 where there are no more. ``bits``: only rows whose bit is set, the
        first row in the lowest bit of the first byte."""
        rabitq = self.plan.kind is IndexKind.IVF_RABITQ
        parameters = faiss.IVFRaBitQSearchParameters() if rabitq else faiss.SearchParametersIVF()
        parameters.nprobe = nprobe
        selector = _selector(bits)  # referred to until the search is over
        parameters.sel = selector
        scores, rows = self._index.search(np.ascontiguousarray(vectors), k, params=parameters)
        return scores, rows

    def write(self, path: Path) -> None:
        faiss.write_index(self._index, str(path))

    @classmethod
    def opened(cls, path: Path, plan: IndexPlan, *, to_grow: bool) -> ClipLists:
        """From a file: mapped, or with ``to_grow`` read, so that rows can be added. Raises RuntimeError when FAISS
        cannot make sense of it, or when it is of another plan."""
        index = faiss.read_index(str(path), 0 if to_grow else faiss.IO_FLAG_MMAP_IFC)
        if not isinstance(index, faiss.IndexIVF) or index.nlist != plan.n_lists:
            raise RuntimeError(f"{path} holds no {plan.n_lists} inverted lists")
        return cls(index, plan)


class FlatRows:
    """Every row scored, from memory: float16 vectors, float32 sums. Searching is thread-safe."""

    def __init__(self, halves: NDArray[np.float16]) -> None:
        """``halves`` (n, dim), copied."""
        dim = halves.shape[1]
        self._index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        if len(halves):
            self._index.add_sa_codes(np.ascontiguousarray(halves).view(np.uint8))

    def search(
        self, vectors: NDArray[np.float32], k: int, bits: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best rows for each of ``vectors`` (m, dim): exact scores and row numbers (m, k), -1 where there are
        no more. ``bits`` as for ClipLists."""
        vectors = np.ascontiguousarray(vectors)
        if bits is None:
            scores, rows = self._index.search(vectors, k)
            return scores, rows
        parameters = faiss.SearchParameters()
        selector = _selector(bits)
        parameters.sel = selector
        scores, rows = self._index.search(vectors, k, params=parameters)
        return scores, rows


def _selector(bits: NDArray[np.uint8] | None) -> faiss.IDSelector | None:
    """FAISS does not copy ``bits``: the caller keeps them."""
    return None if bits is None else faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
