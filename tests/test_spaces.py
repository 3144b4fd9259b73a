"""Two Spaces side by side: re-encoding while searches go on, stopping it anyhow, switching, going back, dropping."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ivsearch.domain import Ingested, Query, Skipped, Space
from ivsearch.encode import embed_images, load_encoder
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import LibraryBusy, LibraryDamaged, LibraryError, SpaceMismatch, UsageError
from ivsearch.library import Library, open_library
from ivsearch.pipeline import Options
from ivsearch.settings import Settings
from ivsearch.store.catalog import Catalog
from ivsearch.store.index_writer import Wishes
from ivsearch.store.lock import writer_lock
from ivsearch.store.manifest import EncoderSource, write_manifest
from ivsearch.store.orphans import Orphans
from ivsearch.store.reencoding_state import LOCK, ReencodingState, Stage, read_state, reencoding_lock, write_state
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore

FILES = ("pet.jpg", "night.jpg", "table.jpg", "call.mp4", "cartoon.mp4")
# When one that encodes is killed: after it reported so many files, and up to so many seconds more.
KILLS = ((0, 0.3), (1, 0.0), (1, 0.05), (1, 0.1))


@pytest.fixture(scope="module")
def weights(shared: Path) -> tuple[Path, Path]:
    """Of the old and of the new encoder: two tiny checkpoints in the official layout."""
    return shared / "parity" / "internvl14b_realtok", shared / "parity" / "internvl14b_single"


@pytest.fixture(scope="module")
def old(weights: tuple[Path, Path]) -> Encoder:
    return load_encoder("internvl-c", weights=weights[0])


@pytest.fixture(scope="module")
def new(weights: tuple[Path, Path]) -> Encoder:
    return load_encoder("internvl-c", weights=weights[1])


@pytest.fixture(autouse=True)
def loaded_once(old: Encoder, new: Encoder, weights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries load the two encoders as ever, but not from disk again."""
    from ivsearch import encoder_source

    cache = {str(weights[0]): old, str(weights[1]): new}
    original = encoder_source.load

    def load(source: EncoderSource, settings: Settings) -> Encoder:
        return cache.get(source.weights) or original(source, settings)

    for module in ("encoder_in_use", "rerankers"):
        monkeypatch.setattr(f"ivsearch.{module}.load", load)


def with_encoder(folder: Path, weights: Path) -> Library:
    """As a user who names the encoder."""
    return open_library(folder, settings=Settings(encoder="internvl-c", weights=str(weights), batch=4, workers=1))


def unnamed(folder: Path) -> Library:
    """As a user who leaves the encoder to the library."""
    return open_library(folder, settings=Settings(workers=1))


@pytest.fixture(scope="module")
def media(sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name in FILES:
        shutil.copy(sample_media / name, folder)
    return folder


@pytest.fixture(scope="module")
def base(media: Path, old: Encoder, weights: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the old encoder alone."""
    folder = tmp_path_factory.mktemp("base") / "library"
    with with_encoder(folder, weights[0]) as library:
        library.encoder = old
        assert all(isinstance(event, Ingested) for event in library.index(media))
    return folder


@pytest.fixture(scope="module")
def both(base: Path, new: Encoder, weights: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the new encoder's Space, complete and in use."""
    folder = tmp_path_factory.mktemp("both") / "library"
    shutil.copytree(base, folder)
    with with_encoder(folder, weights[1]) as library:
        library.encoder = new
        assert {event.path.name for event in library.add_space() if isinstance(event, Ingested)} == set(FILES)
    return folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "library"))


@pytest.fixture
def folder_of_both(both: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(both, tmp_path / "library"))


