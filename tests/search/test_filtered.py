"""Filters of every width give what a comparison with all that pass gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivsearch.clips import pool, span_of
from ivsearch.domain import Filters, Ingested, MediaKind, Query
from ivsearch.encode.encoder import Encoder
from ivsearch.library import Library
from ivsearch.search.retrieve import nearest
from ivsearch.store.catalog import Catalog
from ivsearch.store.refresh import refresh
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore
from tests.conftest import library_with
from tests.store.conftest import SPACE, add


@pytest.mark.parametrize("wider", [1, 10, 100])
def test_the_nearest_that_pass(tmp_path: Path, wider: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ivsearch.search.retrieve.WIDER", wider)
    catalog, store = Catalog(tmp_path / "catalog.db"), VectorStore(tmp_path / "vectors", SPACE)
    catalog.add_space(SPACE)
    for folder, seeds in (("/a/wide", range(1, 120)), ("/a/narrow", range(120, 128))):
        add(catalog, store, list(seeds), folder)
    index = VectorIndex(SPACE)
    refresh(index, None, catalog, store)

    clips = catalog.clips_of(SPACE)
    encodings = catalog.encodings(SPACE)
    vectors = [pool(store.read(encodings[clip.media_id].record).vectors, [span_of(clip)])[0] for clip in clips]
    folder_of = {row.media_id: row.path.parent.name for row in catalog.paths()}
    rng = np.random.default_rng(20261122)
    last = max(clip.clip_id for clip in clips)
    for filters, after, passes in (
        (Filters(), None, lambda clip: True),
        (Filters(), last - 7, lambda clip: clip.clip_id > last - 7),
        (Filters(paths=("wide/*",)), None, lambda clip: folder_of[clip.media_id] == "wide"),
        (Filters(paths=("narrow/*",)), None, lambda clip: folder_of[clip.media_id] == "narrow"),
        (Filters(kind=MediaKind.VIDEO), 9, lambda clip: clip.clip_id > 9),
        (Filters(kind=MediaKind.IMAGE), None, lambda clip: False),
    ):
        query = rng.standard_normal(SPACE.dim).astype(np.float32)
        query /= np.linalg.norm(query)
        scored = sorted(
            (
                (float(vector @ query), clip.clip_id)
                for vector, clip in zip(vectors, clips, strict=True)
                if passes(clip)
            ),
            reverse=True,
        )
        found = nearest(catalog, index, query, Query("x", filters=filters, after_clip=after), 5)
        assert found == [clip_id for _, clip_id in scored[:5]]
    catalog.close()


@pytest.fixture(scope="module")
def with_copy(mini: Encoder, sample_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Photos in one folder, and one of them encoded anew in another, beside other photos."""
    own, others = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("others")
    photos = sorted(sample_media.glob("*.jpg"))
    assert len(photos) >= 4
    for path in photos:
        shutil.copy(path, (own if path.name in ("pet.jpg", "table.jpg") else others) / path.name)
    with Image.open(own / "pet.jpg") as photo:
        photo.resize((photo.width * 2 // 3, photo.height * 2 // 3)).save(others / "again.jpg", quality=60)
    with library_with(mini, tmp_path_factory.mktemp("library")) as library:
        assert all(isinstance(event, Ingested) for event in library.index([own, others]))
        yield library


def test_a_copy_outside_the_filter_is_no_rival(with_copy: Library) -> None:
    """The outside truth: how likely the photo is in the same library without its copy: 0.93, and 0.55 where the copy
    counts as a rival. There are only eight clips, and one more or less changes what is usual a little, too."""
    own = Filters(paths=("*/own*/*",))
    (among_all, *_) = with_copy.search("a pet", k=3)
    (filtered, *_) = with_copy.search("a pet", k=3, filters=own)
    assert {filtered.path.name, among_all.path.name} <= {"pet.jpg", "again.jpg"}
    assert [copy.path.name for copy in among_all.copies] in (["again.jpg"], ["pet.jpg"])
    asked = with_copy.ask("a pet", filters=own).cited[0]
    (again,) = [row.path for row in with_copy.catalog.paths() if row.path.name == "again.jpg"]
    again.unlink()
    list(with_copy.index([again.parent]))
    (alone, *_) = with_copy.search("a pet", k=3, filters=own)
    asked_alone = with_copy.ask("a pet", filters=own).cited[0]
    assert filtered.likely == pytest.approx(alone.likely, abs=0.15)
    assert asked.support == pytest.approx(asked_alone.support, abs=0.15)
