"""Ranking again: against slow loops over the stored vectors, and over pictures decoded plainly."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ivsearch.domain import Embeddings, Hit, Ingested, MediaKind, Only, Query, Reranking, Space
from ivsearch.encode import embed_images
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import MediaError, UsageError
from ivsearch.library import Library
from ivsearch.rerankers import Rerankers
from ivsearch.search.rerank import Reranker
from ivsearch.search.texts import find_texts
from ivsearch.store.vector_store import VectorStore
from tests.conftest import library_with

AGAIN = Reranking("mini")


class SameButElsewhere:
    """The real encoder under the name of another Space, so that the library has no vectors of it."""

    def __init__(self, mini: Encoder) -> None:
        self.mini, self.space = mini, Space("elsewhere", "e" * 16, mini.space.dim)
        self.transparency, self.batch_size = mini.transparency, 3

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return self.mini.preprocess(pixels)

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        assert len(batch) <= self.batch_size
        return Embeddings(self.space, self.mini.encode_images(batch).vectors)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        return Embeddings(self.space, self.mini.encode_texts(texts).vectors)


class Matching(SameButElsewhere):
    """Holds a picture and a text to belong together the more, the redder the picture is."""

    def match(self, batch: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
        assert len(batch) == len(texts)
        return (batch[:, 0] - batch[:, 2]).mean(axis=(1, 2))


@pytest.fixture
def elsewhere(mini: Encoder, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    encoder = SameButElsewhere(mini)
    monkeypatch.setattr(Rerankers, "encoder", lambda self, wanted: encoder)
    return encoder


def unit(rows: NDArray) -> NDArray[np.float64]:
    mean = rows.astype(np.float64).mean(0)
    return mean / np.linalg.norm(mean)


def stored_cosine(library: Library, hit: Hit, query: NDArray) -> float:
    space = library.encoder.space
    record = library.catalog.encodings(space)[hit.media_id].record
    frames = VectorStore(library.folder / "vectors", space).read(record)
    inside = [hit.moment.start_s <= pts_s < max(hit.moment.end_s, 1e-9) for pts_s in frames.pts_s]
    return float(unit(frames.vectors[inside]) @ query)


def decoded_cosine(encoder: Encoder, hit: Hit, query: NDArray) -> float:
    if hit.kind is MediaKind.IMAGE:
        return float(unit(embed_images(encoder, [hit.path]).vectors) @ query)
    length_s = hit.moment.end_s - hit.moment.start_s
    times_s = [hit.moment.start_s + (i + 0.5) / 8 * length_s for i in range(8)]
    decoded = pictures_of(hit.path)
    first_s = decoded[0][0]
    places = {max(i for i, (pts_s, _) in enumerate(decoded) if pts_s - first_s <= at + 1e-4) for at in times_s}
    pictures = [decoded[place][1].to_ndarray(format="rgb24") for place in sorted(places)]
    rows = [encoder.encode_images(encoder.preprocess([picture])).vectors for picture in pictures]
    return float(unit(np.concatenate(rows)) @ query)


@lru_cache(maxsize=4)
def pictures_of(path: Path) -> list[tuple[float, av.VideoFrame]]:
    """All of them, with their times."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame) for frame in container.decode(video=0)]


@pytest.mark.parametrize("text", ["a cat", "ein Motorrad", "people on the street"])
def test_stored_vectors_are_pooled_over_the_moment(sample_library: Library, text: str) -> None:
    query = sample_library.encoder.encode_texts([text]).vectors[0]
    found = sample_library.find(Query(text), k=20)
    expected = sorted((-stored_cosine(sample_library, hit, query), hit.score) for hit in found.hits)
    again = sample_library.find(Query(text), k=20, rerank=AGAIN)
    np.testing.assert_allclose([hit.score for hit in again.hits], [-cosine for cosine, _ in expected], atol=1e-4)
    assert [hit.retrieval_score for hit in again.hits] == [score for _, score in expected]
    assert [hit.rank for hit in again.hits] == list(range(1, len(again.hits) + 1))
    assert again.reranker == sample_library.encoder.space and found.reranker is None


def test_without_stored_vectors_the_moments_are_decoded(sample_library: Library, elsewhere: Encoder) -> None:
    query = elsewhere.encode_texts(["a cat"]).vectors[0]
    again = sample_library.find(Query("a cat"), k=20, rerank=Reranking("elsewhere"))
    assert {hit.kind for hit in again.hits} == {MediaKind.IMAGE, MediaKind.VIDEO}
    expected = [decoded_cosine(elsewhere, hit, query) for hit in again.hits]
    np.testing.assert_allclose([hit.score for hit in again.hits], expected, atol=0.02)
    assert [hit.score for hit in again.hits] == sorted((hit.score for hit in again.hits), reverse=True)
    assert again.space != again.reranker == elsewhere.space


