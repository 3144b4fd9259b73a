"""The vector index at a million and ten million clips: recall, speed, memory, filters; against bare FAISS and others.

Synthetic vectors: unit vectors in clusters of uneven size, in a subspace of 128 dimensions whose spectrum decays, with
a little noise in all others. Queries of two kinds: ``in``, more of the same; ``text``, as texts lie to pictures in the
encoders' spaces: all moved by one offset as long as the vectors themselves, and noise of 0.8 of that. The truth is
exact search in float32, batch by batch while the vectors are made.

Two steps, so that the second can run under a limit of its own:

  vector_search.py build  --n 1000000 --dim 768 --folder DIR --budget 4GB
  vector_search.py search --folder DIR --json out.json [--data-limit 6GB] [--flat] [--usearch]

Needs numpy, faiss and sqlalchemy beside ivsearch itself; usearch where it is to be compared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import faiss
import numpy as np

from ivsearch.domain import Space
from ivsearch.store.changes import ClipStamp
from ivsearch.store.clip_lists import ClipLists
from ivsearch.store.clip_rows import ClipRows, rows_in_memory
from ivsearch.store.generation import check_generation
from ivsearch.store.index_plan import IndexKind
from ivsearch.store.index_writer import Wishes, build
from ivsearch.store.vector_index import MANY_K, MANY_POWER, VectorIndex

CHUNK = 50_000
DEEP = 400  # as many clips as a search takes from the index
QUERIES = 200
SHARES = (0.001, 0.01, 0.1, 0.5)
KINDS = ("in", "text")
STAMP = ClipStamp("bench", 1, 1)
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def size_bytes(text: str) -> int:
    number = text.rstrip("KMGIBkmgib")
    return int(float(number) * UNITS[text[len(number) :].upper()])


class World:
    """Where the vectors come from."""

    def __init__(self, n: int, dim: int) -> None:
        rng = np.random.default_rng(0)
        self.dim, self.rank = dim, min(128, dim // 2)
        self.basis = np.linalg.qr(rng.standard_normal((dim, self.rank)))[0].T.astype(np.float32)
        spectrum = np.arange(1, self.rank + 1) ** -0.4
        self.spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
        clusters = max(64, n // 250)
        weights = rng.pareto(1.5, clusters) + 0.2
        self.weights = np.cumsum(weights / weights.sum())
        self.centres = (rng.standard_normal((clusters, self.rank), np.float32) * self.spectrum) @ self.basis
        offset = rng.standard_normal(dim).astype(np.float32)
        self.offset = offset / np.linalg.norm(offset)

    def vectors(self, n: int, seed: int) -> np.ndarray:
        """(n, dim) float32 unit rows, rounded to float16 as an index keeps them."""
        rng = np.random.default_rng([1, seed])
        which = np.minimum(np.searchsorted(self.weights, rng.random(n)), len(self.weights) - 1)
        rows = self.centres[which] + 0.6 * self._within(rng, n)
        rows += 0.15 / self.dim**0.5 * rng.standard_normal((n, self.dim), np.float32)
        return _unit(rows).astype(np.float16).astype(np.float32)

    def texts(self, n: int, seed: int) -> np.ndarray:
        """(n, dim) float32 unit rows."""
        rng = np.random.default_rng([2, seed])
        noise = self._within(rng, n) + 0.7 * _unit(rng.standard_normal((n, self.dim), np.float32))
        return _unit(self.vectors(n, seed) + self.offset + 0.8 * _unit(noise))

    def queries(self, kind: str, n: int) -> np.ndarray:
        return self.vectors(n, 1_000_001) if kind == "in" else self.texts(n, 1_000_002)

    def _within(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return (rng.standard_normal((n, self.rank), np.float32) * self.spectrum) @ self.basis


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def chunks(world: World, n: int, threads: int) -> Iterator[np.ndarray]:
    """All vectors in order, made ahead by a few threads."""
    sizes = [min(CHUNK, n - start) for start in range(0, n, CHUNK)]
    with ThreadPoolExecutor(max(1, threads // 2)) as pool:
        waiting = iter(range(len(sizes)))
        ahead = [pool.submit(world.vectors, sizes[i], i) for i in islice(waiting, threads)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(world.vectors, sizes[i], i) for i in islice(waiting, 1)]


def allowed(n: int, share: float) -> np.ndarray:
    """Row numbers of a random filter, the same for all queries."""
    return np.sort(np.random.default_rng([3, int(share * 1000)]).choice(n, int(n * share), replace=False))


class Truth:
    """The exact best rows of each query: over all, and within each filter; gathered chunk by chunk."""

    def __init__(self, world: World, n: int) -> None:
        self.queries = {kind: world.queries(kind, QUERIES) for kind in KINDS}
        self.filters = {share: allowed(n, share) for share in SHARES}
        self.best: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.seconds = 0.0

    def add(self, start: int, vectors: np.ndarray) -> None:
        began = time.perf_counter()
        numbers = np.arange(start, start + len(vectors))
        for kind, queries in self.queries.items():
            self._merge(kind, queries, vectors, numbers, DEEP)
            for share, rows in self.filters.items():
                here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(vectors))]
                self._merge(f"{kind} {share}", queries, vectors[here - start], here, 10)
        self.seconds += time.perf_counter() - began

    def _merge(self, name: str, queries: np.ndarray, vectors: np.ndarray, numbers: np.ndarray, k: int) -> None:
        if not len(vectors):
            return
        scores, at = faiss.knn(queries, vectors, min(k, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
        rows = numbers[at]
        if name in self.best:
            scores = np.concatenate([self.best[name][0], scores], axis=1)
            rows = np.concatenate([self.best[name][1], rows], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        self.best[name] = (np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))


def build_step(options: argparse.Namespace) -> None:
    world = World(options.n, options.dim)
    truth = Truth(world, options.n)
    space = Space("bench", "0" * 16, options.dim)
    options.folder.mkdir(parents=True, exist_ok=True)
    made_s = 0.0

    def batches() -> Iterator[ClipRows]:
        nonlocal made_s
        start, began = 0, time.perf_counter()
        for vectors in chunks(world, options.n, options.threads):
            truth.add(start, vectors)
            made_s += time.perf_counter() - began
            yield rows_in_memory(np.arange(start, start + len(vectors)), vectors)
            start, began = start + len(vectors), time.perf_counter()

    lines: list[tuple[float, str]] = []
    began = time.perf_counter()

    def tell(line: str) -> None:
        lines.append((round(time.perf_counter() - began, 1), line))
        print(f"{lines[-1][0]:8.1f} s  {line}", flush=True)

    kind = IndexKind(options.kind) if options.kind else None
    wishes = Wishes(size_bytes(options.budget), kind=kind, tell=tell)
    build(options.folder / space.key, options.dim, batches(), lambda: STAMP, wishes)
    total_s = time.perf_counter() - began
    np.savez(options.folder / "truth.npz", **{name.replace(" ", "_"): rows for name, (_, rows) in truth.best.items()})
    record = {
        "n": options.n,
        "dim": options.dim,
        "budget": options.budget,
        "machine": machine(options.threads),
        "build_s": round(total_s - made_s, 1),
        "of that before training (rows written)": round(lines[0][0] - made_s, 1) if lines else None,
        "making vectors and truth_s": round(made_s, 1),
        "steps": lines,
        "memory while building": memory(),
    }
    (options.folder / "build.json").write_text(json.dumps(record, indent=2))
    print(json.dumps(record, indent=2))


def machine(threads: int) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    return f"{os.cpu_count()} cores of {cpu}, {threads} threads, FAISS {faiss.__version__}"


def memory() -> dict[str, float]:
    """Of this process, GB. ``peak`` counts mapped files that are in memory anyway; ``own`` does not."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"peak": "VmHWM", "own now": "RssAnon", "mapped files now": "RssFile"}
    return {name: round(int(status[key].split()[0]) / 1e6, 2) for name, key in names.items()}


