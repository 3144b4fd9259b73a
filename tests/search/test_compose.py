"""Composed queries: against slow sums, and over a real library."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivsearch.domain import Query, Region, Reranking, Term
from ivsearch.encode import embed_images
from ivsearch.errors import MediaError, UsageError
from ivsearch.library import Library
from ivsearch.search.compose import Composed, compose
from ivsearch.store.vector_store import VectorStore


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_clips", [3, 200])
def test_scores_are_standing_scores_added_up(seed: int, n_clips: int) -> None:
    """In the order of the sum of weight × (score - usual) / deviation; what is not wanted from 1.5 deviations on."""
    random = np.random.default_rng(seed)
    vectors, background = unit(random.normal(size=(4, 16))), unit(random.normal(size=(n_clips, 16)))
    rows = unit(random.normal(size=(50, 16)))
    terms = [Term("a", weight=2.0), Term("b"), Term("c", weight=-1.0), Term("d", weight=-0.5)]
    expected = []
    for row in rows.astype(np.float64):
        total = 0.0
        for term, vector in zip(terms, vectors.astype(np.float64), strict=True):
            usual = [float(clip @ vector) for clip in background.astype(np.float64)]
            standing = (float(row @ vector) - np.mean(usual)) / np.std(usual)
            late = 1.5 if n_clips == 200 else 0.0
            total += term.weight * (standing if term.weight > 0 else max(0.0, standing - late))
        expected.append(total)
    scores = compose(terms, vectors, background).scores(rows)
    # A wanted Term's usual score shifts all rows alike, and the length of the wanted vector is another unit.
    slope, shift = np.polyfit(expected, scores, 1)
    assert slope > 0
    np.testing.assert_allclose(scores, slope * np.array(expected) + shift, atol=1e-5)


def test_with_nothing_unwanted_it_is_the_cosine_with_one_unit_vector() -> None:
    random = np.random.default_rng(0)
    rows = unit(random.normal(size=(9, 8)))
    composed = compose([Term("a"), Term("b")], unit(random.normal(size=(2, 8))), unit(random.normal(size=(30, 8))))
    assert np.linalg.norm(composed.wanted) == pytest.approx(1.0)
    np.testing.assert_allclose(composed.scores(rows), rows @ composed.wanted, atol=1e-6)
    np.testing.assert_array_equal(Composed.of(rows[0]).against(rows), np.zeros(9))


def test_without_a_background_weights_alone_count() -> None:
    vectors = np.eye(3, dtype=np.float32)[:2]
    composed = compose([Term("a", weight=3), Term("b", weight=4)], vectors, np.empty((0, 3), np.float32))
    np.testing.assert_allclose(composed.wanted, [0.6, 0.8, 0.0], atol=1e-6)


def test_one_term_is_the_query_as_ever(sample_library: Library) -> None:
    assert sample_library.search(terms=[Term("a cat")], k=5) == sample_library.search("a cat", k=5)


def test_what_is_not_wanted_goes_down_and_the_rest_stays(sample_library: Library) -> None:
    """Two files show a cat: the photo and the compilation. Without what is like the photo, the other one is first."""
    first, second, *_ = sample_library.search("a cat", k=5, per_media=1)
    assert {first.path.name, second.path.name} == {"compilation.mp4", "pet.jpg"}
    photo = next(hit for hit in (first, second) if hit.path.name == "pet.jpg")
    hits = sample_library.search(terms=[Term("a cat"), Term(image=photo.path, weight=-1)], k=5, per_media=1)
    assert hits[0].path.name == "compilation.mp4"
    hits = sample_library.search(terms=[Term("a cat"), Term("coffee", weight=-1)], k=2, per_media=1)
    assert {hit.path.name for hit in hits} == {"compilation.mp4", "pet.jpg"}


def test_a_picture_and_a_text_together(sample_library: Library, sample_media: Path) -> None:
    """Each alone is first for its own; together both are at the top."""
    terms = [Term(image=sample_media / "table.jpg"), Term("a cat")]
    top = {hit.path.name for hit in sample_library.search(terms=terms, k=3, per_media=1)}
    assert {"table.jpg", "pet.jpg"} <= top
    heavy = [Term(image=sample_media / "table.jpg", weight=0.05), Term("a cat")]
    assert sample_library.search(terms=heavy, k=1)[0].path.name in ("compilation.mp4", "pet.jpg")


def test_a_clip_does_not_find_itself_when_composed(sample_library: Library) -> None:
    clip_id = sample_library.search("a cat", k=1)[0].clip_id
    hits = sample_library.search(terms=[Term(clip_id=clip_id), Term("a cat")], k=20)
    assert hits and clip_id not in [hit.clip_id for hit in hits]


def test_a_part_of_a_clip(sample_library: Library) -> None:
    """The frames shown in that part, pooled by hand."""
    library = sample_library
    clip = max(
        library.catalog.clips_of(library.encoder.space, list(library.catalog.encodings(library.encoder.space))),
        key=lambda each: each.n_frames,
    )
    store = VectorStore(library.folder / "vectors", library.encoder.space)
    frames = store.read(library.catalog.encodings(library.encoder.space, [clip.media_id])[clip.media_id].record)
    times = frames.pts_s[clip.first_frame : clip.first_frame + clip.n_frames]
    start_s, end_s = float(times[1]), float(times[3])
    expected = unit(frames.vectors[clip.first_frame + 1 : clip.first_frame + 3].astype(np.float32).mean(0))
    query = Query(terms=(Term(clip_id=clip.clip_id, start_s=start_s, end_s=end_s),))
    np.testing.assert_allclose(library.searcher().encode(query), expected, atol=1e-3)
    with pytest.raises(UsageError, match=rf"clip {clip.clip_id} runs from .*: nothing of it is between"):
        library.search(terms=[Term(clip_id=clip.clip_id, start_s=clip.end_s + 50, end_s=clip.end_s + 60)])
    with pytest.raises(UsageError, match="there is no clip 99999 in this library"):
        library.search(terms=[Term(clip_id=99999), Term("a cat")])


def test_a_region_is_encoded_as_the_picture_cropped(
    sample_library: Library, sample_media: Path, tmp_path: Path
) -> None:
    source = sample_media / "table.jpg"
    with Image.open(source) as image:
        width, height = image.size
        image.convert("RGB").crop((width // 4, 0, width, height // 2)).save(tmp_path / "part.png")
    region = Region(width // 4, 0, width - width // 4, height // 2, in_pixels=True)
    searcher = sample_library.searcher()
    vector = searcher.encode(Query(image=source, region=region))
    expected = embed_images(sample_library.encoder, [tmp_path / "part.png"]).vectors[0]
    assert float(vector @ expected) > 0.999
    assert float(searcher.encode(Query(image=source)) @ expected) < 0.99
    np.testing.assert_array_equal(vector, searcher.encode(Query(terms=(Term(image=source, region=region),))))
    with pytest.raises(UsageError, match="outside the picture of"):
        sample_library.search(image=source, region=Region(0.5, 0, 0.6, 1))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"broken\.jpg: "):
        sample_library.search(terms=[Term(image=tmp_path / "broken.jpg"), Term("a cat")])
    with pytest.raises(UsageError, match="is a video: search by one of its clips"):
        sample_library.search(terms=[Term(image=sample_media / "compilation.mp4"), Term("a cat")])


def test_composed_queries_are_ranked_again(sample_library: Library) -> None:
    """By the same terms in the other encoder's Space; here the same one, so that the best stay the best."""
    terms = [Term("a cat"), Term("coffee", weight=-1)]
    again = sample_library.search(terms=terms, k=2, per_media=1, rerank=Reranking("mini", depth=10))
    assert {hit.path.name for hit in again} == {"compilation.mp4", "pet.jpg"}
    assert all(hit.retrieval_score is not None for hit in again)
    with pytest.raises(UsageError, match=r"no image-text matching|judges pictures against a text"):
        sample_library.search(terms=terms, rerank=dataclasses.replace(Reranking("mini"), itm=True))
