"""A library with blank and lettered cards and copies of its photos and videos in it: what search does not fall for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from ivsearch.domain import Filters, Ingested, MediaKind, Query, Term, Then
from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library, open_library
from ivsearch.settings import Settings
from tests.commands.conftest import Run, run  # noqa: F401
from tests.conftest import library_with

CARDS = ("black.png", "white.png", "grey.png", "title.png", "credits.png")
ORDINARY = ("a cat", "一杯咖啡", "a rocket", "ein Motorrad", "звёздное небо", "people on a street", "une tasse de café")
COPIES = {"pet.jpg": "pet-poor.jpg", "table.jpg": "table-cropped.jpg", "night.jpg": "night-bright.jpg"}


def draw_cards(folder: Path) -> None:
    for name, colour in (("black.png", (0, 0, 0)), ("white.png", (255, 255, 255)), ("grey.png", (128, 128, 128))):
        Image.new("RGB", (640, 360), colour).save(folder / name)
    for name, colours in (("title.png", ("white", "black")), ("credits.png", ("black", "white"))):
        card = Image.new("RGB", (640, 360), colours[0])
        pen = ImageDraw.Draw(card)
        for line in range(9):
            pen.text((60, 30 + 34 * line), "Directed by nobody, with music by no one", fill=colours[1], font_size=24)
        card.save(folder / name)


def make_copies(folder: Path) -> None:
    for name, copy in COPIES.items():
        photo = Image.open(folder / name).convert("RGB")
        width, height = photo.size
        if "cropped" in copy:
            photo = photo.crop((width // 20, height // 20, width - width // 20, height - height // 20))
        if "bright" in copy:
            photo = ImageEnhance.Brightness(photo).enhance(1.2)
        quality = 25 if "poor" in copy else 85
        photo.resize((photo.width * 2 // 3, photo.height * 2 // 3)).save(folder / copy, quality=quality)


def encode_anew(video: Path, copy: Path) -> None:
    """Half as wide and high, at a low bit rate, in another container; every picture keeps its time."""
    with av.open(str(video)) as source, av.open(str(copy), "w") as target:
        stream = None
        for frame in source.decode(video=0):
            if stream is None:
                stream = target.add_stream("libx264", rate=source.streams.video[0].average_rate)
                stream.width, stream.height, stream.pix_fmt = frame.width // 4 * 2, frame.height // 4 * 2, "yuv420p"
                stream.bit_rate, stream.time_base = 150_000, frame.time_base or Fraction(1, 1000)
                stream.codec_context.time_base = stream.time_base
            small = frame.reformat(stream.width, stream.height, "yuv420p")
            small.pts, small.time_base = frame.pts, frame.time_base
            target.mux(stream.encode(small))
        assert stream is not None
        target.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowded")
    for path in [*sample_media.rglob("*.jpg"), *sample_media.rglob("call.mp4")]:
        shutil.copy(path, folder)
    draw_cards(folder)
    make_copies(folder)
    encode_anew(folder / "call.mp4", folder / "call-small.mkv")
    return folder


@pytest.fixture(scope="module")
def crowded(folder: Path, mini: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    library = library_with(mini, tmp_path_factory.mktemp("crowded-library"))
    assert all(isinstance(event, Ingested) for event in library.index([folder]))
    yield library
    library.close()


@pytest.mark.parametrize("text", ORDINARY)
def test_cards_do_not_win(crowded: Library, text: str) -> None:
    first = [hit.path.name for hit in crowded.search(text, k=3)]
    assert len(first) == 3 and not set(first) & set(CARDS)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_is_found_by_its_picture(crowded: Library, folder: Path, card: str) -> None:
    hits = crowded.search(image=folder / card, k=5)
    assert card in [hit.path.name for hit in hits if hit.score > hits[0].score - 0.01]
    assert hits[0].score > 0.98


@pytest.mark.parametrize(("original", "copy"), COPIES.items())
def test_a_copy_is_folded_into_its_hit(crowded: Library, folder: Path, original: str, copy: str) -> None:
    hits = crowded.search(image=folder / original, k=3)
    assert hits[0].path.name == original
    assert [each.path.name for each in hits[0].copies] == [copy]
    assert copy not in [hit.path.name for hit in hits]


def test_a_video_encoded_anew_is_a_copy(crowded: Library) -> None:
    (hit,) = crowded.search("a man on the phone", k=5, filters=Filters(kind=MediaKind.VIDEO), per_media=1)
    assert {hit.path.name, *(each.path.name for each in hit.copies)} == {"call.mp4", "call-small.mkv"}


def test_different_pictures_are_no_copies(crowded: Library) -> None:
    hits = crowded.search("something", k=50)
    folded = {frozenset((hit.path.name, each.path.name)) for hit in hits for each in hit.copies}
    assert folded == {frozenset(pair) for pair in (*COPIES.items(), ("call.mp4", "call-small.mkv"))}


def test_an_empty_thumbnail_or_none_folds_nothing(crowded: Library, folder: Path) -> None:
    hits = crowded.search(image=folder / "black.png", k=5)
    assert all(not hit.copies for hit in hits if hit.path.name in ("black.png", "white.png", "grey.png"))


def test_what_is_there_matches_and_what_is_not_does_not(crowded: Library) -> None:
    there = crowded.find(Query("a cat"))
    gone = crowded.find(Query("a submarine below the ice", filters=Filters(paths=("sky.jpg", "table.jpg"))))
    assert there.matched and there[0].likely is not None and there[0].likely > 0.5
    assert not gone.matched and len(gone) == 2
    assert all(0 <= (hit.likely or 0) <= 1 for hit in there)


def test_nothing_that_stands_out_is_listed_as_nearest_and_ends_with_1(crowded: Library, run: Run) -> None:  # noqa: F811
    words = ("a submarine below the ice", "--path", "sky.jpg", "--library", str(crowded.folder))
    done = run("search", *words)
    assert done.code == 1 and done.out.startswith("nothing stands out; nearest:\n 1  ")
    done = run("search", *words, "--json")
    document = json.loads(done.out)
    assert done.code == 1 and document["matched"] is False and len(document["hits"]) == 1
    assert 0 <= document["hits"][0]["likely"] < 0.25
    assert run("search", *words, "--min-likely", "0").code == 0


def test_copies_are_listed(crowded: Library, folder: Path, run: Run) -> None:  # noqa: F811
    asked = ("search", "--image", str(folder / "pet.jpg"), "-k", "2", "--library", str(crowded.folder))
    done = run(*asked, "--copies")
    assert "(+1 copy)" in done.out and "copies of the hits above:\n 1  image  " in done.out
    listed = done.out.partition("copies of the hits above:\n")[2].splitlines()
    assert listed[0].endswith("pet-poor.jpg")
    assert not listed[1:] or listed[1].startswith(" 2  ")
    hit = json.loads(run(*asked, "--json").out)["hits"][0]
    assert [Path(each["path"]).name for each in hit["copies"]] == ["pet-poor.jpg"]


@pytest.mark.parametrize(
    ("name", "filters", "reason"),
    [
        ("pet.jpg", Filters(paths=("pet.jpg", "sky.jpg")), "it is among the hits, at rank 1"),
        ("black.png", Filters(), "files match better"),
        ("pet.jpg", Filters(kind=MediaKind.VIDEO), "left out by --kind"),
        ("pet.jpg", Filters(paths=("x*",), min_duration_s=5), "left out by --path and --min-duration"),
        ("nothing.jpg", Filters(), "there is no such file"),
        ("", Filters(), "it is a folder: name a file in it"),
    ],
)
def test_why_a_file_is_not_among_the_hits(
    crowded: Library, folder: Path, name: str, filters: Filters, reason: str
) -> None:
    absence = crowded.why_not(Query("a cat", filters=filters), folder / name, k=1)
    assert reason in absence.reason


def test_one_of_two_copies_is_folded_into_the_other(crowded: Library, folder: Path) -> None:
    reasons = {crowded.why_not(Query("a cat"), folder / name).reason for name in ("pet.jpg", "pet-poor.jpg")}
    assert "it is among the hits, at rank 1" in reasons
    assert any(reason.startswith("it is a copy of ") for reason in reasons)


def test_a_copy_that_is_further_down_is_no_reason(crowded: Library, folder: Path) -> None:
    query = Query("a man on the phone")
    names = [hit.path.name for hit in crowded.find(query, k=50, per_media=1)]
    for name in ("pet.jpg", "pet-poor.jpg"):
        found = crowded.why_not(query, folder / name, k=1)
        (hit,) = (hit for hit in crowded.find(query, k=50, per_media=1) if hit.path.name.startswith("pet"))
        assert (found.rank, found.score) == (hit.rank, hit.score) and hit.rank > 2
        assert found.reason == f"{names.index(hit.path.name)} files match better"


def test_why_not_speaks_of_the_hits_that_are_shown(sample_library: Library) -> None:
    """Of two files, one has better moments than the other has."""
    two = Filters(paths=("compilation.mp4", "night.jpg"))
    asked = (Query(text, filters=two) for text in ORDINARY)
    query = next(each for each in asked if len({hit.path for hit in sample_library.find(each, k=2, per_media=2)}) == 1)
    several, files = (sample_library.find(query, k=2, per_media=n) for n in (2, 1))
    (pushed_out,) = {hit.path for hit in files} - {hit.path for hit in several}
    found = sample_library.why_not(query, pushed_out, k=2, per_media=2)
    assert found.reason == "more moments of files that match better take its place (--per-media)"
    assert (found.rank, found.score, found.last_score) == (2, files[1].score, several[1].score)
    assert sample_library.why_not(query, pushed_out, k=2, per_media=1).reason == "it is among the hits, at rank 2"


def test_why_not_knows_that_hits_were_to_differ(sample_library: Library) -> None:
    with open_library(sample_library.folder, settings=Settings(diverse=1.0)) as diverse:
        diverse.encoder = sample_library.encoder
        shown = diverse.find(Query("a cat"), k=3)
        for hit in shown:
            assert diverse.why_not(shown.query, hit.path, k=3).reason == f"it is among the hits, at rank {hit.rank}"
        best = [hit.path for hit in sample_library.find(Query("a cat"), k=9, per_media=1)]
        gone = next(path for path in best if path not in {hit.path for hit in shown})
        found = diverse.why_not(shown.query, gone, k=3)
        assert found.reason == "others match better, or differ more from what comes before them (--diverse)"
        assert found.last_score == shown[-1].score


def test_a_sequence_is_explained_by_its_first_step(sample_library: Library) -> None:
    """The outside truth: the step's frames, and how many clips of other files score lower, counted in a loop."""
    found = sample_library.find(Query("a cat", then=(Then((Term("a cup of coffee"),)),)))
    (hit, *_) = sample_library.explain(found)
    made, sample, gallery = hit.explanation, sample_library.searcher().sample(), sample_library.searcher().gallery()
    assert made is not None and sample is not None and gallery is not None
    assert "cat" in made.words
    query = sample_library.encoder.encode_texts(["a cat"]).vectors[0]
    lower = []
    for clip, owner, hub in zip(sample.clips, sample.owners, gallery.hubs, strict=True):
        if owner != hit.media_id:
            off = float(gallery.usual_hub.taken_off(np.array([hub], np.float32))[0])
            lower.append(float(clip @ query) - off < hit.steps[0].score - made.taken_off)
    assert made.percentile == pytest.approx(100 * np.mean(lower))