def timed(run: Callable[[np.ndarray], object], queries: np.ndarray, limit_s: float = 6.0) -> float:
    """Queries a second, one after another; the best of three rounds, each cut off in time."""
    best = 0.0
    for _ in range(3):
        began, done = time.perf_counter(), 0
        for query in queries:
            run(query[None])
            done += 1
            if time.perf_counter() - began > limit_s / 3:
                break
        best = max(best, done / (time.perf_counter() - began))
    return round(best, 1)


def in_turn(runs: list[Callable[[np.ndarray], object]], queries: np.ndarray) -> tuple[list[float], list[float]]:
    """Milliseconds a query of each, by the clock and of processor time, taken in turn query by query, so that all meet
    the same machine: of three rounds, the median query's best. On a machine that does other things besides, the clock
    counts those, too."""
    times = np.full((2, 3, len(runs), len(queries)), np.inf)
    for round_ in range(3):
        for i, query in enumerate(queries):
            for which, run in enumerate(runs):
                began, used = time.perf_counter(), time.process_time()
                run(query[None])
                times[:, round_, which, i] = time.perf_counter() - began, time.process_time() - used
    clock, processor = (np.round(np.median(each.min(axis=0), axis=1) * 1e3, 3).tolist() for each in times)
    return clock, processor


