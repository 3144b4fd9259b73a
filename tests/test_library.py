"""A Library over real media with the real encoder: what indexing promises, and what care mends."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ivsearch.domain import Filters, Ingested, MediaKind, Outcome, Query, Removed, Reranking, Skipped, Space
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import (
    LibraryBusy,
    LibraryDamaged,
    LibraryMissing,
    LibraryTooNew,
    MediaError,
    SpaceMismatch,
    UsageError,
    WeightsError,
)
from ivsearch.library import Library, open_library
from ivsearch.settings import Settings
from ivsearch.store.files import sealed, unsealed
from ivsearch.store.manifest import EncoderSource, write_manifest
from ivsearch.store.vector_store import VectorStore

from .conftest import library_with


@pytest.fixture
def media(sample_media: Path, tmp_path: Path) -> Path:
    """A few files of its own for each test to change."""
    folder = tmp_path / "media"
    (folder / "inner").mkdir(parents=True)
    for name in ("pet.jpg", "night.jpg", "call.mp4"):
        shutil.copy(sample_media / name, folder / name)
    shutil.copy(sample_media / "table.jpg", folder / "inner" / "table.jpg")
    return folder


@pytest.fixture
def library(mini: Encoder, media: Path, tmp_path: Path) -> Iterator[Library]:
    library = library_with(mini, tmp_path / "library")
    outcomes(library, media)
    yield library
    library.close()


def outcomes(library: Library, *paths: Path, fps: float | None = None) -> dict[str, str]:
    """File name → what the run said of it."""
    said = {}
    for event in library.index(paths, fps=fps):
        assert event.path.name not in said, "a file is reported once"
        if isinstance(event, Ingested):
            said[event.path.name] = event.outcome.value
        else:
            said[event.path.name] = "removed" if isinstance(event, Removed) else event.reason
    return said


def names(library: Library, text: str, k: int = 3) -> list[str]:
    return [hit.path.name for hit in library.search(text, k=k)]


CAT = {
    "en": "a cat",
    "zh": "一只猫",
    "ar": "قطة",
    "ru": "кошка",
    "ja": "猫",
    "es": "un gato",
    "fr": "un chat",
    "de": "Katze",
}


@pytest.mark.parametrize("language", CAT)
def test_the_cat_is_found_in_any_language(sample_library: Library, language: str) -> None:
    assert names(sample_library, CAT[language], k=1)[0] in ("pet.jpg", "compilation.mp4")


def test_the_moment_of_the_cat_in_the_compilation(sample_library: Library) -> None:
    filters = Filters(paths=("compilation.mp4",))
    hit = sample_library.search("a cat", k=1, filters=filters)[0]
    # sample_media cuts the cat in from 17 to 24 s.
    assert hit.moment.start_s == pytest.approx(17, abs=1.0)
    assert hit.moment.end_s == pytest.approx(24, abs=1.0)
    assert hit.start_s <= hit.moment.start_s < hit.moment.end_s <= hit.end_s


def test_an_image_finds_itself_and_a_clip_its_source(sample_library: Library, sample_media: Path) -> None:
    hits = sample_library.search(image=sample_media / "pet.jpg", k=2)
    assert [hit.path.name for hit in hits] == ["pet.jpg", "compilation.mp4"]
    assert hits[0].score == pytest.approx(1.0, abs=1e-3)
    by_clip = sample_library.search(clip=hits[0].clip_id, k=1)
    assert by_clip[0].path.name == "compilation.mp4"


def test_filters_leave_only_what_passes(sample_library: Library) -> None:
    images = sample_library.search("street", k=50, filters=Filters(kind=MediaKind.IMAGE))
    assert images and all(hit.kind is MediaKind.IMAGE for hit in images)
    assert sample_library.search("street", filters=Filters(paths=("nothing*",))) == []
    assert not sample_library.find(Query("street", filters=Filters(min_duration_s=9999))).matched


def test_one_video_fills_the_hits_and_many_share_them(sample_library: Library) -> None:
    many = sample_library.search("something", k=8)
    assert len({hit.media_id for hit in many}) == 8
    alone = sample_library.search("something", k=5, filters=Filters(paths=("compilation.mp4",)))
    assert len(alone) == 5
    spans = sorted((hit.start_s, hit.end_s) for hit in alone)
    assert all(a[1] <= b[0] for a, b in pairwise(spans)), "hits of one file do not overlap"
    assert len(sample_library.search("something", k=8, per_media=1, filters=Filters(paths=("compilation.mp4",)))) == 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(), "exactly one of a text, an image or a clip"),
        (Query("a", image=Path("b.jpg")), "exactly one of a text, an image or a clip"),
        (Query(clip_id=10**6), "there is no clip 1000000 in this library"),
        (Query("  "), "empty text"),
    ],
)
def test_queries_that_make_no_sense(sample_library: Library, query: Query, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sample_library.find(query)


def test_no_hits_wanted(sample_library: Library) -> None:
    with pytest.raises(UsageError, match="must be at least 1, not 0"):
        sample_library.search("a", k=0)


def test_unchanged_files_cost_nothing(library: Library, media: Path) -> None:
    vectors = library.stats().vector_bytes
    assert set(outcomes(library, media).values()) == {"unchanged"}
    os.utime(media / "pet.jpg")
    assert set(outcomes(library, media).values()) == {"unchanged"}
    assert library.stats().vector_bytes == vectors


def test_without_paths_all_roots_are_looked_at_again(library: Library, media: Path) -> None:
    (media / "pet.jpg").unlink()
    assert outcomes(library)["pet.jpg"] == "removed"


def test_moved_and_copied_files_keep_their_vectors(library: Library, media: Path) -> None:
    vectors = library.stats().vector_bytes
    (media / "pet.jpg").rename(media / "inner" / "cat 猫.jpg")
    shutil.copy(media / "call.mp4", media / "copy.mp4")
    said = outcomes(library, media)
    assert said["cat 猫.jpg"] == "linked" and said["copy.mp4"] == "linked" and said["pet.jpg"] == "removed"
    assert names(library, "a cat", k=1) == ["cat 猫.jpg"]
    assert library.stats().vector_bytes == vectors


def test_copies_met_in_one_run_are_decoded_once(mini: Encoder, media: Path, tmp_path: Path) -> None:
    for i in range(5):
        shutil.copy(media / "call.mp4", media / f"copy{i}.mp4")
    with library_with(mini, tmp_path / "other") as library:
        said = outcomes(library, media)
        assert sorted(said[name] for name in said if name.endswith(".mp4")) == ["indexed", *["linked"] * 5]
        assert library.stats().totals.media == 4
        (media / "elsewhere").mkdir()
        shutil.copy(media / "pet.jpg", media / "elsewhere" / "same.jpg")
        list(library.index(media))
        for globs, first, second in (((), "same.jpg", "pet.jpg"), (("pet.*", "no"), "pet.jpg", "same.jpg")):
            query = Query("a cat", filters=Filters(paths=globs))
            (hit,) = library.find(query, k=1)
            assert (hit.path.name, [copy.path.name for copy in hit.copies]) == (first, [second])
            folded = f"it is a copy of {hit.path} and folded into that hit"
            assert library.why_not(query, hit.copies[0].path).reason == folded
            assert library.why_not(query, hit.path).reason == "it is among the hits, at rank 1"


def test_changed_content_is_done_again(library: Library, media: Path, sample_media: Path) -> None:
    shutil.copy(sample_media / "garage.jpg", media / "pet.jpg")
    assert outcomes(library, media)["pet.jpg"] == "indexed"
    assert names(library, "a motorcycle", k=1) == ["pet.jpg"]
    assert library.stats().totals.media == 4


def test_deleted_files_are_gone(library: Library, media: Path) -> None:
    (media / "pet.jpg").unlink()
    assert outcomes(library, media)["pet.jpg"] == "removed"
    assert "pet.jpg" not in names(library, "a cat", k=10)
    assert library.stats().totals.media == 3


def test_a_file_that_becomes_unreadable_is_no_longer_found_and_can_come_back(library: Library, media: Path) -> None:
    good = (media / "pet.jpg").read_bytes()
    (media / "pet.jpg").write_text("this is no picture, " * 50)
    assert "no picture can be decoded" in outcomes(library, media)["pet.jpg"]
    assert "pet.jpg" not in names(library, "a cat", k=10)
    assert [each.path.name for each in library.stats().skipped] == ["pet.jpg"]
    (media / "pet.jpg").write_bytes(good)
    assert outcomes(library, media)["pet.jpg"] == "indexed"
    assert library.stats().skipped == ()


def test_an_empty_folder_does_not_empty_the_library(library: Library, media: Path) -> None:
    shutil.move(media, media.with_name("away"))
    media.mkdir()
    said = outcomes(library, media)
    assert "is a disk not mounted" in said["media"]
    assert library.stats().totals.media == 4


def test_an_empty_folder_below_does_not_lose_its_files(library: Library, media: Path) -> None:
    below = media / "disk"
    (below / "2024").mkdir(parents=True)
    shutil.move(media / "pet.jpg", below / "2024" / "there.jpg")
    shutil.copy(media / "night.jpg", media / "copy.jpg")
    outcomes(library, media)
    shutil.rmtree(below)
    (media / "copy.jpg").unlink()
    below.mkdir()  # as a mount point without its disk
    said = outcomes(library, media)
    assert said["copy.jpg"] == "removed" and "there.jpg" not in said
    assert re.search(r"is empty, although 1 indexed files were in it: .*: ivsearch rm .*/disk$", said["disk"])
    assert library.stats().totals.media == 4
    below.rmdir()
    assert outcomes(library, media)["there.jpg"] == "removed"


def test_another_rate_encodes_again(library: Library, media: Path) -> None:
    before = library.stats().totals.samples
    said = outcomes(library, media, fps=3.0)
    assert set(said.values()) == {"indexed"}
    assert library.stats().totals.samples > before
    # From then on it is the library's rate.
    assert set(outcomes(library, media).values()) == {"unchanged"}


@pytest.mark.parametrize("fps", [-1.0, 2000.0])
def test_rates_that_make_no_sense(library: Library, media: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="--fps must be above 0"):
        outcomes(library, media, fps=fps)


def test_nothing_to_index(mini: Encoder, tmp_path: Path) -> None:
    with library_with(mini, tmp_path) as library, pytest.raises(UsageError, match="nothing to index yet"):
        outcomes(library)


def test_a_library_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissing, match=r"there is no library at .*ivsearch index FOLDER"):
        open_library(tmp_path / "none", create=False)


HOLDER = """
import sys, time
from pathlib import Path
from ivsearch.store.lock import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_writer_at_a_time_and_readers_meanwhile(library: Library, media: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(library.folder)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        with pytest.raises(LibraryBusy, match=rf"process {holder.pid}\) is writing to .*wait until it ends"):
            outcomes(library, media)
        assert names(library, "a cat", k=1) == ["pet.jpg"]
        holder.kill()
    # A killed writer leaves no lock behind.
    assert set(outcomes(library, media).values()) == {"unchanged"}


def test_vectors_of_another_encoder_are_not_searched(library: Library, mini: Encoder) -> None:
    class Other:
        space = Space("other", "f" * 16, mini.space.dim)

    library.encoder = Other()
    library.source = EncoderSource("other", "/somewhere")
    with pytest.raises(
        SpaceMismatch,
        match=r"no vectors of other ffff.*only of mini .*ivsearch index --encoder other --weights /somewhere --lib",
    ):
        library.search("a cat")


def test_forgetting_files(library: Library, media: Path) -> None:
    assert [each.path.name for each in library.remove([media / "pet.jpg", media / "inner"])] == ["table.jpg", "pet.jpg"]
    assert set(names(library, "a cat", k=10)) == {"night.jpg", "call.mp4"}
    assert (media / "pet.jpg").exists()
    assert library.remove(["/nowhere"]) == []


def test_what_is_portable(library: Library, mini: Encoder, tmp_path: Path) -> None:
    library.close()
    shutil.move(library.folder, tmp_path / "elsewhere")
    with library_with(mini, tmp_path / "elsewhere") as moved:
        assert names(moved, "a cat", k=1) == ["pet.jpg"]


# ---- damage ----


def index_file(library: Library) -> Path:
    return next((library.folder / "index").rglob("*.rows"))


def segment_file(library: Library) -> Path:
    return next((library.folder / "vectors").rglob("*.seg"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(bytes(data))


def test_a_sound_library_verifies(library: Library) -> None:
    assert list(library.verify()) == []
    assert list(library.repair()) == []


def test_a_damaged_index_still_searches_and_is_built_anew(library: Library, mini: Encoder) -> None:
    flip(index_file(library), 300)
    with library_with(mini, library.folder) as again:
        assert [problem for problem in again.verify() if "does not fit its checksum" in problem]
        assert names(again, "a cat", k=1) == ["pet.jpg"]
        assert any("anew" in action for action in again.repair())
        assert list(again.verify()) == []
    assert list((library.folder / "index").rglob("*.damaged"))


def test_damaged_vectors_cost_one_file_until_the_next_run(library: Library, mini: Encoder, media: Path) -> None:
    flip(segment_file(library), 200)
    index_file(library).unlink()
    with library_with(mini, library.folder) as again:
        assert len(names(again, "something", k=10)) == 3
        assert any("does not fit its checksum" in complaint for complaint in again.searcher().complaints)
        assert any("forgot the damaged vectors of 1 media" in action for action in again.repair())
        assert sorted(outcomes(again, media).values()) == ["indexed", "unchanged", "unchanged", "unchanged"]
        assert list(again.verify()) == []
        assert len(names(again, "something", k=10)) == 4


def test_a_damaged_manifest(library: Library, mini: Encoder) -> None:
    for name in ("manifest.json", "manifest.copy.json"):
        (library.folder / name).write_text("{")
    with library_with(mini, library.folder) as again:
        with pytest.raises(LibraryDamaged, match=r"manifest\.json is damaged.*ivsearch repair"):
            again.manifest()
        problems = list(again.verify())
        assert "manifest.json is damaged" in problems[0] and "manifest.copy.json is damaged" in problems[1]
        assert any("manifest.json anew; name your folders" in action for action in again.repair())
        assert list(again.verify()) == []
        assert (again.manifest().active, again.manifest().fps) == (mini.space, 1.0)


def test_a_manifest_of_the_future(library: Library) -> None:
    path = library.folder / "manifest.json"
    path.write_bytes(sealed({**unsealed(path.read_bytes()), "format": 99}))
    with pytest.raises(LibraryTooNew, match="has format 99, this ivsearch knows up to 1: upgrade"):
        library.manifest()


def test_a_destroyed_catalog_is_set_aside(library: Library, mini: Encoder, media: Path) -> None:
    library.close()
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (library.folder / name).unlink(missing_ok=True)
    (library.folder / "catalog.db").write_bytes(b"rubbish" * 2000)
    with library_with(mini, library.folder) as again:
        assert any("cannot be opened" in problem for problem in again.verify())
    with library_with(mini, library.folder) as again:
        assert any("set aside" in action for action in again.repair())
        assert set(outcomes(again).values()) == {"indexed"}
        assert list(again.verify()) == []
        assert names(again, "a cat", k=1) == ["pet.jpg"]


def test_the_thumbnails_of_clips_are_there(library: Library) -> None:
    space = library.encoder.space
    for clip in library.catalog.clips_of(space):
        assert library.thumbs.path(clip.media_id, clip.start_s).read_bytes()[:2] == b"\xff\xd8"


def test_vectors_on_disk_are_the_encoders(library: Library, media: Path, mini: Encoder) -> None:
    import numpy as np

    from ivsearch.encode import embed_images

    space = mini.space
    media_id = next(row.media_id for row in library.catalog.paths() if row.path.name == "pet.jpg")
    record = library.catalog.encodings(space)[media_id].record
    stored = VectorStore(library.folder / "vectors", space).read(record).vectors[0]
    np.testing.assert_allclose(stored, embed_images(mini, [media / "pet.jpg"]).vectors[0], atol=2e-3)


def test_events_say_what_was_done(mini: Encoder, media: Path, tmp_path: Path) -> None:
    with library_with(mini, tmp_path / "other") as library:
        events = {event.path.name: event for event in library.index([media])}
    call = events["call.mp4"]
    assert isinstance(call, Ingested) and call.outcome is Outcome.INDEXED
    assert (call.media.width, call.media.height) == (176, 144) or call.media.width > 176
    assert 1 <= call.n_frames <= call.n_samples and call.n_clips >= 1
    assert not any(isinstance(event, Skipped) for event in events.values())


def test_a_query_image_that_is_none(sample_library: Library, tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("not a picture")
    with pytest.raises(MediaError, match=r"note\.jpg: picture is damaged"):
        sample_library.search(image=tmp_path / "note.jpg")


def test_a_single_path_is_one_path(library: Library, media: Path) -> None:
    assert [event.path for event in library.index(str(media / "pet.jpg"))] == [media / "pet.jpg"]
    assert [each.path.name for each in library.remove(str(media / "pet.jpg"))] == ["pet.jpg"]
    assert library.stats().totals.media == 3


def test_a_newer_library_is_left_alone_by_repair(library: Library, mini: Encoder) -> None:
    path = library.folder / "manifest.json"
    newer = sealed({**unsealed(path.read_bytes()), "format": 99})
    path.write_bytes(newer)
    with library_with(mini, library.folder) as again, pytest.raises(LibraryTooNew, match="upgrade ivsearch"):
        list(again.repair())
    assert path.read_bytes() == newer and not list(library.folder.glob("*.damaged"))


def test_a_lost_catalog_does_not_leave_wrong_vectors(library: Library, mini: Encoder, media: Path) -> None:
    library.close()
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (library.folder / name).unlink(missing_ok=True)
    # Other files first: the new catalog gives the old clip ids to other clips.
    with library_with(mini, library.folder) as again:
        outcomes(again, media / "night.jpg")
        outcomes(again, media / "pet.jpg")
        assert names(again, "a cat", k=1) == ["pet.jpg"]
        assert names(again, "a rocket", k=1) == ["night.jpg"]
        assert list(again.verify()) == []


def test_searching_between_a_change_and_the_end_of_the_run(
    library: Library, mini: Encoder, media: Path, sample_media: Path
) -> None:
    shutil.copy(sample_media / "garage.jpg", media / "pet.jpg")
    run = library.index([media])
    for event in run:
        if event.path.name == "pet.jpg":
            break
    with library_with(mini, library.folder) as reader:
        assert names(reader, "a motorcycle", k=1) == ["pet.jpg"]
        assert len(names(reader, "a cat", k=10)) == 4
    run.close()


def test_searching_while_another_thread_of_the_process_indexes(
    library: Library, media: Path, sample_media: Path
) -> None:
    shutil.copy(sample_media / "garage.jpg", media / "new.jpg")
    before = names(library, "a cat", k=10)
    writer = threading.Thread(target=lambda: list(library.index([media])))
    writer.start()
    while writer.is_alive():
        assert set(before) <= set(names(library, "a cat", k=10))
    writer.join()
    assert sorted(names(library, "a cat", k=10)) == sorted([*before, "new.jpg"])
    assert list(library.verify()) == []


def test_a_file_that_vanishes_before_it_is_looked_at(
    mini: Encoder, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ivsearch import ingest

    def scan_then_lose(roots: list[Path]) -> Iterator[object]:
        found = list(original(roots))
        (media / "night.jpg").unlink()
        yield from found

    original = ingest.scan
    monkeypatch.setattr(ingest, "scan", scan_then_lose)
    with library_with(mini, tmp_path / "other") as library:
        said = outcomes(library, media)
    assert "file is gone" in said.pop("night.jpg")
    assert set(said.values()) == {"indexed"}


class Choosy:
    """The real encoder, but for pictures of one size, over which it fails."""

    batch_size = 16

    def __init__(self, mini: Encoder, width: int, *, raises: bool) -> None:
        self.mini, self.width, self.raises, self.space = mini, width, raises, mini.space
        self.transparency = mini.transparency

    def preprocess(self, pixels: list) -> object:
        batch = self.mini.preprocess(pixels)
        if pixels[0].shape[1] == self.width:
            if self.raises:
                raise ValueError("too odd")
            batch[:] = float("nan")
        return batch

    def encode_images(self, batch: object) -> object:
        return self.mini.encode_images(batch)  # type: ignore[arg-type]

    def encode_texts(self, texts: list[str]) -> object:
        return self.mini.encode_texts(texts)


@pytest.mark.parametrize(("raises", "reason"), [(True, "cannot be encoded: too odd"), (False, "no finite numbers")])
def test_a_picture_the_encoder_cannot_take_costs_its_file_only(
    mini: Encoder, media: Path, tmp_path: Path, raises: bool, reason: str
) -> None:
    from PIL import Image

    with Image.open(media / "night.jpg") as picture:
        width = picture.width
    with library_with(Choosy(mini, width, raises=raises), tmp_path / "other") as library:  # type: ignore[arg-type]
        said = outcomes(library, media)
        assert reason in said.pop("night.jpg")
        assert set(said.values()) == {"indexed"}
        assert list(library.verify()) == []


def test_a_path_that_is_not_there_is_not_remembered(library: Library, media: Path) -> None:
    assert "typo" in outcomes(library, media / "typo")
    assert "typo" not in outcomes(library)
    outcomes(library, media / "pet.jpg")
    (media / "pet.jpg").unlink()
    assert outcomes(library, media / "pet.jpg") == {"pet.jpg": "removed"}
    assert str(media / "pet.jpg") not in library.manifest().roots


def test_one_long_video_does_not_take_all_places(
    library: Library, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ivsearch.search import retrieve

    # Four files, and at first only one clip is asked for: it has to ask again until there are enough files.
    monkeypatch.setattr(retrieve, "MIN_CLIPS", 1)
    monkeypatch.setattr(retrieve, "CLIPS_PER_HIT", 0)
    assert len(names(library, "a cat", k=4)) == 4


def test_a_space_that_is_not_complete_says_so(library: Library, mini: Encoder, media: Path) -> None:
    class Newer(Choosy):
        def __init__(self) -> None:
            super().__init__(mini, -1, raises=False)
            self.space = Space("mini", "e" * 16, mini.space.dim)

        def encode_images(self, batch: object) -> object:
            from ivsearch.domain import Embeddings

            return Embeddings(self.space, mini.encode_images(batch).vectors)  # type: ignore[arg-type]

    with library_with(Newer(), library.folder) as newer:  # type: ignore[arg-type]
        outcomes(newer, media / "pet.jpg")
        assert names(newer, "a cat", k=5) == ["pet.jpg"]
        assert any("no vectors of mini eeee" in complaint for complaint in newer.searcher().complaints)
        assert newer.manifest().active == mini.space
        outcomes(newer, media)
        assert newer.manifest().active == newer.encoder.space
        assert newer.searcher().complaints == []


def test_a_library_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; a library is a folder"):
        open_library(tmp_path / "file")


def test_an_unknown_encoder_leaves_no_library_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown encoder 'typo'"):
        open_library(tmp_path / "new", encoder="typo")
    assert not (tmp_path / "new").exists()


# ---- encoders that are folders, and encoders that cannot be had ----


@pytest.fixture
def vit(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared / "parity" / "internvit_300m", tmp_path / "models" / "vit"))


def test_an_encoder_named_by_a_relative_folder_is_found_from_anywhere(
    vit: Path, sample_media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = sample_media / "pet.jpg"
    monkeypatch.chdir(vit.parent)
    with open_library(tmp_path / "library", encoder="internvit:./vit") as library:
        assert outcomes(library, photo) == {"pet.jpg": "indexed"}
        assert library.source.name == f"internvit:{vit}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit").mkdir()  # of the same name, and another
    with open_library(tmp_path / "library") as again:
        assert again.search(image=photo, k=1)[0].score == pytest.approx(1, abs=1e-3)
        assert outcomes(again, photo) == {"pet.jpg": "unchanged"}
        wanted = Reranking("internvit:models/vit")
        assert again.find(Query(image=photo), rerank=wanted).reranker == again.encoder.space
    vit.rename(tmp_path / "models" / "gone")
    message = rf"were in {vit}, which is not there any more: say where they are now \(--encoder internvit:PATH\)"
    with open_library(tmp_path / "library") as again, pytest.raises(WeightsError, match=message):
        again.search(image=photo)
    moved = tmp_path / "elsewhere" / "vit"
    shutil.move(tmp_path / "models" / "gone", moved)
    with open_library(tmp_path / "library", encoder=f"internvit:{moved}") as again:
        assert outcomes(again, photo) == {"pet.jpg": "unchanged"}
    with open_library(tmp_path / "library") as again:
        assert again.search(image=photo, k=1)[0].path == photo


@pytest.mark.parametrize(
    ("typed", "remembered"),
    [
        ("openclip:ViT-B-32/./w.pt", "openclip:ViT-B-32/{here}/w.pt"),
        ("openclip:./saved", "openclip:{here}/saved"),
        ("openclip:ViT-B-32/openai", "openclip:ViT-B-32/openai"),
        ("siglip2:saved", "siglip2:{here}/saved"),
        ("siglip2:google/w.pt", "siglip2:google/w.pt"),
        ("mini", "mini"),
    ],
)
def test_what_is_remembered_of_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, remembered: str
) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "w.pt").touch()
    monkeypatch.chdir(tmp_path)
    assert open_library(tmp_path / "library", encoder=typed).source.name == remembered.format(here=tmp_path)


def test_a_file_of_open_clip_that_is_gone_is_named(library: Library, mini: Encoder, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pt"
    source = EncoderSource(f"openclip:ViT-B-32/{gone}")
    manifest = dataclasses.replace(library.manifest(), encoders={mini.space.key: source})
    write_manifest(library.folder, manifest)
    message = rf"were in {gone}, .*where they are now \(--encoder openclip:ViT-B-32/PATH\)"
    with open_library(library.folder) as again, pytest.raises(WeightsError, match=message):
        again.search("a cat")


@pytest.mark.parametrize("name", ["internvit:mine", "mini"])
def test_a_reranker_inherits_weights_of_its_kind_only(
    library: Library, mini: Encoder, tmp_path: Path, name: str
) -> None:
    source = EncoderSource(name, str(tmp_path))
    library.source = source
    message = r"re-ranker 'internvl-g' needs weights: give a folder or a hub id \(--rerank-weights\)"
    with pytest.raises(UsageError, match=message):
        library.search("a cat", rerank=Reranking("internvl-g"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (Settings(encoder="internvl-c"), UsageError, "needs weights"),
        (Settings(encoder="internvl-c", weights="./nowhere"), WeightsError, "no such folder"),
        (Settings(fps=2000.0), UsageError, "--fps must be above 0"),
    ],
)
def test_a_first_run_that_cannot_begin_leaves_no_library_behind(
    sample_media: Path, tmp_path: Path, settings: Settings, error: type[Exception], message: str
) -> None:
    with open_library(tmp_path / "new", settings=settings) as library, pytest.raises(error, match=message):
        list(library.index(sample_media / "pet.jpg"))
    assert not (tmp_path / "new").exists()


def test_a_new_library_is_empty_and_sound(tmp_path: Path) -> None:
    with open_library(tmp_path / "new", settings=Settings()) as library:
        assert library.stats().totals.media == 0 and list(library.verify()) == []
        assert library.remove(tmp_path / "x") == [] and list(library.repair()) == []
