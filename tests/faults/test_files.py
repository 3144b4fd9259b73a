"""Torn, flipped, blanked and lost files of a library, but for its catalog: what is broken is found, and mended."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivsearch.store.generation import shape_of
from ivsearch.store.index_plan import IndexKind
from ivsearch.store.thumbs import Thumbs

from .conftest import QUERIES, Counting, Whole, opened, outcomes, shown
from .damage import Damage, flip, spoil, tear
from .fault_run import Table, trials
from .held import held_by


def broken_files(folder: Path, damage: Damage) -> dict[str, int]:
    """Which files have their vectors in what was damaged, and how many frames each; by SQL."""
    query = """select path, offset_bytes, encoding.size_bytes, n_frames
               from encoding join path on path.media_id = encoding.media_id where segment = ?"""
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        rows = connection.execute(query, (damage.path.name,)).fetchall()
    return {path: n for path, start, size, n in rows if damage.hits(start, start + size)}


def test_segments(whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("segment: bit flipped, torn, blanked, lost")
    for number, rng in enumerate(trials(run, 4)):
        folder = whole.copy(tmp_path / f"{number}")
        (segment,) = (folder / "vectors" / counting.space.key).glob("*.seg")
        broken = broken_files(folder, spoil(segment, rng))
        before = counting.pictures
        with opened(counting, folder) as library:
            problems = list(library.verify())
            assert [problem.split(": ")[0] for problem in problems] == sorted(broken, key=_media_ids(folder).get)  # type: ignore[arg-type]
            assert all("run `ivsearch repair`" in p or "run `ivsearch verify`" in p for p in problems)
            run.found += 1
            left = {Path(each).name for each in _media_ids(folder)} - {Path(each).name for each in broken}
            for query in QUERIES:
                assert {hit.path.name for hit in library.search(query, k=9)} == left
            assert bool(library.searcher().complaints) == bool(broken)
            run.answered += 1
            assert list(library.repair()) and list(library.verify()) == []
            run.repaired += 1
            became = outcomes(library, whole.media)
            assert {name for name, what in became.items() if what == "indexed"} == {Path(each).name for each in broken}
            # Nothing that was sound is encoded again.
            assert counting.pictures - before == sum(broken.values())
            assert list(library.verify()) == []
            run.clean += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
        run.lost_rows += whole.held.missing_in(held_by(folder))
    assert run.lost_rows == 0


def _media_ids(folder: Path) -> dict[str, str]:
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        return dict(connection.execute("select path, media_id from path"))


def test_index_files(whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("index file: bit flipped, torn, blanked, lost")
    for number, rng in enumerate(trials(run, 8)):
        folder = whole.copy(tmp_path / f"{number}")
        index = folder / "index" / counting.space.key
        path = rng.choice(sorted(index.iterdir()))
        damage = spoil(path, rng)
        with opened(counting, folder) as library:
            problems = list(library.verify())
            # Without its copy a table is none the worse, as in indexes of older versions.
            if damage.how == "lose" and path.name == "current.copy.json":
                assert problems == []
                run.silent += 1
            else:
                assert len(problems) == 1 and str(index) in problems[0], (damage, problems)
                run.found += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits, damage
            run.answered += 1
            actions = list(library.repair())
            assert bool(actions) == bool(problems)
            run.repaired += bool(actions)
            assert list(library.verify()) == []
            run.clean += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
            assert set(outcomes(library).values()) == {"unchanged"}
        if damage.how != "lose":
            assert list(index.glob("*.damaged")), "damaged files are set aside, not deleted"
        run.lost_rows += whole.held.missing_in(held_by(folder))
    assert run.lost_rows == 0


def test_a_kind_that_was_asked_for_outlives_its_index(whole: Whole, counting: Counting, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "library")
    index = folder / "index" / counting.space.key
    with opened(counting, folder) as library:
        library.reindex("ivf-sq8")
        (index / "current.json").unlink()
        assert list(library.repair()) == [f"wrote the table of the index of {counting.space.key} anew, from its copy"]
        for path in index.iterdir():
            path.write_bytes(b"rubbish")
        assert f"built the index of {counting.space.key} anew" in list(library.repair())
        assert shape_of(index, counting.space).kind is IndexKind.IVF_SQ8
        shutil.rmtree(index)
        outcomes(library)
        assert shape_of(index, counting.space).kind is IndexKind.IVF_SQ8
        library.reindex()
        shutil.rmtree(index)
        outcomes(library)
        assert shape_of(index, counting.space).kind is IndexKind.FLAT


def test_manifests(whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("manifest: bit flipped, torn, blanked, lost")
    good = (whole.folder / "manifest.json").read_bytes()
    for number, rng in enumerate(trials(run, 4)):
        folder = whole.copy(tmp_path / f"{number}")
        damage = spoil(folder / rng.choice(["manifest.json", "manifest.copy.json"]), rng)
        with opened(counting, folder) as library:
            problems = list(library.verify())
            if problems:
                assert len(problems) == 1 and str(damage.path) in problems[0]
                run.found += 1
            else:
                # A blank between two values may become a line feed; nobody reads the difference.
                assert damage.how == "flip" and len(damage.path.read_bytes().split()) >= len(good.split()) - 1
                run.silent += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
            run.answered += 1
            actions = list(library.repair())
            assert bool(actions) == bool(problems)
            run.repaired += bool(actions)
            assert list(library.verify()) == []
            run.clean += 1
            assert set(outcomes(library).values()) == {"unchanged"}
        assert (folder / "manifest.json").read_bytes() == good
        if problems and damage.how != "lose":
            assert damage.path.with_name(f"{damage.path.name}.damaged").exists()
        run.lost_rows += whole.held.missing_in(held_by(folder))
    assert run.lost_rows == 0


def test_both_manifests(whole: Whole, counting: Counting, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "library")
    for name in ("manifest.json", "manifest.copy.json"):
        (folder / name).write_bytes(b"{}")
    with opened(counting, folder) as library:
        assert len(list(library.verify())) == 2
        assert list(library.repair())[-1].endswith(
            "name your folders (and --encoder, --weights) at the next `ivsearch index`"
        )
        assert list(library.verify()) == []
        assert set(outcomes(library, whole.media).values()) == {"unchanged"}


def test_thumbnails(whole: Whole, counting: Counting, table: Table, tmp_path: Path) -> None:
    run = table.run("thumbnail: bit flipped, torn")
    for number, rng in enumerate(trials(run, 3)):
        folder = whole.copy(tmp_path / f"{number}")
        path = rng.choice(sorted((folder / "thumbs").glob("*/*/*.jpg")))
        before = _pixels(path)
        rng.choice((flip, tear))(path, rng)
        with opened(counting, folder) as library:
            assert list(library.verify()) == [f"{path} is damaged; `ivsearch repair` draws it again"]
            run.found += 1
            assert {query: shown(library.search(query, k=4)) for query in QUERIES} == whole.hits
            run.answered += 1
            assert list(library.repair()) == [f"set aside {path}.damaged"]
            run.repaired += 1
            assert list(library.verify()) == []
            run.clean += 1
        assert np.abs(_pixels(path) - before).mean() < 4, "it shows the same picture"
        run.lost_rows += whole.held.missing_in(held_by(folder))
    assert run.lost_rows == 0


def test_a_thumbnail_of_a_file_that_is_gone_costs_its_picture(whole: Whole, counting: Counting, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "library")
    with closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        connection.execute("update path set path = '/gone' || path")
    path = sorted((folder / "thumbs").glob("*/*/*.jpg"))[0]
    path.write_bytes(b"rubbish")
    with opened(counting, folder) as library:
        assert list(library.repair()) == [f"set aside {path}.damaged"]
        assert list(library.verify()) == [] and not path.exists()


@pytest.mark.parametrize("act", ["index", "rm", "repair"])
def test_whoever_writes_next_ends_a_forgetting_that_was_stopped(
    whole: Whole, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    folder = whole.copy(tmp_path / "library")
    with opened(counting, folder) as library:
        with monkeypatch.context() as patch:
            patch.setattr(Thumbs, "forget", _stopped)
            with pytest.raises(KeyboardInterrupt):
                library.remove(whole.media / "pet.jpg")
        assert _drawn(folder) - set(_media_ids(folder).values()), "rows are gone, and pictures are not"
        assert list(library.verify()) == []
        if act == "index":
            outcomes(library, whole.media / "film.mp4")
        elif act == "rm":
            library.remove(whole.media / "night.jpg")
        else:
            assert list(library.repair()) == []
        assert _drawn(folder) == set(_media_ids(folder).values())
        assert not (folder / "forgetting.json").exists()


def test_repair_deletes_thumbnails_that_nothing_can_take_up(whole: Whole, counting: Counting, tmp_path: Path) -> None:
    folder = whole.copy(tmp_path / "library")
    left = folder / "thumbs" / "ab" / ("ab" * 16)
    left.mkdir(parents=True)
    (left / "000000000.jpg").write_bytes(b"left")
    (folder / "catalog.db").unlink()
    before = counting.pictures
    with opened(counting, folder) as library:
        told = ["deleted the thumbnails of 1 media that are not in the library any more"]
        assert list(library.repair()) == told
        assert _drawn(folder) == {row[1] for row in whole.held.rows if row[0] == "media"}
        outcomes(library, whole.media)
        assert counting.pictures == before, "those of records without rows are still of use"


def test_a_damaged_thumbnail_is_not_taken_up_with_the_vectors(whole: Whole, counting: Counting, tmp_path: Path) -> None:
    """Repair cannot draw it: that takes clips, which the lost catalog had."""
    folder = whole.copy(tmp_path / "library")
    (folder / "catalog.db").unlink()
    thumb = folder / "thumbs" / _media_ids_in(whole)["pet.jpg"][:2] / _media_ids_in(whole)["pet.jpg"] / "000000000.jpg"
    thumb.write_bytes(b"rubbish")
    before = counting.pictures
    with opened(counting, folder) as library:
        list(library.repair())
        outcomes(library, whole.media)
        assert list(library.verify()) == []
    assert thumb.with_name(f"{thumb.name}.damaged").read_bytes() == b"rubbish"
    assert counting.pictures == before + 1


def _media_ids_in(whole: Whole) -> dict[str, str]:
    return {Path(path).name: media_id for path, media_id in _media_ids(whole.folder).items()}


def _stopped(_thumbs: Thumbs, media_ids: Sequence[str]) -> None:
    if media_ids:
        raise KeyboardInterrupt


def _drawn(folder: Path) -> set[str]:
    return {path.name for path in (folder / "thumbs").glob("??/*")}


def _pixels(path: Path) -> np.ndarray:
    with Image.open(BytesIO(path.read_bytes())) as picture:
        return np.asarray(picture.convert("RGB").resize((32, 32)), np.float32)
