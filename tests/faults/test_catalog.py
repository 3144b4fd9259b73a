"""A torn, flipped, blanked, lost catalog or log of it: it is noticed, and its rows are made again from the vectors."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ivsearch.errors import LibraryDamaged
from ivsearch.store.wal import lost_commits

from .conftest import PHOTOS, QUERIES, Counting, Whole, opened, outcomes, shown
from .damage import flip, lose, spoil, tear
from .fault_run import FaultRun, Table, trials
from .held import held_by


def search_or_be_told(run: FaultRun, counting: Counting, folder: Path) -> None:
    """Hits, or what to run: nothing else comes out of a damaged catalog."""
    copy = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-searched")))
    try:
        with opened(counting, copy) as library:
            hits = [library.search(query, k=4) for query in QUERIES]
            complaints = library.searcher().complaints
        run.answered += any(hits)
        run.told += not any(hits)
        assert any(hits) or "`ivsearch index` fills it again" in complaints[0]
    except LibraryDamaged as error:
        assert "`ivsearch repair`" in str(error) and error.exit_code == 1
        run.told += 1
    shutil.rmtree(copy)


def mend(run: FaultRun, counting: Counting, whole: Whole, folder: Path, broken: bool) -> None:
    """Repair, the next run, and all is as it was, without a picture being encoded."""
    before = counting.pictures
    with opened(counting, folder) as library:
        actions = list(library.repair())
        assert bool(actions) == broken
        run.repaired += bool(actions)
        outcomes(library, whole.media)
        assert list(library.verify()) == []
        run.clean += 1
        assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
    assert counting.pictures == before, "vectors that are there are not made again"
    run.lost_rows += whole.held.missing_in(held_by(folder))


def test_catalogs(whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("catalog: bit flipped, torn, blanked, lost")
    for number, rng in enumerate(trials(run, 12)):
        folder = whole.copy(tmp_path / f"{number}")
        damage = spoil(folder / "catalog.db", rng)
        search_or_be_told(run, counting, folder)
        with opened(counting, folder) as library:
            problems = list(library.verify())
        if problems:
            run.found += 1
        else:
            # Then no row is another, but for where files are and when they were looked at.
            kept = {row for row in whole.held.rows if row[0] != "path"}
            assert damage.how == "flip" and kept <= set(held_by(folder).rows), damage
            run.silent += 1
        # A catalog that is not there needs no repair but the next run.
        mend(run, counting, whole, folder, broken=bool(problems) and damage.how != "lose")
        if problems and damage.how in ("tear", "blank"):
            assert (folder / "catalog.db.damaged").exists()
        shutil.rmtree(folder)
    assert run.lost_rows == 0


def with_log(whole: Whole, counting: Counting, folder: Path) -> Path:
    """A copy of a library as a crash leaves it: its last commits are in the log only."""
    grown = whole.copy(folder.with_name(f"{folder.name}-grown"))
    # A reader that stays keeps SQLite from emptying the log.
    with closing(sqlite3.connect(grown / "catalog.db")) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from media").fetchall()
        with opened(counting, grown) as library:
            for name in PHOTOS[:3]:
                library.remove(whole.media / name)
                outcomes(library, whole.media / name)
        shutil.copytree(grown, folder)
    shutil.rmtree(grown)
    assert (folder / "catalog.db-wal").stat().st_size > 0 and lost_commits(folder / "catalog.db-wal") == 0
    (folder / "catalog.db-shm").unlink()
    return folder


def test_logs(whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("log of the catalog (WAL): bit flipped, torn, lost")
    left = with_log(whole, counting, tmp_path / "crashed")
    silent_flips = 0
    for number, rng in enumerate(trials(run, 6)):
        folder = Path(shutil.copytree(left, tmp_path / f"{number}"))
        damage = rng.choice((flip, flip, flip, tear, lose))(folder / "catalog.db-wal", rng)
        spoiled = b"" if damage.how == "lose" else (folder / "catalog.db-wal").read_bytes()
        search_or_be_told(run, counting, folder)
        with opened(counting, folder) as library:
            problems = list(library.verify())
        if problems:
            assert len(problems) == 1 and "catalog.db-wal is damaged: the last" in problems[0], (damage, problems)
            run.found += 1
            assert (folder / "catalog.db-wal.damaged").read_bytes() == spoiled
        else:
            # What is cut off was never written, as far as anyone can tell, and so was a last commit whose own mark is
            # flipped: its rows are made again all the same.
            silent_flips += damage.how == "flip"
            run.silent += 1
        # Verify has opened the catalog, so SQLite has dropped what it could not read: the next run brings it back.
        mend(run, counting, whole, folder, broken=False)
        shutil.rmtree(folder)
    assert run.lost_rows == 0 and silent_flips <= 0.05 * run.times


def test_a_destroyed_catalog_costs_no_encoding(whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("catalog destroyed, then filled from the vectors")
    for number, rng in enumerate(trials(run, 1)):
        folder = whole.copy(tmp_path / f"{number}")
        (folder / "catalog.db").write_bytes(rng.randbytes(40_000))
        with opened(counting, folder) as library:
            with pytest.raises(LibraryDamaged, match="`ivsearch repair` sets it aside") as raised:
                library.search("a cat")
            assert raised.value.exit_code == 1
            run.told += 1
            assert ["`ivsearch repair` sets it aside" in problem for problem in library.verify()] == [True]
            run.found += 1
        mend(run, counting, whole, folder, broken=True)
        assert (folder / "catalog.db.damaged").exists()
    assert run.lost_rows == 0


def test_an_open_library_goes_on_in_the_catalog_that_repair_made(
    whole: Whole, counting: Counting, tmp_path: Path
) -> None:
    folder = whole.copy(tmp_path / "library")
    with opened(counting, folder) as other:
        assert {query: shown(other.search(query, k=4)) for query in QUERIES} == whole.hits
        with closing(sqlite3.connect(folder / "catalog.db")) as connection:
            connection.executescript("update media set kind = 'vkdeo'")
        with opened(counting, folder) as library:
            assert any("set aside" in action for action in list(library.repair()))
        assert set(outcomes(other, whole.media).values()) == {"indexed"}
        assert {query: shown(other.search(query, k=4)) for query in QUERIES} == whole.hits
    assert whole.held.missing_in(held_by(folder)) == 0


def test_verify_beside_a_writer_finds_nothing(whole: Whole, counting: Counting, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "library")

    def write() -> None:
        with opened(counting, folder) as library:
            for name in PHOTOS[:2]:
                library.remove(whole.media / name)
                outcomes(library, whole.media / name)

    found: list[str] = []
    with ThreadPoolExecutor(1) as pool, opened(counting, folder) as library:
        writing, rounds = pool.submit(write), 0
        while not writing.done() or rounds == 0:
            found += library.verify()
            rounds += 1
        writing.result()
    assert found == []


def test_files_that_were_moved_meanwhile_are_known_by_their_content(
    whole: Whole, counting: Counting, tmp_path: Path
) -> None:
    folder, media = whole.copy(tmp_path / "library"), tmp_path / "elsewhere"
    shutil.copytree(whole.media, media)
    (folder / "catalog.db").unlink()
    before = counting.pictures
    with opened(counting, folder) as library:
        assert set(outcomes(library, media).values()) == {"indexed"}
        assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
    assert counting.pictures == before


def test_vectors_sampled_otherwise_or_without_pictures_are_made_anew(
    whole: Whole, counting: Counting, tmp_path: Path
) -> None:
    folder = whole.copy(tmp_path / "library")
    (folder / "catalog.db").unlink()
    shutil.rmtree(folder / "thumbs")
    before = counting.pictures
    with opened(counting, folder) as library:
        outcomes(library, whole.media / PHOTOS[0])
        assert counting.pictures == before + 1 and len(list((folder / "thumbs").rglob("*.jpg"))) == 1
        assert list(library.index([whole.media / PHOTOS[1]], fps=2)) and counting.pictures == before + 2
        assert list(library.verify()) == []
