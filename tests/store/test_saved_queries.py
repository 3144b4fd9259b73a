from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ivsearch.domain import Filters, MediaKind, Query, Region, Space, Term, Then
from ivsearch.errors import LibraryBusy, LibraryDamaged, LibraryTooNew, UsageError
from ivsearch.store import saved_queries
from ivsearch.store.saved_queries import SavedQueries, SavedQuery

SPACE = Space("mini", "0123456789abcdef", 4)
EVERYTHING = Query(
    filters=Filters(
        paths=("*.mp4", "日本/*"),
        kind=MediaKind.VIDEO,
        min_duration_s=1.5,
        max_duration_s=90.0,
        after=datetime(2024, 5, 1, tzinfo=UTC),
        before=datetime(2024, 6, 1, 12, 30, tzinfo=UTC),
    ),
    terms=(
        Term("一只猫", weight=2.0),
        Term(image=Path("/media/beach.jpg"), region=Region(0.1, 0.2, 0.3, 0.4)),
        Term(image=Path("/media/odd\udcff.jpg"), region=Region(1, 2, 30, 40, in_pixels=True)),
        Term(clip_id=12, weight=-0.5, start_s=1.0, end_s=2.5),
    ),
    then=(Then((Term("a dog"),), 12.5), Then((Term(clip_id=3), Term("snow", weight=-1.0)))),
)


@pytest.mark.parametrize(
    "query", [EVERYTHING, Query("a cat"), Query(clip_id=4), Query(image=Path("/a/b.jpg"), region=Region(0, 0, 1, 0.5))]
)
def test_a_query_comes_back_as_it_was_saved(tmp_path: Path, query: Query) -> None:
    saved = SavedQuery(query, 7, 2, {SPACE.key: 41})
    SavedQueries(tmp_path).add("mine", saved)
    assert SavedQueries(tmp_path).get("mine") == saved
    assert SavedQueries(tmp_path).all() == {"mine": saved}


def test_images_are_remembered_by_their_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there = Path("../beach.jpg")
    query = Query(terms=(Term(image=there),), then=(Then((Term(image=Path("b.jpg")),)),))
    SavedQueries(tmp_path).add("mine", SavedQuery(query))
    saved = SavedQueries(tmp_path).get("mine").query
    assert saved.terms[0].image == Path(os.path.abspath(there))
    assert saved.then[0].terms[0].image == tmp_path / "b.jpg"
    SavedQueries(tmp_path).add("one", SavedQuery(Query(image=there)))
    assert SavedQueries(tmp_path).get("one").query.image == Path(os.path.abspath(there))


def test_names(tmp_path: Path) -> None:
    queries = SavedQueries(tmp_path)
    with pytest.raises(UsageError, match=r"no saved query 'mine'; none is saved yet \(search … --save NAME\)$"):
        queries.get("mine")
    queries.add("mine", SavedQuery(Query("a cat")))
    queries.add("yours", SavedQuery(Query("a dog")))
    with pytest.raises(
        UsageError, match="a query 'mine' is saved already: choose another name, or `ivsearch queries rm`"
    ):
        queries.add("mine", SavedQuery(Query("a dog")))
    with pytest.raises(UsageError, match="a query 'mine' is saved already"):
        queries.check_new("mine")
    queries.check_new("his")
    assert queries.get("mine").query == Query("a cat")
    with pytest.raises(UsageError, match="there is no saved query 'his'; saved are: mine, yours"):
        queries.remove("his")
    queries.remove("mine")
    assert list(queries.all()) == ["yours"]
    for name in ("", "  ", "a/b", "@a", "a\nb", "x" * 101):
        with pytest.raises(UsageError, match="cannot be the name of a query: letters, digits and dashes do"):
            queries.add(name, SavedQuery(Query("a dog")))


def test_each_space_has_its_own_mark(tmp_path: Path) -> None:
    queries = SavedQueries(tmp_path)
    queries.add("mine", SavedQuery(Query("a cat"), seen={"other-1": 5}))
    queries.note_run("mine", SPACE, 9)
    assert queries.get("mine").seen == {"other-1": 5, SPACE.key: 9}
    before = (tmp_path / "queries.json").stat().st_mtime_ns
    queries.note_run("mine", SPACE, 9)  # nothing to note: nothing is written
    assert (tmp_path / "queries.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b'{"format": "x", "queries": {}}']
    + [json.dumps({"format": 1, "queries": {"a": row}}).encode() for row in (1, {}, {"text": "a"}, None)],
)
def test_a_damaged_file_is_named_and_never_written_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "queries.json").write_bytes(content)
    queries = SavedQueries(tmp_path)
    for act in (queries.all, lambda: queries.get("a"), lambda: queries.add("b", SavedQuery(Query("a dog")))):
        with pytest.raises(LibraryDamaged, match=r"queries\.json is damaged .*: mend it, or move it away and save"):
            act()
    assert (tmp_path / "queries.json").read_bytes() == content


def test_one_of_a_newer_version(tmp_path: Path) -> None:
    (tmp_path / "queries.json").write_text('{"format": 2, "queries": {"a": "written otherwise"}}')
    with pytest.raises(LibraryTooNew, match=r"has format 2, this ivsearch knows 1: use the version that wrote it"):
        SavedQueries(tmp_path).all()


def test_what_two_processes_save_at_once_is_all_kept(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ivsearch.domain import Query\n"
        "from ivsearch.store.saved_queries import SavedQueries, SavedQuery\n"
        "for n in range(20): SavedQueries(Path(sys.argv[1])).add(sys.argv[2] + str(n), SavedQuery(Query('a cat')))"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in "ab"]
    assert [process.wait(300) for process in started] == [0, 0]
    assert set(SavedQueries(tmp_path).all()) == {f"{name}{n}" for name in "ab" for n in range(20)}
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_lock_that_is_never_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(saved_queries, "PATIENCE_S", 0.05)
    with FileLock(tmp_path / "queries.lock"), pytest.raises(LibraryBusy, match=r"holds .* for long: try again when"):
        SavedQueries(tmp_path).add("mine", SavedQuery(Query("a cat")))
