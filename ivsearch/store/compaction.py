"""Compaction: segments written anew without the records that nothing needs, so that the room of those is free again.

One old segment after another. What is needed of it is copied behind what was copied before, its checksum looked at, and
fsynced; where each record went is written beside, for readers that know the old places; one transaction switches the
rows; then the old file goes. Whoever is stopped leaves either copies that no row names, or an old file that none does:
the next compaction frees both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import MediaId, Space
from ivsearch.errors import LibraryDamaged, LibraryError
from ivsearch.store.catalog import Catalog, Encoding, Record
from ivsearch.store.files import sync_folder
from ivsearch.store.vector_store import SEGMENT_BYTES, VectorStore, next_segment, read_moved, write_moved

SPARE_BYTES = 16 << 20
"""Left free: the catalog writes, too."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of the vectors of a Space."""

    space: Space
    before_bytes: int
    after_bytes: int


def compact(
    vectors: VectorStore,
    catalog: Catalog,
    is_of_use: Callable[[MediaId], bool],
    tell: Callable[[str], None] = lambda line: None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Compacted:
    """Frees what no row needs of the vectors of one Space. Only for the one writer.

    ``is_of_use``: whether the next run may take up the vectors of a Media that has no row in this Space. ``tell`` is
    called with a line for each segment. Raises LibraryError where there is not enough room for a segment's copy,
    LibraryDamaged for a record that does not fit its checksum; what was compacted before stays.
    """
    folder, space = vectors.folder, vectors.space
    if not folder.is_dir():
        return Compacted(space, 0, 0)
    before_bytes = _size_of(vectors)
    _follow_moved(vectors, catalog)
    for path in folder.glob("*.moved"):
        path.unlink()
    live_bytes = catalog.bytes_by_segment(space)
    segments = [each for each in _filled(vectors) if (folder / each).stat().st_size != live_bytes.get(each)]
    of_use = _of_use(vectors, catalog, segments, is_of_use)
    copy = _Copy(vectors)
    for number, segment in enumerate(segments, 1):
        needed: list[Encoding | Record] = [*catalog.encodings_in(space, segment).values(), *of_use.get(segment, [])]
        kept = sorted(needed, key=lambda each: _record_of(each).offset_bytes)
        kept_bytes = sum(_record_of(each).size_bytes for each in kept)
        if kept_bytes == (folder / segment).stat().st_size:
            continue
        lacking = kept_bytes + SPARE_BYTES - free_bytes(folder)
        if lacking > 0:
            raise LibraryError(
                f"to write {folder / segment} anew takes {kept_bytes + SPARE_BYTES:,} bytes, {lacking:,} more than are "
                "free: make room there and run `ivsearch compact` again"
            )
        tell(f"{space.encoder} {space.revision[:12]}: segment {number} of {len(segments)}, {len(kept):,} records stay")
        moved = {_record_of(each): copy.add(_record_of(each)) for each in kept}
        copy.sync()
        write_moved(folder / segment, moved)
        of_rows = [each for each in kept if isinstance(each, Encoding)]
        catalog.move_records(space, {each.media_id: moved[each.record] for each in of_rows})
        (folder / segment).unlink()
    sync_folder(folder)
    return Compacted(space, before_bytes, _size_of(vectors))


def _follow_moved(vectors: VectorStore, catalog: Catalog) -> None:
    """For rows that name what was compacted before, as those of a catalog put back from a copy: before where that went
    is forgotten."""
    for segment in catalog.bytes_by_segment(vectors.space).keys() - set(vectors.segments()):
        moved = read_moved(vectors.folder / segment)
        encodings = catalog.encodings_in(vectors.space, segment).values()
        found = {each.media_id: each.record for each in encodings if each.record.offset_bytes in moved}
        places = {key: Record(*moved[each.offset_bytes], each.size_bytes) for key, each in found.items()}
        catalog.move_records(vectors.space, places)


def _filled(vectors: VectorStore) -> list[str]:
    """Segments with anything in them. Of the others, which earlier compactions left, only the last is kept."""
    segments = vectors.segments()
    empty = [segment for segment in segments if not (vectors.folder / segment).stat().st_size]
    for segment in empty:
        if segment != segments[-1]:
            (vectors.folder / segment).unlink()
    return [segment for segment in segments if segment not in empty]


class _Copy:
    """New segments, one after another, with numbers that no segment had before."""

    def __init__(self, vectors: VectorStore) -> None:
        self._vectors = vectors
        self._segment = ""

    def add(self, record: Record) -> Record:
        """Raises LibraryDamaged, OSError (disk full)."""
        path = self._open()
        if path.stat().st_size >= SEGMENT_BYTES:
            self.sync()
            self._segment = ""
            path = self._open()
        self._vectors.contents(record)
        with (self._vectors.folder / record.segment).open("rb") as source, path.open("ab") as target:
            source.seek(record.offset_bytes)
            offset = target.tell()
            target.write(source.read(record.size_bytes))
        return Record(path.name, offset, record.size_bytes)

    def sync(self) -> None:
        with self._open().open("ab") as file:
            os.fsync(file.fileno())
        sync_folder(self._vectors.folder)

    def _open(self) -> Path:
        # Also where nothing is to be copied: numbers go on, so that no old place is ever that of another record.
        if not self._segment:
            segments = self._vectors.segments()
            is_empty = bool(segments) and not (self._vectors.folder / segments[-1]).stat().st_size
            self._segment = segments[-1] if is_empty else next_segment(segments)
            (self._vectors.folder / self._segment).touch()
        return self._vectors.folder / self._segment


def _of_use(
    vectors: VectorStore, catalog: Catalog, segments: Sequence[str], is_of_use: Callable[[MediaId], bool]
) -> dict[str, list[Record]]:
    """By segment, the newest sound record of each Media and sampling that no row has vectors of, and that may be taken
    up."""
    there = set(vectors.segments())
    newest: dict[tuple[MediaId, str], Record] = {}
    for segment in segments:
        met = [each for each in vectors.glance(segment) if each.sampling]
        rows = catalog.encodings(vectors.space, [each.media_id for each in met])
        held = {media_id for media_id, encoding in rows.items() if encoding.record.segment in there}
        for each in met:
            if each.media_id not in held and is_of_use(each.media_id) and _is_sound(vectors, each.record):
                newest[each.media_id, each.sampling] = each.record
    of_use: dict[str, list[Record]] = {}
    for record in newest.values():
        of_use.setdefault(record.segment, []).append(record)
    return of_use


def _is_sound(vectors: VectorStore, record: Record) -> bool:
    try:
        vectors.contents(record)
    except LibraryDamaged:
        return False
    return True


def _record_of(needed: Encoding | Record) -> Record:
    return needed.record if isinstance(needed, Encoding) else needed


def _size_of(vectors: VectorStore) -> int:
    return sum((vectors.folder / segment).stat().st_size for segment in vectors.segments())
