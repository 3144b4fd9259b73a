"""Search over a real library against a slow loop that looks at every Clip."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ivsearch.domain import Filters, MediaKind, Moment, Only, Query
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import UsageError
from ivsearch.library import Library
from ivsearch.scoring.vocabulary import vocabulary
from ivsearch.search.collapse import collapse
from ivsearch.search.refine import FoundSpan
from ivsearch.settings import load_settings
from ivsearch.store.vector_store import VectorStore

QUERIES = ["a cat", "ein Motorrad", "звёздное небо", "一杯咖啡", "people on the street", "رائد فضاء"]


@lru_cache(maxsize=1)
def words_of(encoder: Encoder) -> NDArray[np.float64]:
    return encoder.encode_texts([word.english for word in vocabulary()]).vectors.astype(np.float64)


def brute_force(library: Library, text: str, allowed: set[str] | None = None) -> list[tuple[str, float]]:
    """Every Media by its best Clip: mostly its best two frames in a row, less four tenths of how much nearer it is to
    its ten nearest words than Clips usually are, or a penalty for being near to none; numpy, float64."""
    query = library.encoder.encode_texts([text]).vectors[0].astype(np.float64)
    words = words_of(library.encoder)

    def nearness(row: NDArray[np.float64]) -> float:
        return float(np.mean(sorted(words @ row)[-10:]))

    space, catalog = library.encoder.space, library.catalog
    store = VectorStore(library.folder / "vectors", space)
    views: list[tuple[str, NDArray[np.float64]]] = []
    means = []
    for media_id, encoding in catalog.encodings(space).items():
        name = catalog.media_paths([media_id])[media_id][0].name
        rows = store.read(encoding.record).vectors.astype(np.float64)
        for clip in catalog.clips_of(space, [media_id]):
            part = rows[clip.first_frame : clip.first_frame + clip.n_frames]
            mean = part.mean(0) / np.linalg.norm(part.mean(0))
            means.append(mean)
            pairs = [part[i : i + 2].mean(0) for i in range(max(len(part) - 1, 1))]
            views.append((name, 0.15 * mean + 0.85 * max(pairs, key=lambda row: row @ query)))
    near = [nearness(mean) for mean in means]
    usual = float(np.median(near))
    turn = -2 * 1.4826 * float(np.median([abs(each - usual) for each in near]))
    best: dict[str, float] = {}
    for name, view in views:
        if allowed is None or name in allowed:
            above = nearness(view) - usual
            off = 0.4 * (above if above >= turn else turn + 5 * (turn - above))
            score = float(view @ query) - off
            best[name] = max(best.get(name, -1.0), score)
    return sorted(best.items(), key=lambda each: -each[1])


@pytest.mark.parametrize("text", QUERIES)
def test_hits_equal_brute_force(sample_library: Library, text: str) -> None:
    hits = sample_library.search(text, k=20, per_media=1)
    expected = brute_force(sample_library, text)
    assert [hit.path.name for hit in hits] == [name for name, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], atol=1e-4)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_filtered_hits_equal_brute_force_among_what_passes(sample_library: Library) -> None:
    hits = sample_library.search("a cat", k=20, per_media=1, filters=Filters(kind=MediaKind.VIDEO))
    videos = {hit.path.name for hit in hits}
    assert videos == {"street.mp4", "cartoon.mp4", "call.mp4", "compilation.mp4"}
    assert [hit.path.name for hit in hits] == [name for name, _ in brute_force(sample_library, "a cat", videos)]


def spans(*scores: float) -> list[FoundSpan]:
    moment = Moment(0, 1, 0)
    return [FoundSpan(None, i, i + 1, score, moment) for i, score in enumerate(scores)]  # type: ignore[arg-type]


def test_collapse_shows_each_media_once_while_there_are_enough() -> None:
    found = {"a": spans(0.9, 0.8, 0.7), "b": spans(0.6), "c": spans(0.5, 0.4)}
    shown = [(media_id, span.score) for media_id, span in collapse(found, 3, None)]
    assert shown == [("a", 0.9), ("b", 0.6), ("c", 0.5)]


def test_collapse_shows_more_of_each_when_there_are_few() -> None:
    found = {"a": spans(0.9, 0.8, 0.7), "b": spans(0.6)}
    assert [span.score for _, span in collapse(found, 4, None)] == [0.9, 0.8, 0.7, 0.6]
    assert [span.score for _, span in collapse(found, 9, None)] == [0.9, 0.8, 0.7, 0.6]
    assert [span.score for _, span in collapse(found, 9, 1)] == [0.9, 0.6]
    assert collapse({}, 5, None) == []


def test_a_long_text_is_read_no_further_than_any_encoder_reads(
    sample_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    encoder = sample_library.encoder
    original = encoder.encode_texts
    monkeypatch.setattr(encoder, "encode_texts", lambda texts: read.extend(texts) or original(texts))
    hits = sample_library.search("a cat " + " " * 20 + "on a sofa " * 1000, k=3)
    assert hits and len(read) == 1 and 1000 < len(read[0]) <= 2000


def test_a_query_encoded_already_is_not_encoded_again(sample_library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    search = sample_library.searcher()
    expected = search.find(Query("a cat"), 5)
    vector = search.encode(Query("a cat"))
    monkeypatch.delattr(type(sample_library.encoder), "encode_texts")
    assert search.find(Query("a cat"), 5, vector=vector) == expected


@pytest.mark.parametrize("per_media", [0, -1])
def test_less_than_one_hit_a_file_is_refused(sample_library: Library, per_media: int) -> None:
    with pytest.raises(UsageError, match=f"at least 1 hit of one file must be wanted, not {per_media}"):
        sample_library.search("a cat", per_media=per_media)


def test_more_hits_begin_with_the_same_ones(sample_library: Library) -> None:
    search = replace(sample_library.searcher(), diverse=0.4)
    few, more = search.find(Query("people"), 3, per_media=1), search.find(Query("people"), 6, per_media=1)
    assert [hit.media_id for hit in few] == [hit.media_id for hit in more][:3]


def test_what_no_setting_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="setting 'min_likely' must be a number, not nan"):
        load_settings({"min_likely": float("nan")}, environ={}, folders=[tmp_path])


@pytest.mark.parametrize("only", [None, Only.TEXT])
def test_a_text_that_is_no_unicode_is_refused(sample_library: Library, only: Only | None) -> None:
    with pytest.raises(UsageError, match=r"no valid Unicode .* decode it with the encoding it is in"):
        sample_library.find(Query("caf\udce9"), only=only)
