"""What is brought over from a damaged catalog: rows as they were, or none; and of words that were lost, a mark."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from ivsearch.domain import Modality, TextLine
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Catalog
from ivsearch.store.salvage import renew
from ivsearch.store.text_soundness import forget_unsound, lost_texts, unsound_texts
from ivsearch.store.texts import EMBEDDED, LOST, SCREEN, Texts, TextTrack

N_MEDIA, N_LINES = 200, 6
ROWS = {
    "media": "select * from media",
    "path": "select * from path",
    "skipped": "select * from skipped",
    "line": "select media_id, source, origin, stream, start_s, end_s, text, tokens"
    " from text_line join text_track using (track_id)",
    "reading": f"select * from text_reading where reading != '{LOST}'",
}


def rows_of(file: Path) -> dict[str, Counter[tuple]]:
    with closing(sqlite3.connect(file)) as connection:
        return {name: Counter(connection.execute(query)) for name, query in ROWS.items()}


def media_id_of(number: int) -> str:
    return f"{number * 7919:032x}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every third Media has words on screen, every fourth subtitles inside, every fifth some in a file beside it."""
    file = tmp_path_factory.mktemp("catalog") / "catalog.db"
    rng = random.Random(5)
    Catalog(file).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        for n in range(N_MEDIA):
            media = (media_id_of(n), "video", 9.5, 640, 360, "h264", 1000 + n, 25.0, None, "[]")
            connection.execute("insert into media values (?,?,?,?,?,?,?,?,?,?)", media)
            connection.execute("insert into path values (?,?,?,?)", (f"/films/{n}.mp4", media_id_of(n), 1000 + n, n))
        connection.execute("insert into skipped values ('/films/torn.mp4', 'it is torn')")
    with closing(Catalog(file)) as catalog:
        texts = Texts(catalog)
        for n in range(N_MEDIA):
            lines = [TextLine(k, k + 0.5, f"第{n}幕 {rng.choice('αβγ')} line {k} of film {n}") for k in range(N_LINES)]
            if n % 3 == 0:
                track = TextTrack(media_id_of(n), Modality.SCREEN)
                texts.put_reading(media_id_of(n), SCREEN, "reader fps=1", [(track, lines)])
            if n % 4 == 0:
                inside = TextTrack(media_id_of(n), Modality.SUBTITLE, "en", stream=2)
                texts.put_reading(media_id_of(n), EMBEDDED, "1", [(inside, lines)])
            if n % 5 == 0:
                beside = TextTrack(media_id_of(n), Modality.SUBTITLE, "en", Path(f"/films/{n}.srt"), -1, 7, 8)
                texts.put([(beside, lines)])
        assert list(unsound_texts(catalog)) == []
    return file


def lost_silently(before: dict[str, Counter[tuple]], file: Path) -> list[tuple]:
    """Lines that are gone, of Media that are there, though nothing says that they have to be read again."""
    now = rows_of(file)
    there = {row[0] for row in now["media"]}
    read = {(row[0], row[1]) for row in now["reading"]}
    with closing(sqlite3.connect(file)) as connection:
        beside = {row[0] for row in connection.execute("select media_id from text_track where origin != ''")}
    lost = []
    for line in before["line"] - now["line"]:
        kind = SCREEN if line[1] == "screen" else EMBEDDED
        noted = line[0] in beside if line[2] else (line[0], kind) in read
        if line[0] in there and noted:
            lost.append(line)
    return lost


def test_what_is_sound_is_all_kept(whole: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(whole, tmp_path))
    renewed = renew(file)
    assert (renewed.n_paths, renewed.lacks_readings) == (N_MEDIA, False)
    assert rows_of(file) == rows_of(whole)
    assert [path.name for path in renewed.aside] == ["catalog.db.damaged"]
    with closing(Catalog(file)) as catalog:
        assert list(catalog.complaints()) == [] and list(unsound_texts(catalog)) == []


