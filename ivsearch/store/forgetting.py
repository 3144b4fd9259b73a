"""Pictures and notes of Media that are being forgotten: written down before their rows go, for nobody looks for the
files of a Media that no row names. Whoever writes next ends what was stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ivsearch.domain import MediaId
from ivsearch.store.catalog import Catalog
from ivsearch.store.files import replace_file, sealed, unsealed
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.visual_tokens import NAME as VISUAL_TOKENS
from ivsearch.store.visual_tokens import forget

NAME = "forgetting.json"


def note(folder: Path, media_ids: Iterable[MediaId]) -> None:
    """Before rows go: which Media may go with them."""
    if wanted := sorted(set(media_ids)):
        replace_file(folder / NAME, sealed({"media": wanted}))


def end(folder: Path, catalog: Catalog, forgotten: Iterable[MediaId] = ()) -> None:
    """Deletes the thumbnails of the ``forgotten`` and the noted Media that are not in the Catalog, and what chat models
    saw of them."""
    noted = _noted(folder)
    gone = sorted({*forgotten, *noted}.difference(catalog.media(noted)))
    Thumbs(folder / "thumbs").forget(gone)
    forget(folder / VISUAL_TOKENS, gone)
    (folder / NAME).unlink(missing_ok=True)


def _noted(folder: Path) -> list[MediaId]:
    try:
        return [str(each) for each in unsealed((folder / NAME).read_bytes())["media"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []  # what it named is thumbnails without a Media at worst: `repair` looks for those, too