@pytest.fixture
def own(media: Path, weights: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A library of pictures that the test may change, and their folder."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in FILES[:3]:
        shutil.copy(media / name, pictures)
    with with_encoder(tmp_path / "library", weights[0]) as library:
        assert len(list(library.index(pictures))) == 3
    return tmp_path / "library", pictures


def rows(folder: Path, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(folder / "catalog.db")) as connection:
        return connection.execute(sql).fetchall()


def vectors_of(folder: Path, space: Space) -> dict[str, tuple]:
    """Media → times, kept frames and vectors, by the catalog's own words."""
    from ivsearch.store.catalog import Record

    store = VectorStore(folder / "vectors", space)
    sql = f"SELECT media_id, segment, offset_bytes, size_bytes FROM encoding WHERE space_key = '{space.key}'"
    found = {media_id: store.read(Record(*place)) for media_id, *place in rows(folder, sql)}
    return {media_id: (each.sample_pts_s, each.kept, each.vectors) for media_id, each in found.items()}


def check_sound(folder: Path) -> None:
    with unnamed(folder) as library:
        assert list(library.verify()) == []
        assert len(library.search("a cat", k=20, per_media=1)) == len(rows(folder, "SELECT * FROM media"))
        assert library.searcher().complaints == []


# ---- re-encoding ----


def test_the_new_space_has_the_same_frames_and_is_switched_to_whole(
    both: Path, base: Path, media: Path, old: Encoder, new: Encoder
) -> None:
    before, after = vectors_of(both, old.space), vectors_of(both, new.space)
    assert before.keys() == after.keys() and len(after) == len(FILES)
    for media_id in before:
        np.testing.assert_array_equal(before[media_id][0], after[media_id][0])
        np.testing.assert_array_equal(before[media_id][1], after[media_id][1])
    picture = next(row[0] for row in rows(both, f"SELECT media_id FROM path WHERE path = '{media / 'pet.jpg'}'"))
    wanted = embed_images(new, [media / "pet.jpg"]).vectors
    np.testing.assert_allclose(after[picture][2].astype(np.float32), wanted, atol=2e-3)
    manifest = json.loads((both / "manifest.json").read_bytes())
    assert manifest["active"]["revision"] == new.space.revision
    assert manifest["previous"]["revision"] == old.space.revision
    with unnamed(both) as library:
        # The first search after the switch finds the index ready.
        index, stamp = VectorIndex.load(both / "index", new.space)
        assert stamp == library.catalog.clip_stamp(new.space) and len(index) > 0
        state = library.reencoding()
        assert state and (state.stage, state.media_done, state.media_total) == (Stage.DONE, len(FILES), len(FILES))
        hits = library.find(Query(image=media / "pet.jpg"))
        assert hits.space == new.space and hits[0].path.name == "pet.jpg"
    check_sound(both)
    thumbs = {(path.parent.name, int(path.stem)) for path in (both / "thumbs").rglob("*.jpg")}
    assert thumbs == {(m, round(s * 1000)) for m, s in rows(both, "SELECT media_id, start_s FROM clip")}


def test_nothing_is_encoded_twice(folder_of_both: Path, weights: tuple[Path, Path]) -> None:
    segments = sorted((path, path.stat().st_size) for path in (folder_of_both / "vectors").rglob("*.seg"))
    with with_encoder(folder_of_both, weights[1]) as library:
        assert list(library.add_space()) == []
    assert sorted((path, path.stat().st_size) for path in (folder_of_both / "vectors").rglob("*.seg")) == segments


def test_without_a_switch_searches_stay(folder: Path, weights: tuple[Path, Path], old: Encoder, new: Encoder) -> None:
    with with_encoder(folder, weights[1]) as library:
        assert len(list(library.add_space(switches=False))) == len(FILES)
    with unnamed(folder) as library:
        assert library.find(Query("a cat")).space == old.space
        assert library.use_space(new.space.key) == new.space
        assert library.find(Query("a cat")).space == new.space


def test_a_library_without_media_has_nothing_to_encode(tmp_path: Path, weights: tuple[Path, Path]) -> None:
    with (
        with_encoder(tmp_path / "library", weights[1]) as library,
        pytest.raises(UsageError, match="holds no media to encode again: ivsearch index FOLDER --encoder NAME"),
    ):
        list(library.add_space())


def test_a_space_is_not_dropped_as_soon_as_its_encoder_is_known(
    folder: Path, weights: tuple[Path, Path], new: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ivsearch.reencoding import Reencoding

    count, refused = Reencoding._count, []

    def drop_before(run: Reencoding) -> None:
        with unnamed(folder) as other, pytest.raises(LibraryBusy, match="is being added to") as error:
            other.drop_space(new.space.key)
        refused.append(error)
        count(run)

    monkeypatch.setattr(Reencoding, "_count", drop_before)
    with with_encoder(folder, weights[1]) as library:
        next(library.add_space(switches=False))
    assert refused


def test_a_space_that_is_dropped_all_the_same(folder: Path, weights: tuple[Path, Path], new: Encoder) -> None:
    with with_encoder(folder, weights[1]) as library:
        original = library.catalog.spaces
        library.catalog.spaces = lambda: library.catalog.drop_space(new.space) or original()  # type: ignore
        with pytest.raises(LibraryError, match=f"{new.space.key} was dropped while .*run the same command again"):
            list(library.add_space())
        del library.catalog.spaces
        state = library.reencoding()
        assert state and state.stage is Stage.FAILED and "was dropped" in state.error
        assert len(list(library.add_space())) == len(FILES)
    check_sound(folder)


def test_who_looks_does_not_make_a_killed_one_seem_to_run(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    write_state(tmp_path, ReencodingState(1, "mini", stage=Stage.ENCODING))
    seen: list[Stage] = []

    def look() -> None:
        for _ in range(200):
            state = read_state(tmp_path)
            seen.append(state.stage if state else Stage.LOADING)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 600 and set(seen) == {Stage.KILLED}


def test_media_indexed_meanwhile_are_in_both_before_it_ends(
    own: tuple[Path, Path], media: Path, weights: tuple[Path, Path], old: Encoder, new: Encoder
) -> None:
    folder, pictures = own
    with with_encoder(folder, weights[1]) as library, unnamed(folder) as user:
        run = library.add_space()
        next(run)  # under way, and not writing now
        shutil.copy(media / "call.mp4", pictures)
        assert {event.path.name for event in user.index() if isinstance(event, Ingested)} == {
            *FILES[:3],
            "call.mp4",
        }
        assert "call.mp4" in {hit.path.name for hit in user.search("a man", k=9)}  # searchable at once
        assert {event.path.name for event in run} >= {"call.mp4"}
    assert rows(folder, "SELECT space_key, count(*) FROM encoding GROUP BY 1 ORDER BY 1") == sorted(
        [(old.space.key, 4), (new.space.key, 4)]
    )
    check_sound(folder)


def test_media_forgotten_meanwhile_do_not_come_back(own: tuple[Path, Path], weights: tuple[Path, Path]) -> None:
    folder, pictures = own
    with with_encoder(folder, weights[1]) as library, unnamed(folder) as user:
        original = library.catalog.media

        def forget_first(media_ids: list[str]) -> dict:
            user.remove(pictures / "night.jpg")
            return original(media_ids)

        library.catalog.media = forget_first  # type: ignore[method-assign] # what a commit asks for
        with pytest.MonkeyPatch.context() as patch:
            # The commit holds the library for writing, so forgetting has to come from inside it.
            patch.setattr("ivsearch.care.writers_turn", lambda folder, catalog: contextlib.nullcontext())
            list(library.add_space())
    assert rows(folder, "SELECT count(*) FROM media") == [(2,)]
    check_sound(folder)


def test_vectors_that_are_compacted_before_they_are_taken_up_are_found_where_they_are(
    folder_of_both: Path, weights: tuple[Path, Path], new: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, wanted = folder_of_both, vectors_of(folder_of_both, new.space)
    (segment,) = (folder / "vectors" / new.space.key).glob("*.seg")
    with segment.open("ab") as file:
        file.write(b"torn bytes, so that there is something to free")
    with contextlib.closing(sqlite3.connect(folder / "catalog.db")) as connection, connection:
        connection.execute("DELETE FROM clip WHERE space_key = ?", (new.space.key,))
        connection.execute("DELETE FROM encoding WHERE space_key = ?", (new.space.key,))
    original = Orphans.find
    with with_encoder(folder, weights[1]) as library, unnamed(folder) as user:

        def compacted(self: Orphans, media_id: str, sampling: str) -> object:
            found = original(self, media_id, sampling)
            if segment.exists():
                user.compact()
            return found

        monkeypatch.setattr(Orphans, "find", compacted)
        assert len(list(library.add_space())) == len(FILES)
        assert not segment.exists()
        user.compact()
    found = vectors_of(folder, new.space)
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[each][2], wanted[each][2]) for each in wanted)


def test_files_that_cannot_be_read_keep_their_old_vectors_and_hold_back_the_switch(
    own: tuple[Path, Path], media: Path, weights: tuple[Path, Path], old: Encoder, new: Encoder
) -> None:
    folder, pictures = own
    (pictures / "night.jpg").unlink()
    shutil.copy(media / "pet.jpg", pictures / "table.jpg")
    with with_encoder(folder, weights[1]) as library:
        events = {event.path.name: event for event in library.add_space()}
        reasons = {name: event.reason for name, event in events.items() if isinstance(event, Skipped)}
        assert reasons == {
            "night.jpg": "is not there (moved, deleted, or its disk is not mounted)",
            "table.jpg": "holds something else now",
        }
        state = library.reencoding()
        assert state and state.stage is Stage.DONE
        assert {Path(each.path).name for each in state.unread} == set(reasons)
    with unnamed(folder) as library:
        assert library.find(Query("night")).space == old.space and len(library.search("night", k=9)) == 3
        advice = (
            rf"2 of 3 media have no vectors in {new.space.key} and would not be found. Add them: ivsearch spaces add "
            rf"--encoder internvl-c --weights .*internvl14b_single --library .*ivsearch spaces use {new.space.key} -"
        )
        with pytest.raises(UsageError, match=advice):
            library.use_space(new.space.key)
        library.use_space(new.space.key, anyway=True)
        assert [hit.path.name for hit in library.search("night", k=9)] == ["pet.jpg"]
        assert any("some media have no vectors" in complaint for complaint in library.searcher().complaints)
        library.switch_back()
        list(library.index())  # forgets what is gone
    with with_encoder(folder, weights[1]) as library:
        assert not [event for event in library.add_space() if isinstance(event, Skipped)]
    check_sound(folder)
    assert rows(folder, "SELECT count(*) FROM encoding") == [(2,)]


def test_what_a_killed_index_left_without_a_file_is_not_waited_for(
    own: tuple[Path, Path], weights: tuple[Path, Path], new: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pictures = own
    with (pictures / "table.jpg").open("ab") as file:
        file.write(b"edited")
    with unnamed(folder) as library, monkeypatch.context() as patch:
        patch.setattr("ivsearch.ingest.Ingest._remove_gone", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(library.index())
    assert rows(folder, "SELECT (SELECT count(*) FROM media), (SELECT count(*) FROM path)") == [(4, 3)]
    with with_encoder(folder, weights[1]) as library:
        run, encoded = library.add_space(), []
        for event in run:
            encoded.append(event.path.name)
            assert len(encoded) <= 3
        assert sorted(encoded) == sorted(FILES[:3])
        states = {each.key: each for each in library.spaces()}
        assert [(each.media_encoded, each.media_total) for each in states.values()] == [(3, 3), (3, 3)]
        assert states[new.space.key].is_active and states[new.space.key].is_complete
        assert library.catalog.is_complete(new.space) and library.searcher().complaints == []
        list(library.index())  # ends what was interrupted
    assert rows(folder, "SELECT count(*) FROM media") == [(3,)]
    check_sound(folder)


def test_a_moved_file_is_found_by_what_it_holds(own: tuple[Path, Path], weights: tuple[Path, Path]) -> None:
    folder, pictures = own
    os.utime(pictures / "pet.jpg", (1, 1))  # touched, and the same
    with with_encoder(folder, weights[1]) as library:
        assert {event.path.name for event in library.add_space() if isinstance(event, Ingested)} == set(FILES[:3])


def test_one_writer_waits_for_the_other(own: tuple[Path, Path], weights: tuple[Path, Path]) -> None:
    folder, _ = own
    done: list[object] = []

    def work() -> None:
        with with_encoder(folder, weights[1]) as library:
            done.extend(library.add_space())

    job = threading.Thread(target=work)
    with unnamed(folder) as reader:
        with writer_lock(folder):
            job.start()
            wait_until(
                lambda: (state := reader.reencoding()) is not None and state.stage is Stage.WAITING,
                "it does not come to wait",
            )
            assert done == [] and len(reader.search("a cat")) == 3
        job.join()
    assert len(done) == 3
    check_sound(folder)


def test_one_reencoding_at_a_time(folder: Path, weights: tuple[Path, Path], new: Encoder) -> None:
    with with_encoder(folder, weights[1]) as library, unnamed(folder) as other:
        run = library.add_space()
        next(run)
        with pytest.raises(
            LibraryBusy,
            match=rf"a re-encoding to internvl-c \(process {os.getpid()}\) is under way already in .*spaces stop",
        ):
            next(other.add_space())
        with pytest.raises(LibraryBusy, match=r"is being added to .*stop that first with `ivsearch spaces stop`"):
            other.drop_space(new.space.key)
        with pytest.raises(LibraryBusy, match=r"a re-encoding to internvl-c .* is under way already in .*spaces stop"):
            list(other.repair())
        run.close()
        state = other.reencoding()
        assert state and state.stage is Stage.STOPPED
        assert other.drop_space(new.space.key) == new.space.key
        with reencoding_lock(folder):
            (folder / "reencoding.json").unlink()
            with pytest.raises(LibraryBusy, match=r"\(its process has just begun\)"):
                next(other.add_space())


def test_how_frames_were_chosen_must_make_sense() -> None:
    assert Options().sampled_as("fps=0.5 gate=off").sampling == "fps=0.5 gate=off"
    with pytest.raises(LibraryDamaged, match="nobody knows how frames were chosen by 'often'"):
        Options().sampled_as("often")


def test_frames_are_chosen_as_for_the_old_space(
    own: tuple[Path, Path], media: Path, weights: tuple[Path, Path]
) -> None:
    folder, pictures = own
    shutil.copy(media / "call.mp4", pictures)
    with unnamed(folder) as library:
        list(library.index(fps=2.0))
        list(library.index(pictures / "pet.jpg", fps=1.0))  # the library's rate from now on; call.mp4 keeps its own
    with with_encoder(folder, weights[1]) as library:
        list(library.add_space())
    assert rows(folder, "SELECT sampling, count(*) FROM encoding GROUP BY 1 ORDER BY 1") == [
        ("fps=1 gate=on", 2),
        ("fps=2 gate=on", 6),
    ]


# ---- going on after anything ----

ZYGOTE = """
import json, os, resource, signal, sys, time
import torch
from ivsearch import reencoding, spaces, library as library_module
from ivsearch.domain import Query
from ivsearch.encode import load_encoder
from ivsearch.library import open_library
from ivsearch.settings import Settings
from ivsearch.store import manifest
from ivsearch.store.catalog import Catalog
torch.set_num_threads(1)  # no thread exists before the fork
reencoding.COMMIT_MEDIA, reencoding.COMMIT_S = 1, 0.0
encoders = {weights: load_encoder("internvl-c", weights=weights) for weights in sys.argv[1:]}
library_module.load = lambda source, settings: encoders[source.weights]


def dies(place, name, points):
    # Every call has two points at which the power may go: just before it and just after.
    call = getattr(place, name)
    def counted(*arguments, **named):
        if not points.pop(): os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **named)
        if not points.pop(): os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(place, name, counted)


def act(wish, out):
    weights = wish.get("weights", "")
    settings = Settings(encoder="internvl-c" if weights else "", weights=weights, batch=4, workers=1)
    library = open_library(wish["folder"], settings=settings)
    if "die_at" in wish:
        points = [True] * 1000 + [False] + [True] * wish["die_at"]
        for place, name in ((manifest, "replace_file"), (spaces, "save_index"), (Catalog, "drop_space"),
                            (spaces.shutil, "rmtree")):
            dies(place, name, points)
    if "file_bytes" in wish:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (wish["file_bytes"], resource.RLIM_INFINITY))
    if wish["act"] == "add":
        for event in library.add_space():
            print(event.path.name, file=out)
    elif wish["act"] == "drop":
        library.drop_space(wish["key"])
    else:
        while True:
            time.sleep(0.03)  # others have to work, too
            hits = library.find(Query("a cat"), k=5)
            print(json.dumps([hits.space.key, [hit.clip_id for hit in hits], library.searcher().complaints]), file=out)


for line in sys.stdin:
    wish = json.loads(line)
    pid = os.fork()
    if pid == 0:
        with open(wish["said"], "w", buffering=1) as out:
            try:
                act(wish, out)
                print("done", file=out)
            except BaseException as error:
                print(f"error {type(error).__name__}: {error}", file=out)
        os._exit(0)
    print(pid, flush=True)
"""


class Processes:
    """Acts on libraries, each in a process of its own that can be killed; the encoders are loaded once."""

    def __init__(self, said: Path, weights: tuple[Path, Path]) -> None:
        self.said = said
        said.mkdir()
        self._zygote = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE, *map(str, weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._pids: list[int] = []

    def start(self, act: str, folder: Path, **wishes: object) -> tuple[int, Path]:
        said = self.said / f"{len(self._pids)}.txt"
        assert self._zygote.stdin and self._zygote.stdout
        wish = {"act": act, "folder": str(folder), "said": str(said), **wishes}
        self._zygote.stdin.write(json.dumps(wish) + "\n")
        self._pids.append(int(self._zygote.stdout.readline()))
        return self._pids[-1], said

    def run(self, act: str, folder: Path, **wishes: object) -> list[str]:
        """What it said until it ended, or died."""
        pid, said = self.start(act, folder, **wishes)
        wait_for_end(pid)
        return said.read_text().splitlines()

    def close(self) -> None:
        for pid in self._pids:
            if not is_gone(pid):
                os.kill(pid, signal.SIGKILL)
        self._zygote.kill()
        self._zygote.wait()


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def wait_for_end(pid: int) -> None:
    wait_until(lambda: is_gone(pid), "the process does not end")


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def text_of(path: Path) -> str:
    """Empty for a file that its process has not opened yet."""
    return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def processes(weights: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(tmp_path_factory.mktemp("processes") / "said", weights)
    yield processes
    processes.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_again_and_again_while_others_search(
    processes: Processes, folder: Path, both: Path, weights: tuple[Path, Path], old: Encoder, new: Encoder
) -> None:
    reader, results = processes.start("search", folder)
    wait_until(lambda: "\n" in text_of(results), "nobody searches")
    rng = random.Random(20261122)
    killed = 0
    for n_reported, most_s in KILLS:
        pid, said = processes.start("add", folder, weights=str(weights[1]))
        while text_of(said).count("\n") < n_reported and not is_gone(pid):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, most_s))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
        reported = set(text_of(said).split()) - {"done"}
        in_catalog = rows(
            folder,
            f"SELECT path FROM path JOIN encoding USING (media_id) WHERE space_key = '{new.space.key}'",
        )
        assert reported <= {Path(path).name for (path,) in in_catalog}
        with unnamed(folder) as library:
            assert list(library.verify()) == []
            state = library.reencoding()
            if state and state.stage is Stage.KILLED:
                killed += 1
    assert killed >= 1
    assert processes.run("add", folder, weights=str(weights[1]))[-1] == "done"
    wait_until(
        lambda: f'["{new.space.key}"' in text_of(results) and text_of(results).count("\n") > 20,
        "a search that goes on never came to use the new space",
    )
    os.kill(reader, signal.SIGKILL)
    wait_for_end(reader)

    # As if it had never been stopped.
    straight, stopped = vectors_of(both, new.space), vectors_of(folder, new.space)
    assert straight.keys() == stopped.keys()
    for media_id in straight:
        np.testing.assert_array_equal(straight[media_id][0], stopped[media_id][0])
        np.testing.assert_array_equal(straight[media_id][1], stopped[media_id][1])
        np.testing.assert_allclose(
            straight[media_id][2].astype(np.float32), stopped[media_id][2].astype(np.float32), atol=2e-3
        )
    check_sound(folder)

    # Whoever searched meanwhile never met an error, and was in one Space at a time: first the old one, then the new.
    space_of = dict(rows(folder, "SELECT clip_id, space_key FROM clip"))
    *lines, _ = results.read_text().split("\n")
    answers = [json.loads(line) for line in lines]
    assert len(answers) > 20
    for key, clip_ids, complaints in answers:
        assert complaints == [] and len(clip_ids) == 5
        assert {space_of[clip_id] for clip_id in clip_ids} == {key}
    order = [key for i, (key, *_) in enumerate(answers) if i == 0 or answers[i - 1][0] != key]
    assert order == [old.space.key, new.space.key]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_the_switch_is_made_or_not_made(
    processes: Processes, both: Path, weights: tuple[Path, Path], old: Encoder, new: Encoder, tmp_path: Path
) -> None:
    seen = []
    for point in range(100):
        folder = Path(shutil.copytree(both, tmp_path / f"at-{point}"))
        with unnamed(folder) as library:
            library.switch_back()
        said = processes.run("add", folder, weights=str(weights[1]), die_at=point)
        with unnamed(folder) as library:
            seen.append(library.find(Query("a cat")).space)
        check_sound(folder)
        if said:
            break
        assert processes.run("add", folder, weights=str(weights[1])) == ["done"]
        with unnamed(folder) as library:
            assert library.manifest().active == new.space
        shutil.rmtree(folder)
    assert said == ["done"] and len(seen) >= 6
    made = seen.index(new.space)
    assert seen[:made] == [old.space] * made and seen[made:] == [new.space] * (len(seen) - made) and made > 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_drop_that_was_killed_is_ended_by_the_next(
    processes: Processes, both: Path, old: Encoder, new: Encoder, tmp_path: Path
) -> None:
    complaints = []
    for point in range(100):
        folder = Path(shutil.copytree(both, tmp_path / f"at-{point}"))
        said = processes.run("drop", folder, key=old.space.key, die_at=point)
        with unnamed(folder) as library:
            complaints.append(list(library.verify()))
            assert library.find(Query("a cat")).space == new.space
            if said:
                break
            if complaints[-1]:
                assert complaints[-1] == [
                    f"the space {old.space.key} is dropped only in part; `ivsearch spaces drop {old.space.key}` ends it"
                ]
                with pytest.raises(UsageError, match="is dropped only in part: end that first"):
                    library.use_space(old.space.key)
            if old.space.key in {each.key for each in library.spaces()}:
                library.drop_space(old.space.key)
            assert [each.key for each in library.spaces()] == [new.space.key]
        check_sound(folder)
        assert not list(folder.rglob(f"*{old.space.key}*"))
        shutil.rmtree(folder)
    assert said == ["done"] and sum(bool(each) for each in complaints) >= 6
    thumbs = {(path.parent.name, int(path.stem)) for path in (folder / "thumbs").rglob("*.jpg")}
    assert thumbs == {(m, round(s * 1000)) for m, s in rows(folder, "SELECT media_id, start_s FROM clip")}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits on Windows")
def test_a_full_disk_stops_it_and_it_goes_on(
    processes: Processes, folder: Path, weights: tuple[Path, Path], new: Encoder
) -> None:
    # Dead bytes make the segment the largest file, so that it is the one that meets the limit.
    segment = folder / "vectors" / new.space.key / "000001.seg"
    segment.parent.mkdir()
    segment.write_bytes(bytes(2_000_000))
    said = processes.run("add", folder, weights=str(weights[1]), file_bytes=2_002_500)
    assert said[-1].startswith("error OSError") and "too large" in said[-1]
    assert segment.stat().st_size == 2_002_500
    with unnamed(folder) as library:
        state = library.reencoding()
        assert state and state.stage is Stage.FAILED and state.error in said[-1]
        assert state.media_done == len(said) - 1 >= 1
        assert list(library.verify()) == []
        assert len(library.search("a cat", per_media=1)) == len(FILES)
    assert processes.run("add", folder, weights=str(weights[1]))[-1] == "done"
    check_sound(folder)


# ---- switching, going back, dropping ----


def test_going_back_and_forth(folder_of_both: Path, old: Encoder, new: Encoder) -> None:
    with unnamed(folder_of_both) as library:
        assert [library.switch_back(), library.switch_back()] == [old.space, new.space]
        assert library.find(Query("a cat")).space == new.space


def test_going_back_is_refused_when_media_have_come(
    own: tuple[Path, Path], media: Path, weights: tuple[Path, Path], old: Encoder
) -> None:
    folder, pictures = own
    with with_encoder(folder, weights[1]) as library:
        list(library.add_space())
    shutil.copy(media / "call.mp4", pictures)
    with unnamed(folder) as library:
        list(library.index())
        states = {each.key: each for each in library.spaces()}
        assert (states[old.space.key].media_encoded, states[old.space.key].media_total) == (3, 4)
        with pytest.raises(UsageError, match=r"1 of 4 media have no vectors in .*Add them: ivsearch spaces add"):
            library.switch_back()
    with with_encoder(folder, weights[0]) as library:
        assert [event.path.name for event in library.add_space()] == ["call.mp4"]
        assert library.manifest().active == old.space
    check_sound(folder)


def test_whoever_builds_an_index_keeps_to_the_memory_budget(
    folder_of_both: Path, old: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ivsearch.store import refresh

    budgets: list[int] = []

    def save_index(folder: Path, catalog: Catalog, space: Space, wishes: Wishes) -> None:
        budgets.append(wishes.memory_budget_bytes)
        refresh.save_index(folder, catalog, space, wishes)

    for module in ("spaces", "reencoding", "care"):
        monkeypatch.setattr(f"ivsearch.{module}.save_index", save_index)
    with open_library(folder_of_both, settings=Settings(workers=1, memory_budget="6GB")) as library:
        library.use_space(old.space.key)
        library.switch_back()
        list(library.add_space(switches=False))
        library.remove(folder_of_both)
        list(library.repair())
    assert len(budgets) >= 7 and set(budgets) == {6_000_000_000}


def test_nothing_to_go_back_to(folder: Path) -> None:
    with unnamed(folder) as library, pytest.raises(UsageError, match="no other space was used before"):
        library.switch_back()


def test_spaces_by_name(folder_of_both: Path, old: Encoder, new: Encoder) -> None:
    with unnamed(folder_of_both) as library:
        assert library.use_space(old.space.key[:14]) == old.space
        with pytest.raises(UsageError, match=r"'internvl-c' fits several spaces: say which: .*, "):
            library.use_space("internvl-c")
        with pytest.raises(UsageError, match=r"this library has no space 'mini'; it has: internvl-c-"):
            library.use_space("mini")


def test_the_space_in_use_is_not_dropped(folder_of_both: Path, new: Encoder) -> None:
    with (
        unnamed(folder_of_both) as library,
        pytest.raises(UsageError, match=rf"{new.space.key} is what searches use: switch to another first"),
    ):
        library.drop_space(new.space.key)


def test_a_space_that_is_being_dropped_takes_no_vectors(
    folder_of_both: Path, weights: tuple[Path, Path], old: Encoder
) -> None:
    with with_encoder(folder_of_both, weights[0]) as library:
        write_manifest(folder_of_both, library.manifest().without(old.space.key))
        for act in (library.add_space, library.index):
            with pytest.raises(UsageError, match="dropped only in part: end that first"):
                list(act())
        library.drop_space(old.space.key)
        assert len(list(library.add_space(switches=False))) == len(FILES)  # anew
    check_sound(folder_of_both)


def test_clips_of_another_space_are_told_apart(folder_of_both: Path, old: Encoder, new: Encoder) -> None:
    clip = rows(folder_of_both, f"SELECT clip_id FROM clip WHERE space_key = '{old.space.key}'")[0][0]
    with unnamed(folder_of_both) as library:
        message = rf"clip {clip} is one of {old.space.key}, and this search is in {new.space.key}, which has clips"
        with pytest.raises(UsageError, match=message):
            library.search(clip=clip)
        library.switch_back()
        assert library.search(clip=clip)
        library.switch_back()
        library.drop_space(old.space.key)
        with pytest.raises(UsageError, match=f"there is no clip {clip} in this library"):
            library.search(clip=clip)


def test_indexing_with_one_encoder_leaves_what_others_need(
    folder: Path, media: Path, weights: tuple[Path, Path]
) -> None:
    before = set((folder / "thumbs").rglob("*.jpg"))
    with with_encoder(folder, weights[1]) as library:
        list(library.index(media / "pet.jpg"))
    assert before <= set((folder / "thumbs").rglob("*.jpg"))


# ---- those who search meanwhile ----


def test_who_named_an_encoder_stays_with_it_until_it_is_dropped(
    folder: Path, weights: tuple[Path, Path], old: Encoder, new: Encoder
) -> None:
    with with_encoder(folder, weights[0]) as named, unnamed(folder) as reader, with_encoder(folder, weights[1]) as job:
        assert named.find(Query("a cat")).space == reader.find(Query("a cat")).space == old.space
        list(job.add_space())
        assert named.find(Query("a cat")).space == old.space
        assert reader.find(Query("a cat")).space == new.space
        reader.drop_space(old.space.key)
        with pytest.raises(SpaceMismatch, match=r"has no vectors of internvl-c .*Add them"):
            named.find(Query("a cat"))


def test_a_space_that_is_dropped_while_it_is_searched(
    folder_of_both: Path, old: Encoder, new: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ivsearch.search.search import Search

    with unnamed(folder_of_both) as reader, unnamed(folder_of_both) as other:
        other.switch_back()
        assert reader.find(Query("a cat")).space == old.space
        original = Search.find

        def find(search: Search, *arguments: object) -> object:
            if search.encoder.space == old.space:
                other.switch_back()
                other.drop_space(old.space.key)
            return original(search, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Search, "find", find)
        hits = reader.find(Query("a cat"), k=5)
        assert hits.space == new.space and len(hits) == 5


def test_an_encoder_that_cannot_be_loaded_here_is_not_followed(
    folder: Path, weights: tuple[Path, Path], old: Encoder, new: Encoder, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(weights[1], tmp_path / "weights"))
    with unnamed(folder) as reader, with_encoder(folder, copied) as job:
        reader.search("a cat")
        job.encoder = new
        list(job.add_space())
        shutil.rmtree(copied)
        assert reader.find(Query("a cat")).space == old.space
        assert any(
            "this library was switched to internvl-c, which cannot be loaded here" in complaint
            for complaint in reader.searcher().complaints
        )


def test_a_lock_file_that_nobody_holds_is_no_reencoding(folder: Path) -> None:
    (folder / LOCK).touch()
    with unnamed(folder) as library:
        assert library.reencoding() is None


def test_verify_beside_a_drop_finds_nothing_wrong(
    both: Path, old: Encoder, weights: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each of its steps; and once it was stopped there, what is left to do is told."""
    from ivsearch import spaces

    folder = tmp_path / "library"
    shutil.copytree(both, folder)
    found: list[str] = []

    def watched(place: object, name: str) -> None:
        act = getattr(place, name)

        def beside(*given: object, **named: object) -> object:
            with with_encoder(folder, weights[1]) as other:
                found.extend(other.verify())
                done = act(*given, **named)
                found.extend(other.verify())
                return done

        monkeypatch.setattr(place, name, beside)

    for place, name in ((spaces, "write_manifest"), (Catalog, "drop_space"), (spaces.shutil, "rmtree")):
        watched(place, name)
    with with_encoder(folder, weights[1]) as library:
        library.drop_space(old.space.key)
        assert found == []
        manifest = library.manifest()
        write_manifest(folder, replace(manifest, dropping=("gone",)))
        assert list(library.verify()) == ["the space gone is dropped only in part; `ivsearch spaces drop gone` ends it"]
        (folder / "writer.lock.pid").write_text(f"{os.getpid()}\n")
        assert list(library.verify()) == [], "whoever writes may be at it"
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        (folder / "writer.lock.pid").write_text(f"{ended.pid}\n")
        assert len(list(library.verify())) == 1, "one that was killed is not"
