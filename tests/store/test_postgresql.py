"""A library whose catalog is on a PostgreSQL server: all acts, and what goes wrong with servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from ivsearch.domain import Ingested, Outcome, Skipped
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import LibraryBusy, LibraryError, UsageError
from ivsearch.library import Library, open_library
from ivsearch.settings import Settings
from ivsearch.store.catalog import Catalog
from ivsearch.store.engine import WRITER_LOCK
from tests.postgres import Postgres
from tests.postgres_server import PASSWORD, USER

from .conftest import SPACE, add


def library_at(folder: Path, url: str, mini: Encoder) -> Library:
    library = open_library(folder, settings=Settings(catalog=url))
    library.encoder = mini
    return library


@dataclass(frozen=True, slots=True)
class Made:
    """A library, and the name of its database."""

    folder: Path
    database: str


def outcomes(library: Library, *roots: Path) -> list[str]:
    return sorted(event.outcome.value for event in library.index(list(roots)) if isinstance(event, Ingested))


@pytest.fixture(scope="module")
def media(sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real pictures and a video. Read only."""
    folder = tmp_path_factory.mktemp("media")
    pictures = sorted(sample_media.glob("*.jpg"))[:4]
    for path in [*pictures, sample_media / "cartoon.mp4"]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def made(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, mini: Encoder, media: Path) -> Iterator[Made]:
    """The media indexed, once; every test works with a copy."""
    folder = tmp_path_factory.mktemp("made") / "library"
    with postgres.database() as name:
        with library_at(folder, postgres.url(name), mini) as library:
            assert outcomes(library, media) == ["indexed"] * 5
        yield Made(folder, name)


@pytest.fixture
def library(tmp_path: Path, postgres: Postgres, mini: Encoder, made: Made) -> Iterator[Library]:
    shutil.copytree(made.folder, tmp_path / "library")
    with (
        postgres.database(made.database) as name,
        library_at(tmp_path / "library", postgres.url(name), mini) as library,
    ):
        yield library


@pytest.fixture
def postgres_url(library: Library) -> str:
    """Of the library's catalog."""
    return library.settings.catalog