def test_images_and_clips_are_queries_too(sample_library: Library, elsewhere: Encoder, sample_media: Path) -> None:
    again = Reranking("elsewhere", depth=5)
    (best, *_) = sample_library.search(image=sample_media / "pet.jpg", rerank=again)
    assert best.path.name == "pet.jpg" and best.score == pytest.approx(1.0, abs=1e-3)
    (clip,) = (hit.clip_id for hit in sample_library.search("a cat", k=9) if hit.path.name == "compilation.mp4")
    (best, *_) = sample_library.search(clip=clip, rerank=again)
    assert best.path.name == "pet.jpg"


def test_only_the_best_are_judged(sample_library: Library) -> None:
    found = sample_library.search("a cat", k=6, per_media=1)
    again = sample_library.search("a cat", k=6, per_media=1, rerank=Reranking("mini", depth=2))
    assert {hit.path for hit in again[:2]} == {hit.path for hit in found[:2]}
    assert [(hit.path, hit.score, hit.retrieval_score) for hit in again[2:]] == [
        (hit.path, hit.score, None) for hit in found[2:]
    ]


def test_few_hits_show_each_file_once(sample_library: Library) -> None:
    again = sample_library.search("a cat", k=4, rerank=AGAIN)
    assert len({hit.media_id for hit in again}) == len(again) == 4


@pytest.mark.usefixtures("elsewhere")
def test_a_file_that_is_gone_keeps_its_place_below(mini: Encoder, sample_media: Path, tmp_path: Path) -> None:
    for name in ("pet.jpg", "night.jpg", "table.jpg", "call.mp4"):
        shutil.copy(sample_media / name, tmp_path / name)
    with library_with(mini, tmp_path / "library") as library:
        media = [tmp_path / name for name in ("pet.jpg", "night.jpg", "table.jpg", "call.mp4")]
        assert all(isinstance(event, Ingested) for event in library.index(media))
        (tmp_path / "pet.jpg").unlink()
        again = library.search("a cat", rerank=Reranking("elsewhere"))
        assert (again[-1].path.name, again[-1].retrieval_score) == ("pet.jpg", None)
        assert all(hit.retrieval_score is not None for hit in again[:-1])
        (complaint,) = library.searcher().complaints
        assert "pet.jpg: not ranked again, file is gone" in complaint
        shutil.copy(sample_media / "pet.jpg", tmp_path / "pet.jpg")
        library.remove(tmp_path / "call.mp4")
        (tmp_path / "night.jpg").unlink()
        clip = next(hit.clip_id for hit in library.search("a rocket") if hit.path.name == "night.jpg")
        with pytest.raises(MediaError, match=rf"clip {clip} cannot be looked at again: file is gone"):
            library.search(clip=clip, rerank=Reranking("elsewhere"))


