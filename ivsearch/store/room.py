"""What a library holds and how much room it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Modality, Skipped, Space
from ivsearch.store.catalog import Catalog, Totals
from ivsearch.store.files import bytes_below, bytes_of
from ivsearch.store.ownership import remembered_as
from ivsearch.store.texts import Texts
from ivsearch.store.thumbs import MEASURED_MEDIA, Thumbs
from ivsearch.store.visual_tokens import NAME as VISUAL_TOKENS

DEAD_SHARE = 0.3
"""More of the vectors than this should not be dead."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a Library holds and how much room it takes. ``space`` is the active one. ``catalog`` is where that
    is, empty for the file in the folder."""

    folder: Path
    space: Space | None
    spaces: tuple[Space, ...]
    totals: Totals
    skipped: tuple[Skipped, ...]
    catalog: str
    catalog_bytes: int
    vector_bytes: int
    dead_bytes: int
    """Of these, what no row of a Space points at."""
    index_bytes: int
    thumb_bytes: int
    """About, where ``thumbs_are_many``."""
    visual_token_bytes: int
    texts: Mapping[Modality, tuple[int, int]]
    """Tracks and lines of words in the footage, by where they come from."""

    @property
    def thumbs_are_many(self) -> bool:
        """Too many to look at each of them."""
        return self.totals.media > MEASURED_MEDIA

    @property
    def wants_compaction(self) -> bool:
        return self.dead_bytes > DEAD_SHARE * self.vector_bytes


def measure(folder: Path, catalog: Catalog, active: Space | None) -> Stats:
    totals = catalog.totals(active)
    return Stats(
        folder=folder,
        space=active,
        spaces=tuple(catalog.spaces()),
        totals=totals,
        skipped=tuple(catalog.skipped()),
        catalog=remembered_as(catalog, folder),
        catalog_bytes=catalog.size_bytes(),
        vector_bytes=bytes_below(folder / "vectors"),
        dead_bytes=_dead_bytes(folder, catalog),
        index_bytes=bytes_below(folder / "index"),
        thumb_bytes=Thumbs(folder / "thumbs").size_bytes(totals.media),
        visual_token_bytes=bytes_below(folder / VISUAL_TOKENS),
        texts=Texts(catalog).totals(),
    )


def _dead_bytes(folder: Path, catalog: Catalog) -> int:
    with catalog.snapshot():
        live, spaces = catalog.vector_bytes(), catalog.spaces()
    there = sum(bytes_of((folder / "vectors" / space.key).glob("*.seg")) for space in spaces)
    return max(there - live, 0)