@pytest.fixture
def empty_url(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield postgres.url(name)


def test_every_act_is_as_with_a_file(library: Library, media: Path, mini: Encoder, tmp_path: Path) -> None:
    local = open_library(tmp_path / "local", settings=Settings())
    local.encoder = mini
    with local:
        assert outcomes(local, media) == ["indexed"] * 5

        def seen(each: Library) -> list[tuple]:
            return [(h.path, round(h.score, 5), h.start_s, h.end_s, h.moment) for h in each.search("a cat", k=5)]

        assert seen(library) == seen(local)
        assert library.ask("Where is the cat?").text == local.ask("Where is the cat?").text
        assert library.stats().totals == local.stats().totals
        assert library.stats().catalog_bytes > 1_000_000
        assert not (library.folder / "catalog.db").exists()
        assert outcomes(library, media) == ["unchanged"] * 5
        gone = sorted(media.glob("*.jpg"))[0]
        for each in (library, local):
            assert [removed.path for removed in each.remove(gone)] == [gone]
        assert seen(library) == seen(local)
        assert library.stats().totals == local.stats().totals
        assert list(library.verify()) == []
        assert list(library.repair()) == []


def test_the_library_remembers_its_catalog_but_no_password(
    library: Library, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, mini: Encoder
) -> None:
    for text in [path.read_text(errors="replace") for path in library.folder.glob("manifest*")]:
        assert "127.0.0.1" in text
        assert PASSWORD not in text
        assert "geheim" not in text
    library.close()
    again = open_library(library.folder, create=False, settings=Settings())
    again.encoder = mini
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(LibraryError, match=r"catalog postgresql\+psycopg://keeper@127.*PGPASSWORD or in the file"):
        again.search("a cat")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with again:
        assert again.search("a cat")
        assert again.stats().catalog.startswith(f"postgresql+psycopg://{USER}@127.0.0.1:{postgres.port}/")


def test_the_command_line(library: Library, postgres: Postgres, postgres_url: str, media: Path) -> None:
    outcomes(library, media)  # the copy has a database of another name; that is remembered now
    environment = {**os.environ, "PGPASSWORD": PASSWORD}
    for arguments in (["--catalog", postgres_url], []):
        command = [sys.executable, "-m", "ivsearch", "stats", "--json", "--library", str(library.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["media"] == 5
        assert document["catalog"] == postgres.url(sa.make_url(postgres_url).database or "", password=None)


def test_what_verify_finds_and_repair_mends(library: Library, media: Path) -> None:
    space = library.encoder.space
    engine = sa.create_engine(library.catalog.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        (video,) = connection.exec_driver_sql("SELECT media_id FROM media WHERE kind = 'video'").one()
        # As a restore of half a dump leaves it: a clip is missing, and nobody checks foreign keys meanwhile.
        connection.exec_driver_sql(
            "DELETE FROM clip WHERE clip_id = (SELECT max(clip_id) FROM clip WHERE media_id = %s)", (video,)
        )
        connection.exec_driver_sql("SET session_replication_role = replica")
        connection.exec_driver_sql("INSERT INTO path VALUES ('/v/lost.mp4', %s, 1, 1)", ("f" * 32,))
    found = list(library.verify())
    assert any("row of path points at a missing row of media" in each for each in found)
    assert any("clips are there, not" in each and "ivsearch repair" in each for each in found)
    assert any("forgot" in each for each in library.repair())
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM path WHERE path = '/v/lost.mp4'")
    assert outcomes(library, media) == ["indexed"] + ["unchanged"] * 4
    assert list(library.verify()) == []
    assert space in library.catalog.spaces()


# ---- whose a catalog is ----


def test_a_catalog_holds_one_library(library: Library, postgres_url: str, tmp_path: Path, mini: Encoder, media) -> None:
    other = library_at(tmp_path / "other", postgres_url, mini)
    with pytest.raises(UsageError, match=r"belongs to another library than .*other.*createdb -E UTF8"):
        outcomes(other, media)
    assert not (tmp_path / "other").exists(), "nothing is left behind"
    local = open_library(tmp_path / "local", settings=Settings())
    local.encoder = mini
    outcomes(local, next(media.glob("*.jpg")))
    local.close()
    with pytest.raises(UsageError, match="belongs to another library than"):
        library_at(tmp_path / "local", postgres_url, mini).search("a cat")
    assert library.stats().totals.media == 5


def test_a_library_is_not_led_to_an_empty_catalog(
    library: Library, postgres: Postgres, mini: Encoder, media: Path
) -> None:
    with postgres.database() as name:
        lost = library_at(library.folder, postgres.url(name), mini)
        with pytest.raises(
            UsageError, match=r"keeps its catalog in postgresql.*holds nothing of it. Leave out --catal"
        ):
            outcomes(lost, media)


def test_two_writers_from_two_folders(
    library: Library, postgres_url: str, tmp_path: Path, mini: Encoder, media
) -> None:
    """A copied folder is the same library, and has no lock in common with the first."""
    shutil.copytree(library.folder, tmp_path / "copy")
    copy = library_at(tmp_path / "copy", postgres_url, mini)
    run = library.index([media])
    next(run)
    with pytest.raises(
        LibraryBusy, match=r"another ivsearch is writing to the catalog postgresql.*from another folder"
    ):
        outcomes(copy, media)
    assert copy.search("a cat"), "readers are not kept out"
    list(run)
    assert outcomes(copy, media) == ["unchanged"] * 5
    copy.close()


# ---- what goes wrong with servers ----


def test_a_lock_that_was_lost_is_noticed_before_anything_is_written(empty_url: str) -> None:
    with closing(Catalog(empty_url)) as catalog, closing(Catalog(empty_url)) as other:
        held = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objid = :name"
        with catalog.only_writer():
            catalog.add_space(SPACE)
            with other.reader.begin() as connection:
                assert connection.scalars(sa.text(held), {"name": WRITER_LOCK}).all() == [True]
            with other.only_writer():  # another has it now
                with pytest.raises(LibraryError, match=r"cannot be used now: .*run the same command again"):
                    catalog.drop_space(SPACE)
                assert other.spaces() == [SPACE]
        with catalog.only_writer():
            catalog.drop_space(SPACE)
        assert other.spaces() == []


def test_paths_below_a_folder_are_looked_up(empty_url: str) -> None:
    with closing(Catalog(empty_url)) as catalog, catalog.reader.begin() as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        below = "path COLLATE \"C\" >= '/a/' AND path COLLATE \"C\" < '/a0'"
        plan = connection.scalars(sa.text(f"EXPLAIN SELECT * FROM path WHERE path = '/a' OR ({below})")).all()
        assert not [line for line in plan if "Seq Scan" in line] and "ix_path_bytes" in str(plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wrong-secret"}, r"password authentication failed.*PGPASSWORD or in the file ~/.pgpass"),
        ({"user": "nobody"}, r"failed for user|does not exist"),
        ({"database": "missing"}, r'database "missing" does not exist.*createdb -E UTF8 NAME'),
    ],
)
def test_who_is_not_let_in(postgres: Postgres, change: dict[str, str], message: str) -> None:
    url = postgres.url(**{"database": "postgres", **change})
    with pytest.raises(LibraryError, match=message) as caught:
        Catalog(url)
    assert "secret" not in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_no_server_there() -> None:
    with pytest.raises(LibraryError, match=r"keeper@127.0.0.1:9/x cannot be used now: .*Is the server running"):
        Catalog("postgresql://keeper:secret@127.0.0.1:9/x")
    with pytest.raises(LibraryError, match=r"Is the name of the host right\?"):
        Catalog("postgresql://keeper:secret@no.such.host.invalid/x")


@pytest.mark.parametrize("url", ["keeper:secret@host", "postgresql://keeper:secret@host:port/x"])
def test_a_url_that_makes_no_sense_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match=r"is no URL of a database: write postgresql\+psycopg://USER@HOST") as caught:
        Catalog(url)
    assert "secret" not in str(caught.value)


def test_a_password_among_the_options_is_hidden_too() -> None:
    with pytest.raises(LibraryError) as caught:
        Catalog("postgresql://keeper@127.0.0.1:9/x?password=secret&application_name=y")
    assert "secret" not in str(caught.value)
    assert "application_name=y" in str(caught.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"needs a driver: .*psycopg.*pip install 'ivsearch\[postgres\]'"):
        Catalog("postgresql://keeper:secret@127.0.0.1:9/x")


def test_a_user_without_rights(postgres: Postgres, empty_url: str, store) -> None:
    name = sa.make_url(empty_url).database or ""
    postgres.run("CREATE USER guest PASSWORD 'guest'", name)
    try:
        guest = postgres.url(name, "guest", "guest")
        with pytest.raises(LibraryError, match=r"permission denied for schema public.*GRANT CREATE, USAGE ON SCHEMA"):
            Catalog(guest)
        keeper = Catalog(empty_url)
        keeper.add_space(SPACE)
        add(keeper, store, [1])
        postgres.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", name)
        reader = Catalog(guest)
        assert len(reader.clips_of(SPACE)) == len(keeper.clips_of(SPACE)) > 0
        with pytest.raises(LibraryError, match="permission denied for table skipped"):
            reader.note_skipped([Skipped(Path("/x"), "y")])
        reader.close()
        keeper.close()
    finally:
        postgres.run("DROP OWNED BY guest; DROP USER guest", name)


def test_a_database_that_cannot_hold_all_names_is_refused(postgres: Postgres) -> None:
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(UsageError, match=r"keeps texts as LATIN1.*createdb -E UTF8"):
            Catalog(postgres.url("latin"))
    finally:
        postgres.run("DROP DATABASE latin WITH (FORCE)")


def test_the_server_goes_away_in_the_middle_of_a_run(
    library: Library, postgres: Postgres, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ivsearch.ingest.COMMIT_MEDIA", 1)
    library.remove(media)
    run = library.index([media])
    first = next(run)
    postgres.tell("stop")
    try:
        with pytest.raises(LibraryError, match=r"cannot be used now: .*run the same command again|Is the server runn"):
            list(run)
        with pytest.raises(LibraryError, match="cannot be used now"):
            library.search("a cat")
    finally:
        postgres.tell("start")
    # The same process goes on, as does the next.
    assert first.path in {hit.path for hit in library.search("a cat", k=9)} | {
        row.path for row in library.catalog.paths()
    }
    assert Outcome.UNCHANGED.value in outcomes(library, media)
    assert list(library.verify()) == []
    assert library.stats().totals.media == 5


WRITER = """
import os, sys
from pathlib import Path
import tests.store.conftest as rows
from ivsearch.domain import Space
from ivsearch.store.catalog import Catalog
from ivsearch.store.vector_store import VectorStore
catalog = Catalog(sys.argv[1])
catalog.add_space(rows.SPACE)
store = VectorStore(Path(sys.argv[2]), rows.SPACE)
print("ready", flush=True)
sys.stdin.readline()
seed = 1
while True:
    rows.add(catalog, store, [seed, seed + 1])
    seed += 2
    print(seed, flush=True)
"""


def test_a_writer_killed_in_the_middle_of_commits_while_others_read(empty_url: str, tmp_path: Path) -> None:
    """Each commit brings two Media with all their rows; readers see whole commits, and the reported ones stay."""
    catalog = Catalog(empty_url)
    command = [sys.executable, "-c", WRITER, empty_url, str(tmp_path / "vectors")]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin and writer.stdout
    writer.stdout.readline()
    for round_s in (0.15, 0.05, 0.2):
        writer.stdin.write("\n")
        writer.stdin.flush()
        said = [int(writer.stdout.readline())]
        deadline = time.monotonic() + round_s
        reads = 0
        while time.monotonic() < deadline or not reads:
            with catalog.snapshot():
                encodings, clips, paths = catalog.encodings(SPACE), catalog.clips_of(SPACE), catalog.paths()
            assert len(encodings) % 2 == 0
            assert len(paths) == len(encodings)
            assert len(clips) == sum(each.n_clips for each in encodings.values())
            reads += 1
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        assert len(catalog.encodings(SPACE)) >= said[-1] - 1
        assert list(catalog.complaints()) == []
        writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert writer.stdin and writer.stdout
        writer.stdout.readline()
    writer.kill()
    writer.wait()
    # Ids of killed transactions are not given again.
    ids = catalog.clip_ids(SPACE)
    assert len(ids) == len(set(ids))
    assert catalog.clip_stamp(SPACE).last_id == max(ids)
    catalog.close()
