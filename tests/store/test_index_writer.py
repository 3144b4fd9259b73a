"""Generations on disk: growing, folding, training anew, being damaged, being read while they are written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import ClipStamp
from ivsearch.store.clip_lists import ClipLists
from ivsearch.store.generation import COPY, CURRENT, check_generation, mend_tables, read_current
from ivsearch.store.index_plan import IndexKind, Upkeep
from ivsearch.store.index_writer import Wishes, save
from ivsearch.store.vector_index import VectorIndex

DIM = 32
SPACE = Space("test", "fedcba9876543210", DIM)
STAMP = ClipStamp("c" * 32, 100, 300)
# Everything in the small: a library is large from 500 clips on.
SMALL = Upkeep(flat_up_to=500, tail_share=0.05, tail_least=50, tail_most=400, growth=4.0, exact_up_to=100)
AT_SMALL = Wishes(upkeep=SMALL)


def clustered(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """(n, dim) float32 unit rows around a hundred centres, rounded to float16 as they are kept."""
    centres = np.random.default_rng(99).standard_normal((100, dim))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(0, 100, n)] + 0.5 * rng.standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def ids_of(start: int, stop: int) -> np.ndarray:
    return np.arange(start, stop, dtype=np.int64) * 2 + 1


def saved(folder: Path, n: int, wishes: Wishes = AT_SMALL) -> np.ndarray:
    """Saves n clips as the first generation, and gives their vectors."""
    vectors = clustered(n)
    index = VectorIndex(SPACE, wishes.upkeep)
    index.add(ids_of(0, n), vectors)
    save(index, folder, lambda: STAMP, wishes)
    return vectors


def loaded(folder: Path, upkeep: Upkeep = SMALL) -> VectorIndex:
    return VectorIndex.load(folder, SPACE, upkeep=upkeep)[0]


def recall(index: VectorIndex, ids: np.ndarray, vectors: np.ndarray, k: int = 10, among: np.ndarray | None = None):
    """The share of numpy's k best that ``index`` finds, over 40 queries beside the vectors."""
    queries = clustered(40, seed=5) + 0.1
    if among is not None:
        kept = np.isin(ids, among)
        ids, vectors = ids[kept], vectors[kept]
    best = ids[np.argsort(-(queries @ vectors.T), axis=1)[:, :k]]
    found = index.search_many(queries.astype(np.float32), k, among)
    return np.mean([np.isin(wanted, each.clip_ids).mean() for wanted, each in zip(best, found, strict=True)])


@pytest.fixture(scope="module", params=list(IndexKind))
def big(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IndexKind, np.ndarray]:
    """20,000 clips in an index of each kind."""
    folder = tmp_path_factory.mktemp("big")
    return folder, request.param, saved(folder, 20_000, Wishes(upkeep=SMALL, kind=request.param))


