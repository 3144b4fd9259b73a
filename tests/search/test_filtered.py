"""Filters of every width give what a comparison with all that pass gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivsearch.clips import pool, span_of
from ivsearch.domain import Filters, MediaKind, Query
from ivsearch.search.search import Search
from ivsearch.store.catalog import Catalog
from ivsearch.store.refresh import refresh
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore
from tests.store.conftest import SPACE, add


class Named:
    """All that is asked of an encoder here."""

    space = SPACE


@pytest.mark.parametrize("wider", [1, 10, 100])
def test_the_nearest_that_pass(tmp_path: Path, wider: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ivsearch.search.search.WIDER", wider)
    catalog, store = Catalog(tmp_path / "catalog.db"), VectorStore(tmp_path / "vectors", SPACE)
    catalog.add_space(SPACE)
    for folder, seeds in (("/a/wide", range(1, 120)), ("/a/narrow", range(120, 128))):
        add(catalog, store, list(seeds), folder)
    index = VectorIndex(SPACE)
    refresh(index, None, catalog, store)
    search = Search(catalog, store, index, Named())  # type: ignore[arg-type]

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
        found = search._nearest(query, Query("x", filters=filters, after_clip=after), 5)
        assert found == [clip_id for _, clip_id in scored[:5]]
    catalog.close()