def test_why_a_file_that_is_not_in_the_library_is_not_found(crowded: Library, tmp_path: Path) -> None:
    shutil.copy(Path(__file__), tmp_path / "new.jpg")
    absence = crowded.why_not(Query("a cat"), tmp_path / "new.jpg")
    assert absence.reason == "it is not in the library: run `ivsearch index` on it"


def test_an_explanation_is_what_the_vectors_say(crowded: Library) -> None:
    hits = crowded.explain(crowded.find(Query("a man on the phone"), k=12))
    query = crowded.encoder.encode_texts(["a man on the phone"]).vectors[0].astype(np.float64)
    encodings = crowded.catalog.encodings(crowded.encoder.space)
    for hit in hits:
        assert hit.explanation is not None
        frames = crowded.searcher().vectors.read(encodings[hit.media_id].record)
        np.testing.assert_allclose(hit.explanation.scores, frames.vectors.astype(np.float64) @ query, atol=1e-3)
        np.testing.assert_allclose(hit.explanation.times_s, frames.sample_pts_s[frames.kept])
    percentiles = [hit.explanation.percentile for hit in hits if hit.explanation]
    assert percentiles[0] == 100 and all(each is not None and 0 <= each <= 100 for each in percentiles)
    cat = crowded.explain(crowded.find(Query("a cat"), k=1))[0].explanation
    assert cat is not None and "cat" in cat.words


def test_why_in_words(crowded: Library, folder: Path, run: Run) -> None:  # noqa: F811
    asked = ("search", "a cat", "-k", "1", "--library", str(crowded.folder))
    done = run(*asked, "--explain", "--why-not", str(folder / "black.png"))
    assert "both are about: cat" in done.out and "of the library's clips" in done.out
    assert "black.png: " in done.out and "files match better" in done.out
    document = json.loads(run(*asked, "--explain", "--why-not", str(folder / "black.png"), "--json").out)
    assert document["hits"][0]["explanation"]["words"][0] == "cat"
    assert document["why_not"]["rank"] > 1 and document["why_not"]["last_score"] == document["hits"][0]["score"]
    refused = run(*asked, "--why-not", "x", "--jsonl")
    assert refused.code == 2 and "--why-not is no hit, and --jsonl prints only hits: use --json" in refused.err
