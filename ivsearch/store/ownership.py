"""A Catalog belongs to one Library: both hold the Library's id, and what does not fit together is not opened.

Where the Catalog is is said by the setting ``catalog``, else by the manifest, else it is ``catalog.db`` in the folder.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from uuid import uuid4

from ivsearch.errors import LibraryDamaged, UsageError
from ivsearch.store.catalog import Catalog
from ivsearch.store.engine import parsed, without_password
from ivsearch.store.manifest import manifest_of, write_manifest

FILE = "catalog.db"


def catalog_place(folder: Path, setting: str) -> str | Path:
    """The URL or file of the Catalog of the library in ``folder``; ``setting`` is empty where nobody names one."""
    try:
        remembered = manifest_of(folder).catalog
    except LibraryDamaged:
        remembered = ""
    return setting or remembered or folder / FILE


def open_catalog(folder: Path, place: str | Path) -> Catalog:
    """The Catalog at ``place`` (see ``catalog_place``). Raises UsageError when it is not that of this library, and what
    ``Catalog`` raises."""
    catalog = Catalog(place)
    try:
        _check(folder, place, catalog)
    except BaseException:
        catalog.close()
        raise
    return catalog


def claim(folder: Path, catalog: Catalog) -> None:
    """Makes the Catalog that of the library in ``folder``, and remembers where it is. Only for the one writer."""
    manifest = manifest_of(folder)
    wanted = dataclasses.replace(
        manifest,
        library_id=manifest.library_id or catalog.library_id() or uuid4().hex,
        # A file in the folder moves with it; a password is never written down.
        catalog=remembered_as(catalog, folder),
    )
    if wanted != manifest:
        write_manifest(folder, wanted)
    if catalog.claim(wanted.library_id) != wanted.library_id:
        raise _of_another(catalog, folder)


def remembered_as(catalog: Catalog, folder: Path) -> str:
    """What a manifest says about where the Catalog is; empty for the file in the folder."""
    return "" if catalog.file == folder / FILE else without_password(catalog.url)


def _check(folder: Path, place: str | Path, catalog: Catalog) -> None:
    try:
        manifest = manifest_of(folder)
    except LibraryDamaged:
        return  # its id cannot be known; whoever needs the manifest says so
    owner = catalog.library_id()
    if owner and manifest.library_id and owner != manifest.library_id:
        raise _of_another(catalog, folder)
    if isinstance(place, Path):
        return
    if owner and not manifest.library_id and not (folder / "vectors").is_dir():
        raise _of_another(catalog, folder)  # a new folder, and the Catalog of some library elsewhere
    if not owner and (manifest.library_id or (folder / FILE).exists()):
        shown = without_password(parsed(place))
        keeps = manifest.catalog or str(folder / FILE)
        if keeps != shown:
            raise UsageError(
                f"the library {folder} keeps its catalog in {keeps}; {shown} holds nothing of it. Leave out --catalog, "
                "or make a new library: ivsearch index FOLDER --library NEW --catalog URL"
            )


def _of_another(catalog: Catalog, folder: Path) -> UsageError:
    return UsageError(
        f"the catalog {without_password(catalog.url)} belongs to another library than {folder}: a catalog holds one. "
        "Name the folder of that library (--library), or give this one a database of its own: createdb -E UTF8 NAME, "
        "then --catalog postgresql+psycopg://USER@HOST/NAME"
    )