def batched(run: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    many = np.concatenate([queries] * 3)
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        run(many)
        rates.append(len(many) / (time.perf_counter() - began))
    return round(max(rates), 1)


def recall(found: list[np.ndarray], truth: np.ndarray, k: int) -> float:
    hits = [len(np.intersect1d(rows[:k], best[:k])) for rows, best in zip(found, truth, strict=True)]
    return round(float(np.mean(hits)) / min(k, truth.shape[1]), 4)


def search_step(options: argparse.Namespace) -> None:
    if options.data_limit:
        limit = size_bytes(options.data_limit)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    record = json.loads((options.folder / "build.json").read_text())
    n, dim = record["n"], record["dim"]
    world, truth = World(n, dim), np.load(options.folder / "truth.npz")
    queries = {kind: world.queries(kind, QUERIES) for kind in KINDS}
    del world
    space = Space("bench", "0" * 16, dim)
    before = memory()
    began = time.perf_counter()
    index, stamp = VectorIndex.load(options.folder, space)
    opened_s = time.perf_counter() - began
    assert stamp == STAMP and len(index) == n
    began = time.perf_counter()
    index.search(queries["text"][0], DEEP)
    first_s = time.perf_counter() - began
    generation = index.generation
    assert generation is not None
    record |= {
        "search machine": machine(options.threads),
        "kind": index.kind.value,
        "plan": str(generation.lists and generation.lists.plan),
        "bytes a vector, codes": round(generation.lists.size_bytes / n, 1) if generation.lists else 2 * dim + 16,
        "bytes a vector, on disk": round(sum(p.stat().st_size for p in (options.folder / space.key).iterdir()) / n, 1),
        "open_s": round(opened_s, 3),
        "first search_s": round(first_s, 3),
        "data limit": options.data_limit or None,
        "memory before opening": before,
    }
    rows = []
    for kind in KINDS:
        for k in (10, DEEP):
            found = [each.clip_ids for each in index.search_many(queries[kind], k)]
            ours = timed(lambda q, k=k: index.search(q[0], k), queries[kind])
            row = {"queries": kind, "k": k, "recall": recall(found, truth[kind], k), "recall of 10 in k": None}
            row["recall of 10 in k"] = round(
                float(np.mean([np.isin(truth[kind][i, :10], found[i]).mean() for i in range(QUERIES)])), 4
            )
            row |= {"single_per_s": ours, "batch_per_s": batched(lambda q, k=k: index.search_many(q, k), queries[kind])}
            rows.append(row)
            print(row, flush=True)
    record["ours"] = rows
    record["memory after searching"] = memory()
    filters = []
    for kind in KINDS:
        for share in SHARES:
            among = allowed(n, share)
            found = [index.search(query, 10, among).clip_ids for query in queries[kind]]
            rate = timed(lambda q, among=among: index.search(q[0], 10, among), queries[kind])
            filters.append(
                {
                    "queries": kind,
                    "share": share,
                    "recall@10": recall(found, truth[f"{kind}_{share}"], 10),
                    "per_s": rate,
                }
            )
            print(filters[-1], flush=True)
    record["filters"] = filters
    record["memory after filters"] = memory()
    if options.bare:
        record["bare FAISS"] = bare(index, queries, truth)
    if options.flat:
        record["flat scan"] = flat(index, queries)
    if options.usearch:
        record["usearch"] = usearch(index, queries, truth, options.threads)
    if options.verify:
        began = time.perf_counter()
        assert check_generation(options.folder / space.key) == ""
        record["verify_s"] = round(time.perf_counter() - began, 1)
    record["memory at the end"] = memory()
    text = json.dumps(record, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def bare(index: VectorIndex, queries: dict[str, np.ndarray], truth: np.lib.npyio.NpzFile) -> list[dict]:
    """The same inverted lists through FAISS alone, and re-ranked by FAISS's own IndexRefine over float16 in memory.
    Each is timed in turn with ours, so that both meet the same machine."""
    part = index.parts[0]
    assert isinstance(part.searched, ClipLists)
    lists, plan = part.searched._index, part.searched.plan
    exact = faiss.IndexScalarQuantizer(index.space.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(part.rows), CHUNK):
        exact.add_sa_codes(part.rows.between(start, start + CHUNK).halves().view(np.uint8))
    refine = faiss.IndexRefine(lists, exact)
    results = []
    for kind in KINDS:
        for k in (10, DEEP):
            rabitq = plan.kind is IndexKind.IVF_RABITQ
            inner = faiss.IVFRaBitQSearchParameters() if rabitq else faiss.SearchParametersIVF()
            inner.nprobe = round(plan.nprobe * max(1.0, (k / MANY_K) ** MANY_POWER))
            outer = faiss.IndexRefineSearchParameters(k_factor=plan.depth(k) / k, base_index_params=inner)
            depth = plan.depth(k)
            one = queries[kind]
            (ours, refined, alone), used = in_turn(
                [
                    lambda q, k=k: index.search(q[0], k),
                    lambda q, k=k, p=outer: refine.search(q, k, params=p),
                    lambda q, d=depth, p=inner: lists.search(q, d, params=p),
                ],
                one,
            )
            rows = refine.search(one, k, params=outer)[1]
            results.append(
                {
                    "queries": kind,
                    "k": k,
                    "ours_ms": ours,
                    "IndexRefine_ms": refined,
                    "candidates only_ms": alone,
                    "IndexRefine recall": recall(list(rows), truth[kind], k),
                    "time, ours / IndexRefine": round(ours / refined, 3),
                    "time, ours / candidates only": round(ours / alone, 3),
                    "processor time, ours / IndexRefine": round(used[0] / used[1], 3),
                    "processor time, ours / candidates only": round(used[0] / used[2], 3),
                    "batch_per_s, IndexRefine": batched(lambda q, k=k, p=outer: refine.search(q, k, params=p), one),
                }
            )
            print(results[-1], flush=True)
    return results


def _all_vectors(index: VectorIndex) -> Iterator[np.ndarray]:
    for part in index.parts:
        for start in range(0, len(part.rows), CHUNK):
            yield part.rows.between(start, start + CHUNK).halves().astype(np.float32)


def flat(index: VectorIndex, queries: dict[str, np.ndarray]) -> dict:
    exact = faiss.IndexFlatIP(index.space.dim)
    for vectors in _all_vectors(index):
        exact.add(vectors)
    return {
        "single_per_s": timed(lambda q: exact.search(q, 10), queries["in"][:30]),
        "batch_per_s": batched(lambda q: exact.search(q, 10), queries["in"]),
        "bytes a vector": 4 * index.space.dim,
    }


def usearch(
    index: VectorIndex, queries: dict[str, np.ndarray], truth: np.lib.npyio.NpzFile, threads: int
) -> dict | str:
    try:
        engine = importlib.import_module("usearch.index")
    except ImportError:
        return "not installed"
    began = time.perf_counter()
    graph = engine.Index(ndim=index.space.dim, metric="ip", dtype="i8", connectivity=16, expansion_search=128)
    start = 0
    for vectors in _all_vectors(index):
        graph.add(np.arange(start, start + len(vectors)), vectors, threads=threads)
        start += len(vectors)
    table: dict = {"dtype": "i8", "build_s": round(time.perf_counter() - began, 1), "bytes a vector": None}
    table["bytes a vector"] = round(graph.memory_usage / start, 1)
    for kind in KINDS:
        found = [graph.search(query, 10, threads=1).keys for query in queries[kind]]
        table[f"{kind} recall@10"] = recall(found, truth[kind], 10)
        table[f"{kind} single_per_s"] = timed(lambda q: graph.search(q[0], 10, threads=1), queries[kind])
        table[f"{kind} batch_per_s"] = batched(lambda q: graph.search(q, 10, threads=threads), queries[kind])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["build", "search", "both"])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--folder", type=Path, required=True, help="where the index and the truth go")
    parser.add_argument("--budget", default="0", help="memory for the codes, as 6GB (default: as settings would)")
    parser.add_argument("--kind", default="", help="flat, ivf-sq8 or ivf-rabitq (default: as planned)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--data-limit", default="", help="RLIMIT_DATA of the search: memory of its own, as 6GB")
    parser.add_argument("--bare", action="store_true", help="compare with FAISS alone (float16 vectors in memory)")
    parser.add_argument("--flat", action="store_true", help="compare with a flat scan (float32 vectors in memory)")
    parser.add_argument("--usearch", action="store_true", help="compare with usearch, where it is installed")
    parser.add_argument("--verify", action="store_true", help="time reading and checking everything, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    if options.step in ("build", "both"):
        build_step(options)
    if options.step in ("search", "both"):
        search_step(options)


if __name__ == "__main__":
    main()
