"""Looking after a library on disk: what is wrong with it, mending it, forgetting files."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ivsearch.domain import MediaId, Removed, Space
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import Catalog
from ivsearch.store.files import set_aside
from ivsearch.store.lock import writer_lock
from ivsearch.store.manifest import NAME as MANIFEST
from ivsearch.store.manifest import Manifest, check_manifest, read_manifest, write_manifest
from ivsearch.store.refresh import save_index
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.vector_index import VectorIndex, check_generation
from ivsearch.store.vector_store import VectorStore
from ivsearch.store.visual_tokens import NAME as VISUAL_TOKENS
from ivsearch.store.visual_tokens import drop_damaged, keep_only


def remove(folder: Path, catalog: Catalog, paths: Sequence[Path]) -> list[Removed]:
    """Forgets files, or everything below folders (``paths`` absolute). The files themselves are not touched."""
    with writer_lock(folder):
        gone = [row for row in catalog.paths() if any(row.path.is_relative_to(path) for path in paths)]
        unread = [each.path for each in catalog.skipped() if any(each.path.is_relative_to(path) for path in paths)]
        catalog.remove_paths([*(row.path for row in gone), *unread])
        manifest = read_manifest(folder) or Manifest()
        roots = tuple(root for root in manifest.roots if not any(Path(root).is_relative_to(path) for path in paths))
        write_manifest(folder, dataclasses.replace(manifest, roots=roots))
        kept: set[MediaId] = set()
        for space in catalog.spaces():
            save_index(folder, catalog, space)
            kept |= catalog.encodings(space).keys()
        Thumbs(folder / "thumbs").keep_only(kept)
        keep_only(folder / VISUAL_TOKENS, kept)
    return [Removed(row.path, row.media_id) for row in gone]


def verify(folder: Path, catalog_url: str | Path) -> Iterator[str]:
    """Reads everything there is and yields what is wrong, in words; nothing when all is well."""
    try:
        yield from check_manifest(folder)
        catalog = Catalog(catalog_url)
    except LibraryDamaged as error:
        yield str(error)
        return
    with closing(catalog):
        yield from catalog.complaints()
        for space in catalog.spaces():
            vectors = VectorStore(folder / "vectors", space)
            for encoding in catalog.encodings(space).values():
                try:
                    vectors.read(encoding.record)
                except LibraryDamaged as error:
                    yield str(error)
            yield from _verify_index(folder, catalog, space)


def _verify_index(folder: Path, catalog: Catalog, space: Space) -> Iterator[str]:
    if complaint := check_generation(folder / "index" / space.key):
        yield f"{complaint}; `ivsearch repair` builds it anew"
        return
    index, stamp = VectorIndex.load(folder / "index", space, mend=False)
    # One that is behind the catalog is no fault: it is caught up by whoever searches.
    if stamp == catalog.clip_stamp(space) and sorted(index.clip_ids()) != catalog.clip_ids(space):
        yield f"the index of {space.key} does not hold the clips it says; `ivsearch repair` builds it anew"


def repair(folder: Path, catalog_url: str | Path) -> Iterator[str]:
    """Mends what ``verify`` finds, from what is durable, and yields what was done. Nothing is deleted: damaged files
    are set aside. Media whose vectors are lost are encoded again by the next ``index``.

    Nothing else of this process may have the catalog open. One that is no file (``catalog_url`` a text) is never set
    aside.
    """
    with writer_lock(folder):
        bad_manifest = any(check_manifest(folder))
        if isinstance(catalog_url, Path) and _is_broken(catalog_url):
            for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
                if (folder / name).exists():
                    yield f"set aside {set_aside(folder / name)}; run `ivsearch index` to fill a new catalog"
        with closing(Catalog(catalog_url)) as catalog:
            spaces = catalog.spaces()
            if bad_manifest:
                yield from _repair_manifest(folder, catalog)
            for space in spaces:
                yield from _repair_space(folder, catalog, space)
        if dropped := drop_damaged(folder / VISUAL_TOKENS):
            yield f"threw away {dropped} damaged notes of what a chat model saw; it looks again when asked"


def _is_broken(catalog_file: Path) -> bool:
    try:
        with closing(Catalog(catalog_file)) as catalog:
            return any(catalog.complaints())
    except LibraryDamaged:
        return True


def _repair_manifest(folder: Path, catalog: Catalog) -> Iterator[str]:
    """From its copy, or where that is no better, from what the Catalog tells."""
    try:
        manifest = read_manifest(folder)
    except LibraryDamaged:
        manifest = None
    for path in write_manifest(folder, manifest or _manifest_from(catalog)):
        yield f"set aside {path}"
    yield f"wrote {folder / MANIFEST} anew" + (
        "" if manifest else "; name your folders (and --encoder, --weights) at the next `ivsearch index`"
    )


def _manifest_from(catalog: Catalog) -> Manifest:
    for space in catalog.spaces():
        for encoding in catalog.encodings(space).values():
            rate = re.match(r"fps=(\S+)", encoding.sampling)
            return Manifest(active=space, fps=float(rate[1]) if rate else None)
    return Manifest()


def _repair_space(folder: Path, catalog: Catalog, space: Space) -> Iterator[str]:
    vectors = VectorStore(folder / "vectors", space)
    lost = []
    for encoding in catalog.encodings(space).values():
        try:
            vectors.read(encoding.record)
        except LibraryDamaged:
            lost.append(encoding.media_id)
    if lost:
        catalog.drop_encodings(space, lost)
        yield f"forgot the damaged vectors of {len(lost)} media; `ivsearch index` makes them anew"
    broken = list(_verify_index(folder, catalog, space))
    for path in (folder / "index" / space.key).glob("*") if broken else ():
        if not path.name.endswith(".tmp") and ".damaged" not in path.name:
            set_aside(path)
    save_index(folder, catalog, space)
    if broken:
        yield f"built the index of {space.key} anew"