def test_every_kind_finds_what_brute_force_finds(big: tuple[Path, IndexKind, np.ndarray]) -> None:
    folder, kind, vectors = big
    index = loaded(folder)
    assert (index.kind, len(index)) == (kind, 20_000)
    assert recall(index, ids_of(0, 20_000), vectors) >= 0.95
    assert recall(index, ids_of(0, 20_000), vectors, k=400) >= 0.95
    query = clustered(1, seed=7)[0]
    found = index.search(query, 50)
    # Exact cosines, best first, whatever the codes say.
    np.testing.assert_allclose(found.scores, vectors[(found.clip_ids - 1) // 2] @ query, atol=1e-6)
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("how", ["spread", "clustered"])
def test_filters_lose_nothing(big: tuple[Path, IndexKind, np.ndarray], share: float, how: str) -> None:
    n, (folder, _, vectors) = 20_000, big
    ids = ids_of(0, n)
    if how == "spread":
        among = np.random.default_rng(3).permutation(ids)[: int(n * share)]
    else:  # what is allowed lies together, far from most queries
        among = ids[np.argsort(-(vectors @ vectors[17]))[: int(n * share)]]
    index = loaded(folder)
    assert recall(index, ids, vectors, among=among) >= 0.95
    assert np.isin(index.search(vectors[0], 300, among).clip_ids, among).all()


def test_removed_and_added_clips_of_a_large_library(tmp_path: Path) -> None:
    ids, vectors = ids_of(0, 3000), saved(tmp_path, 3000)
    index = loaded(tmp_path)
    assert index.kind is IndexKind.IVF_SQ8
    index.remove(ids[::10])
    more = clustered(30, seed=1)
    index.add(ids_of(3000, 3030), more)
    kept = np.concatenate([np.setdiff1d(ids, ids[::10]), ids_of(3000, 3030)])
    rows = np.concatenate([np.delete(vectors, np.s_[::10], axis=0), more])
    for _ in range(2):  # in memory, then from disk
        assert sorted(index.clip_ids()) == sorted(kept)
        assert recall(index, kept, rows) >= 0.95
        assert index.search(more[3], 1).clip_ids[0] == ids_of(3003, 3004)[0]
        before = read_current(tmp_path / SPACE.key)
        save(index, tmp_path, lambda: replace(STAMP, version=101), Wishes(upkeep=SMALL))
        after = read_current(tmp_path / SPACE.key)
        # Neither rows nor lists were written anew.
        assert before and after and (before.rows.name, before.lists) == (after.rows.name, after.lists)
        assert check_generation(tmp_path / SPACE.key) == ""
        index = loaded(tmp_path)


def test_a_clip_added_again_is_replaced(tmp_path: Path) -> None:
    saved(tmp_path, 600)
    index, fresh = loaded(tmp_path), clustered(1, seed=8)
    index.add(ids_of(5, 6), fresh)
    assert len(index) == 600
    assert index.search(fresh[0], 1).clip_ids[0] == ids_of(5, 6)[0]
    np.testing.assert_allclose(index.search(fresh[0], 1).scores, [1], atol=1e-3)


def test_duplicates_are_all_found(tmp_path: Path) -> None:
    index = VectorIndex(SPACE, SMALL)
    index.add(ids_of(0, 2000), np.repeat(clustered(20), 100, axis=0))
    save(index, tmp_path, lambda: STAMP, Wishes(upkeep=SMALL))
    found = loaded(tmp_path).search(clustered(20)[4], 100)
    assert sorted(found.clip_ids) == ids_of(400, 500).tolist()


def test_the_structure_follows_the_size(tmp_path: Path) -> None:
    """Flat, then lists, lists that grow, lists trained anew; and after most was removed, small again."""
    wishes = Wishes(upkeep=SMALL)
    folder = tmp_path / SPACE.key
    vectors = clustered(3000)
    seen = []
    for stop in (400, 700, 720, 800, 3000):
        index = loaded(tmp_path)
        index.add(ids_of(len(index), stop), vectors[len(index) : stop])
        save(index, tmp_path, lambda: STAMP, wishes)
        generation = read_current(folder)
        assert generation is not None
        lists = generation.lists
        seen.append((lists.n, lists.trained_for) if lists else None)
        assert recall(loaded(tmp_path), ids_of(0, stop), vectors[:stop]) >= 0.95
    assert seen == [None, (700, 700), (700, 700), (800, 700), (3000, 3000)]
    assert len(list(folder.glob("rows-*.rows"))) == 1
    index = loaded(tmp_path)
    index.remove(ids_of(200, 3000))
    save(index, tmp_path, lambda: STAMP, wishes)
    generation = read_current(folder)
    assert generation is not None and generation.lists is None and generation.removed is None
    assert (folder / f"{generation.rows.name}.ids").stat().st_size == 200 * 8
    assert sorted(path.name for path in folder.iterdir()) == sorted({CURRENT, COPY, *generation.files()})
    assert recall(loaded(tmp_path), ids_of(0, 200), vectors[:200]) == 1


def test_a_smaller_budget_is_obeyed_and_a_wish_is_remembered(tmp_path: Path) -> None:
    saved(tmp_path, 2000)
    assert loaded(tmp_path).kind is IndexKind.IVF_SQ8
    save(loaded(tmp_path), tmp_path, lambda: STAMP, Wishes(memory_budget_bytes=1, upkeep=SMALL))
    assert loaded(tmp_path).kind is IndexKind.IVF_RABITQ
    save(loaded(tmp_path), tmp_path, lambda: STAMP, Wishes(memory_budget_bytes=1 << 40, upkeep=SMALL))
    assert loaded(tmp_path).kind is IndexKind.IVF_RABITQ  # larger codes are no reason to train anew
    pinned = VectorIndex(SPACE, SMALL)
    pinned.add(ids_of(0, 2000), clustered(2000))
    save(pinned, tmp_path, lambda: STAMP, Wishes(upkeep=SMALL, kind=IndexKind.IVF_SQ8))
    save(loaded(tmp_path), tmp_path, lambda: STAMP, Wishes(memory_budget_bytes=1, upkeep=SMALL))
    assert loaded(tmp_path).kind is IndexKind.IVF_SQ8


def test_lists_are_trained_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        saved(tmp_path / name, 1500)
    one, two = (next((tmp_path / name / SPACE.key).glob("*.faiss")).read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_sample_is_even_seeded_and_true(tmp_path: Path) -> None:
    vectors = saved(tmp_path, 1000)
    index = loaded(tmp_path)
    index.remove(ids_of(0, 100))
    index.add(ids_of(1000, 1100), clustered(100, seed=1))
    vectors = np.concatenate([vectors, clustered(100, seed=1)])
    ids, sampled = index.sample(100, seed=4)
    np.testing.assert_array_equal(sampled, vectors[(ids - 1) // 2])
    assert len(set(ids.tolist())) == 100 and not np.isin(ids, ids_of(0, 100)).any()
    # One of every ten, wherever they lie.
    assert np.histogram((ids - 1) // 2, bins=10, range=(100, 1100))[0].tolist() == [10] * 10
    np.testing.assert_array_equal(index.sample(100, seed=4)[0], ids)
    assert not np.array_equal(index.sample(100, seed=5)[0], ids)
    assert sorted(index.sample(5000)[0]) == sorted(index.clip_ids())
    assert len(VectorIndex(SPACE).sample(5)[0]) == 0


# ---- damage ----


def damage(path: Path, how: str, at: float = 0.5) -> None:
    content = path.read_bytes()
    middle = int(len(content) * at)
    if how == "flip":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "cut":
        path.write_bytes(content[:middle])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


def large(folder: Path) -> Path:
    """A generation with every kind of file; its folder."""
    saved(folder, 1000)
    index = loaded(folder)
    index.remove(ids_of(0, 10))
    index.add(ids_of(1000, 1020), clustered(20, seed=1))
    save(index, folder, lambda: STAMP, Wishes(upkeep=SMALL))
    return folder / SPACE.key


FILES = ["rows-000001.rows", "rows-000001.ids", "lists-000001.faiss", "lists-000001.blocks", "removed-000002"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone"])
def test_damage_is_found_and_never_ends_a_search(tmp_path: Path, name: str, how: str) -> None:
    folder = large(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, CURRENT, COPY])
    assert check_generation(folder) == ""
    damage(folder / name, how)
    assert str(folder / name.removesuffix(".ids").removesuffix(".rows")) in check_generation(folder)
    index, stamp = VectorIndex.load(folder.parent, SPACE, upkeep=SMALL)
    index.search(clustered(1)[0], 10)
    flipped_rows = how == "flip" and name.startswith("rows-")  # one row, and what it says is not believed
    assert (len(index), stamp) == ((1010, STAMP) if flipped_rows else (0, None))
    VectorIndex.load_to_write(folder.parent, SPACE)
    if not flipped_rows and how != "gone":
        assert list(folder.glob(f"{name}.damaged"))
    saved(tmp_path, 700)
    assert len(loaded(tmp_path)) == 700
    assert check_generation(folder) == ""


def test_a_flipped_bit_anywhere_in_a_row_is_noticed(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    for name in ("rows-000001.rows", "rows-000001.ids"):
        path = tmp_path / SPACE.key / name
        good = path.read_bytes()
        for bit in range(0, 8 * len(good), 7):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            assert check_generation(path.parent), f"bit {bit} of {name}"
        path.write_bytes(good)
    assert check_generation(tmp_path / SPACE.key) == ""


def test_a_damaged_row_is_found_by_its_code_and_told(tmp_path: Path) -> None:
    vectors = saved(tmp_path, 1000)
    path = tmp_path / SPACE.key / "rows-000001.rows"
    damage(path, "flip", at=123.5 / 1000)
    index = loaded(tmp_path)
    assert index.search(vectors[123], 1).clip_ids[0] == ids_of(123, 124)[0]
    assert index.complaints == [f"the index of {SPACE.key} has damaged rows; run `ivsearch repair`"]
    # Among few there are no codes to go by: it is left out.
    assert len(index.search(vectors[123], 5, ids_of(120, 125)).clip_ids) == 4
    index.remove(ids_of(200, 1000))
    with pytest.raises(LibraryDamaged, match="has damaged rows; run `ivsearch repair`"):
        save(index, tmp_path, lambda: STAMP, Wishes(upkeep=SMALL))
    assert len(loaded(tmp_path)) == 1000


def test_damaged_rows_without_lists_are_asked_for_again(tmp_path: Path) -> None:
    saved(tmp_path, 300)
    damage(tmp_path / SPACE.key / "rows-000001.rows", "flip", at=0.5)
    index, stamp = VectorIndex.load(tmp_path, SPACE)
    assert len(index) == 299 and ids_of(150, 151)[0] not in index.clip_ids()
    assert stamp is not None and stamp.catalog_id == STAMP.catalog_id and stamp.version < 0


def test_a_row_alone_in_its_batch_may_be_damaged(tmp_path: Path) -> None:
    vectors = saved(tmp_path, 1000)
    damage(tmp_path / SPACE.key / "rows-000001.rows", "flip", at=123.5 / 1000)
    index = loaded(tmp_path)
    assert len(index.search(vectors[123], 5, ids_of(123, 124)).clip_ids) == 0
    assert index.complaints == [f"the index of {SPACE.key} has damaged rows; run `ivsearch repair`"]


@pytest.mark.parametrize("name", [CURRENT, COPY])
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone"])
def test_what_the_table_or_its_copy_names_is_used_whatever_becomes_of_the_other(
    tmp_path: Path, name: str, how: str
) -> None:
    folder = large(tmp_path)
    held = {each: (folder / each).stat().st_ino for each in FILES}
    good = (folder / CURRENT).read_bytes()
    damage(folder / name, how)
    if (name, how) == (COPY, "gone"):  # as in indexes of older versions
        assert check_generation(folder) == "" and not mend_tables(folder)
    else:
        assert str(folder / name) in check_generation(folder)
    for index, stamp in (VectorIndex.load(tmp_path, SPACE), VectorIndex.load_to_write(tmp_path, SPACE)):
        assert (len(index), stamp) == (1010, STAMP)
    if (name, how) != (COPY, "gone"):
        assert mend_tables(folder) and not mend_tables(folder)
        assert (folder / CURRENT).read_bytes() == (folder / COPY).read_bytes() == good
        assert (folder / f"{name}.damaged").exists() == (how != "gone")
    assert check_generation(folder) == ""
    assert {each: (folder / each).stat().st_ino for each in FILES} == held, "nothing is written anew"


def test_a_flip_anywhere_in_the_table_is_found_and_costs_no_file(tmp_path: Path) -> None:
    folder = large(tmp_path)
    good = (folder / CURRENT).read_bytes()
    held = {name: (folder / name).read_bytes() for name in FILES}
    text_at = [at for at, byte in enumerate(good) if not chr(byte).isspace()]
    for at in text_at:
        (folder / CURRENT).write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert f"{folder / CURRENT} is damaged" in check_generation(folder), f"byte {at}: {chr(good[at])}"
    at = good.index(b'"format"') + 3
    for name in (CURRENT, COPY):
        (folder / name).write_bytes(good[:at] + b"?" + good[at + 1 :])
    VectorIndex.load_to_write(tmp_path, SPACE)
    saved(tmp_path, 10)
    assert {name: (folder / f"{name}.damaged").read_bytes() for name in held} == held


def test_removed_clips_are_no_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of what is left asks the lists for no more than a search of everything does."""
    vectors, asked = saved(tmp_path, 3000), []
    search = ClipLists.search

    def noted(lists: ClipLists, vectors: np.ndarray, k: int, nprobe: int, bits: np.ndarray | None):
        asked.append((k, nprobe))
        return search(lists, vectors, k, nprobe, bits)

    monkeypatch.setattr(ClipLists, "search", noted)
    index = loaded(tmp_path)
    index.search(vectors[5], 10)
    index.remove(ids_of(700, 701))
    index.search(vectors[5], 10)
    assert len(asked) == 2 and asked[0] == asked[1]


def test_an_index_of_an_older_format_is_none(tmp_path: Path) -> None:
    folder = tmp_path / SPACE.key
    folder.mkdir()
    (folder / "generation-000001.faiss").write_bytes(b"IxM2")
    (folder / CURRENT).write_text('{"file": "generation-000001.faiss", "digest": "0", "stamp": {"count": 3}}')
    assert check_generation(folder) == ""
    assert VectorIndex.load_to_write(tmp_path, SPACE)[1] is None
    saved(tmp_path, 10)
    assert not (folder / "generation-000001.faiss").exists()


# ---- writers and readers ----


def test_an_unfinished_append_is_cut_off(tmp_path: Path) -> None:
    vectors = saved(tmp_path, 600)
    folder = tmp_path / SPACE.key
    for suffix in ("rows", "ids"):
        with (folder / f"rows-000001.{suffix}").open("ab") as file:
            file.write(b"torn" * 77)
    assert check_generation(folder) == ""
    index = loaded(tmp_path)
    index.add(ids_of(600, 610), clustered(10, seed=1))
    save(index, tmp_path, lambda: STAMP, Wishes(upkeep=SMALL))
    assert check_generation(folder) == ""
    rows = np.concatenate([vectors, clustered(10, seed=1)])
    assert recall(loaded(tmp_path), ids_of(0, 610), rows) >= 0.95


def test_readers_go_on_with_what_they_opened(tmp_path: Path) -> None:
    vectors = saved(tmp_path, 1000)
    reader, query = loaded(tmp_path), clustered(1, seed=3)[0]
    before = reader.search(query, 20)
    index = VectorIndex(SPACE, SMALL)
    index.add(ids_of(5000, 6200), clustered(1200, seed=2))
    save(index, tmp_path, lambda: STAMP, Wishes(upkeep=SMALL))
    assert not (tmp_path / SPACE.key / "rows-000001.rows").exists()
    after = reader.search(query, 20)
    np.testing.assert_array_equal(before.clip_ids, after.clip_ids)
    np.testing.assert_array_equal(before.scores, after.scores)
    assert reader.is_outdated(tmp_path) and not loaded(tmp_path).is_outdated(tmp_path)
    assert recall(reader, ids_of(0, 1000), vectors) >= 0.95


def test_searching_while_another_thread_changes_it(tmp_path: Path) -> None:
    vectors = saved(tmp_path, 1000)
    index, query = loaded(tmp_path), clustered(1, seed=3)[0]
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = index.search(query, 30)
            scores = found.scores
            assert len(found.clip_ids) == 30 and (np.diff(scores) <= 0).all()
            seen.append(len(seen))

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            # However busy the machine is: some searches fall in between.
            for i in range(900):
                if i >= 40 and len(seen) > 2:
                    break
                index.add(ids_of(2000 + i, 2001 + i), clustered(1, seed=100 + i))
                index.remove(ids_of(i, i + 1))
                save(index, tmp_path, lambda: STAMP, Wishes(upkeep=SMALL)) if i % 20 == 0 else None
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    assert len(seen) > 2
    assert len(index) == 1000 and len(vectors) == 1000


WRITER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.store.test_index_writer import *
folder = Path({folder!r})
while True:
    print("ready", flush=True)
    index = loaded(folder)
    start = int(index.clip_ids().max() - 1) // 2 + 1
    index.add(ids_of(start, start + 37), clustered(37, seed=start))
    index.remove(index.clip_ids()[:20])
    save(index, folder, lambda: STAMP, Wishes(upkeep=SMALL))
"""


def test_a_killed_writer_leaves_a_sound_generation(tmp_path: Path) -> None:
    saved(tmp_path, 1200)
    script = WRITER.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    rng = np.random.default_rng(6)
    numbers = []
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(rng.integers(2, 5)):  # it says so each time it begins
            assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.1 * rng.random())
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert check_generation(tmp_path / SPACE.key) == ""
        index = loaded(tmp_path)
        ids = index.clip_ids()
        # What counts is what some save wrote in full: rows carry the vectors of their ids.
        found, vectors = index.sample(50)
        for clip_id, vector in zip(found, vectors, strict=True):
            assert index.search(vector, 1).scores[0] == pytest.approx(1, abs=1e-3), clip_id
        assert len(ids) == len(set(ids.tolist())) >= 1200
        generation = read_current(tmp_path / SPACE.key)
        assert generation is not None
        numbers.append(generation.number)
    assert numbers[-1] > 1


def test_a_budget_is_remembered(tmp_path: Path) -> None:
    saved(tmp_path, 2000, Wishes(memory_budget_bytes=1, upkeep=SMALL))
    index = loaded(tmp_path)
    index.add(ids_of(2000, 9000), clustered(7000, seed=1))
    save(index, tmp_path, lambda: STAMP, AT_SMALL)  # trained anew, by somebody who does not say how
    generation = read_current(tmp_path / SPACE.key)
    assert generation is not None and generation.lists is not None
    assert (generation.lists.plan.kind, generation.lists.trained_for) == (IndexKind.IVF_RABITQ, 9000)