def test_a_writer_meanwhile_changes_nothing(
    mini: Encoder, sample_media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process forgets a file that was found by its words and its picture: when both have been looked for, and
    while the second encoder decodes. The outside truth: what the same search gives with nobody writing."""
    (tmp_path / "media").mkdir()
    for name in ("pet.jpg", "night.jpg", "table.jpg", "call.mp4"):
        shutil.copy(sample_media / name, tmp_path / "media" / name)
    (tmp_path / "media" / "call.srt").write_text("1\n00:00:00,500 --> 00:00:02,000\na cat told me\n")
    encoder, writes = SameButElsewhere(mini), list[Callable[[], object]]()
    monkeypatch.setattr(Rerankers, "encoder", lambda self, wanted: encoder)

    def write() -> None:
        while writes:
            writes.pop()()

    def looking(batch: NDArray[np.float32]) -> Embeddings:
        write()
        return SameButElsewhere.encode_images(encoder, batch)

    def finding(*arguments: object, **options: object) -> object:
        found = find_texts(*arguments, **options)  # type: ignore[arg-type]
        write()
        return found

    with (
        library_with(mini, tmp_path / "library") as library,
        library_with(mini, tmp_path / "library") as other,
    ):
        list(library.index([tmp_path / "media"]))
        (clip,) = {hit.clip_id for hit in library.search("a person", k=9) if hit.path.name == "call.mp4"}
        for text, rerank, place in (
            ("a cat", None, "ivsearch.search.texts.find_texts"),
            ("a cat", Reranking("elsewhere"), "ivsearch.search.texts.find_texts"),
            ("a cat", Reranking("elsewhere"), None),
            (None, Reranking("elsewhere"), None),
        ):
            query = Query(text, clip_id=None if text else clip)
            expected = library.find(query, rerank=rerank)
            assert len(expected) >= 3
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(place, finding) if place else patch.setattr(encoder, "encode_images", looking)
                writes.append(lambda: other.remove(tmp_path / "media" / "call.mp4"))
                assert library.find(query, rerank=rerank) == expected
            assert writes == [] and len(library.catalog.paths()) == 3, "somebody has written meanwhile"
            list(other.index([tmp_path / "media"]))
            assert library.searcher().complaints == []
            (clip,) = {hit.clip_id for hit in library.search("a person", k=9) if hit.path.name == "call.mp4"}
        with pytest.raises(UsageError, match="words are not ranked again: leave --rerank out, or --only text"):
            library.find(Query("a cat"), rerank=Reranking("elsewhere"), only=Only.TEXT)


@pytest.mark.usefixtures("elsewhere")
def test_a_file_that_has_changed_is_not_judged(mini: Encoder, sample_media: Path, tmp_path: Path) -> None:
    media = [Path(shutil.copy(sample_media / name, tmp_path)) for name in ("pet.jpg", "night.jpg", "table.jpg")]
    with library_with(mini, tmp_path / "library") as library:
        assert all(isinstance(event, Ingested) for event in library.index(media))
        os.utime(tmp_path / "night.jpg", (1, 1))
        shutil.copy(sample_media / "garage.jpg", tmp_path / "pet.jpg")
        again = library.search("a cat", rerank=Reranking("elsewhere"))
        assert [hit.retrieval_score is None for hit in again] == [False, False, True]
        assert again[-1].path.name == "pet.jpg"
        (complaint,) = library.searcher().complaints
        assert "pet.jpg: not ranked again, it has changed since it was indexed: run `ivsearch index`" in complaint


def test_pictures_with_too_many_pixels_are_not_judged(sample_library: Library, mini: Encoder) -> None:
    complaints: list[str] = []
    vectors = VectorStore(Path("none"), Space("elsewhere", "e" * 16, mini.space.dim))
    reranker = Reranker(SameButElsewhere(mini), vectors, complaints.append, max_pixels=100)
    found = sample_library.find(Query("a cat"), k=5)
    again = reranker.rank(found, reranker.rows(found, sample_library.catalog), depth=5, itm=False)
    assert all(hit.retrieval_score is None for hit in again.hits) and len(complaints) == 5
    assert all("pixels" in complaint for complaint in complaints)


@pytest.mark.parametrize("itm", [False, True])
def test_few_frames_are_held_at_once(
    sample_library: Library, mini: Encoder, monkeypatch: pytest.MonkeyPatch, itm: bool
) -> None:
    class Counting(Matching):
        held = most = 0
        lock = Lock()

        def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            with self.lock:
                self.held += len(pixels)
                self.most = max(self.most, self.held)
            return super().preprocess(pixels)

        def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
            with self.lock:
                self.held -= len(batch)
            return super().encode_images(batch)

        def match(self, batch: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
            with self.lock:
                self.held -= len(batch)
            return super().match(batch, texts)

    monkeypatch.setattr("ivsearch.search.rerank.MAX_READERS", 2)
    encoder = Counting(mini)
    vectors = VectorStore(Path("none"), encoder.space)
    found = sample_library.find(Query("a cat"), k=20)
    reranker = Reranker(encoder, vectors, pytest.fail)
    reranker.rank(found, reranker.rows(found, sample_library.catalog), depth=8, itm=itm)
    assert encoder.held == 0 and 0 < encoder.most <= 2 * 8


def test_matching_sees_picture_and_text_together(sample_library: Library, mini: Encoder) -> None:
    encoder = Matching(mini)
    reranker = Reranker(encoder, VectorStore(Path("none"), encoder.space), pytest.fail)
    found = sample_library.find(Query("a cat"), k=20)
    again = reranker.rank(found, reranker.rows(found, sample_library.catalog), depth=50, itm=True)
    images = [hit for hit in again if hit.kind is MediaKind.IMAGE]
    pictures = [np.asarray(Image.open(hit.path).convert("RGB")) for hit in images]
    batches = [encoder.preprocess([picture]) for picture in pictures]
    expected = [float((batch[0, 0] - batch[0, 2]).mean()) for batch in batches]
    np.testing.assert_allclose([hit.score for hit in images], expected, atol=0.02)
    with pytest.raises(UsageError, match="--rerank-itm judges pictures against a text"):
        of_image = sample_library.find(Query(image=images[0].path))
        reranker.rank(of_image, reranker.rows(of_image, sample_library.catalog), depth=5, itm=True)


def test_what_makes_no_sense(sample_library: Library) -> None:
    for wanted, message in (
        (Reranking("mini", depth=0), "the number of hits to rank again must be at least 1, not 0"),
        (Reranking("mini", itm=True), "encoder 'mini' has no image-text matching: leave --rerank-itm out"),
        (Reranking("typo"), "unknown encoder 'typo'"),
    ):
        with pytest.raises(UsageError, match=message):
            sample_library.search("a cat", rerank=wanted)