@pytest.mark.parametrize("seed", range(12))
def test_damaged_pages_cost_what_is_on_them_and_no_word_in_silence(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    file = Path(shutil.copy(whole, tmp_path))
    blob = bytearray(file.read_bytes())
    pages = range(1, len(blob) // 4096)  # the first holds the table of contents
    for page in rng.sample(pages, rng.choice((1, 1, 3))):
        start = page * 4096 + rng.choice((0, 0, 2000))
        stop = (page + 1) * 4096
        blob[start:stop] = rng.choice((bytes(stop - start), rng.randbytes(stop - start)))
    file.write_bytes(blob)
    renewed = renew(file)
    before, now = rows_of(whole), rows_of(file)
    for name in ("media", "path", "skipped"):
        assert not now[name] - before[name], "nothing that was not there"
    with closing(Catalog(file)) as catalog:
        assert list(catalog.complaints()) == []
        unsound = list(unsound_texts(catalog))
        forget_unsound(catalog, unsound)
        assert list(unsound_texts(catalog)) == []
        marked = set(lost_texts(catalog).get(SCREEN, []))
    assert not rows_of(file)["line"] - before["line"]
    assert lost_silently(before, file) == []
    assert marked <= {media_id_of(n) for n in range(0, N_MEDIA, 3)}
    lost_readings = before["reading"] - now["reading"]
    assert renewed.lacks_readings or {row[1] for row in lost_readings} <= {EMBEDDED}
    assert sum(now["line"].values()) > 0.5 * sum(before["line"].values())


def test_a_text_that_is_none_costs_its_row_alone(whole: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(whole, tmp_path))
    with closing(sqlite3.connect(file)) as connection, connection:
        of_a_line = "where line_id = (select min(line_id) from text_line)"
        connection.execute(f"update text_line set text = cast(x'ff41' as text) {of_a_line}")
        connection.execute("update media set kind = 'vkdeo' where media_id = ?", (media_id_of(7),))
    renew(file)
    lost = {name: rows - rows_of(file)[name] for name, rows in rows_of(whole).items()}
    assert {name: sum(rows.values()) for name, rows in lost.items()} == {
        "media": 1,
        "path": 1,
        "skipped": 0,
        "line": 1,
        "reading": 0,
    }
    with closing(Catalog(file)) as catalog:
        (unsound,) = unsound_texts(catalog)
        assert (unsound.media_id, unsound.kind) == (media_id_of(0), SCREEN)
        assert unsound.reason == f"{N_LINES - 1} lines of screen are there, not {N_LINES}"
        forget_unsound(catalog, [unsound])
        assert lost_texts(catalog) == {SCREEN: [media_id_of(0)]}


def test_a_table_of_contents_that_is_no_text_is_damage(whole: Path, tmp_path: Path) -> None:
    """SQLite quotes it in its message, which Python cannot read then."""
    file = Path(shutil.copy(whole, tmp_path))
    blob = file.read_bytes()
    for name in (b"CREATE TABLE media", b"CREATE TABLE path", b"CREATE TABLE skipped"):
        blob = blob.replace(name, name.replace(b"TABLE", b"\xff\xfe\xfd\xff\xfe"))
    file.write_bytes(blob)
    with pytest.raises(LibraryDamaged, match=r"cannot be opened: .*; `ivsearch repair` sets it aside"):
        Catalog(file)
    assert renew(file).lacks_readings
    with closing(Catalog(file)) as catalog:
        assert catalog.spaces() == []


def test_words_that_do_not_fit_each_other_are_found(whole: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(whole, tmp_path))
    with closing(sqlite3.connect(file)) as connection, connection:
        tracks = [row[0] for row in connection.execute("select track_id from text_track order by track_id")]
        connection.execute("update text_line set text = 'another' where track_id = ?", tracks[:1])
        connection.execute("update text_track set n_tokens = 1 where track_id = ?", tracks[3:4])
        connection.execute("delete from text_track where source = 'screen' and media_id = ?", (media_id_of(6),))
    with closing(Catalog(file)) as catalog:
        reasons = [each.reason.split(" have ")[0] for each in unsound_texts(catalog)]
    assert reasons == [
        "a line does not fit what it is found by",
        "the lines of screen",
        "its words on screen are noted as read, and are not there",
    ]
