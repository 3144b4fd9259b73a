"""Orphans: records that no row of the Catalog points at. Vectors of Media whose rows were lost, or forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

from ivsearch.domain import MediaId
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Record
from ivsearch.store.files import bytes_of
from ivsearch.store.record_bytes import Contents
from ivsearch.store.vector_store import VectorStore


class Orphans:
    """Of one Space. Segments are not looked at before the first question, and only if they hold more than the
    ``known`` records, which are not asked for before that either."""

    def __init__(self, vectors: VectorStore, known: Callable[[], Iterable[Record]]) -> None:
        self._vectors = vectors
        self._read_known = known

    def find(self, media_id: MediaId, sampling: str) -> tuple[Record, Contents] | None:
        """The newest sound record of a Media that was sampled like that and says enough to make its rows again."""
        for record in reversed(self._records.get((media_id, sampling), [])):
            try:
                contents = self._vectors.contents(record)
            except LibraryDamaged:
                continue
            if contents.facts:
                return record, contents
        return None

    @cached_property
    def _records(self) -> dict[tuple[MediaId, str], list[Record]]:
        """Oldest first."""
        known = frozenset(self._read_known())
        segments = self._vectors.segments()
        there_bytes = bytes_of(self._vectors.folder / segment for segment in segments)
        found: dict[tuple[MediaId, str], list[Record]] = {}
        if there_bytes > sum(record.size_bytes for record in known):
            for segment in segments:
                for each in self._vectors.glance(segment):
                    if each.record not in known:
                        found.setdefault((each.media_id, each.sampling), []).append(each.record)
        return found
