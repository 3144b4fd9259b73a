"""What a library holds and how much room it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Modality, Skipped, Space
from ivsearch.store.catalog import Catalog, Totals
from ivsearch.store.ownership import remembered_as
from ivsearch.store.texts import Texts
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
    visual_token_bytes: int
    texts: Mapping[Modality, tuple[int, int]]
    """Tracks and lines of words in the footage, by where they come from."""

    @property
    def wants_compaction(self) -> bool:
        return self.dead_bytes > DEAD_SHARE * self.vector_bytes


def measure(folder: Path, catalog: Catalog, active: Space | None) -> Stats:
    return Stats(
        folder=folder,
        space=active,
        spaces=tuple(catalog.spaces()),
        totals=catalog.totals(active),
        skipped=tuple(catalog.skipped()),
        catalog=remembered_as(catalog, folder),
        catalog_bytes=catalog.size_bytes(),
        vector_bytes=bytes_below(folder / "vectors"),
        dead_bytes=_dead_bytes(folder, catalog),
        index_bytes=bytes_below(folder / "index"),
        thumb_bytes=bytes_below(folder / "thumbs"),
        visual_token_bytes=bytes_below(folder / VISUAL_TOKENS),
        texts=Texts(catalog).totals(),
    )


def _dead_bytes(folder: Path, catalog: Catalog) -> int:
    with catalog.snapshot():
        live, spaces = catalog.vector_bytes(), catalog.spaces()
    there = sum(bytes_of((folder / "vectors" / space.key).glob("*.seg")) for space in spaces)
    return max(there - live, 0)


def bytes_below(folder: Path) -> int:
    return bytes_of(folder.rglob("*"))


def bytes_of(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
