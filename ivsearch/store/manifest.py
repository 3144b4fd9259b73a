"""manifest.json: the format version of a library, its active Space and how its videos are sampled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged, LibraryTooNew
from ivsearch.store.files import replace_file

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """``active`` is the Space that searches use, ``fps`` the sampling rate the library was made with, ``roots`` the
    files and folders that were indexed and are looked at again when none is named."""

    active: Space | None = None
    fps: float | None = None
    roots: tuple[str, ...] = ()
    format: int = FORMAT


def read_manifest(folder: Path) -> Manifest | None:
    """None when there is no library. Raises LibraryDamaged when it is unreadable, LibraryTooNew when it is newer."""
    path = folder / NAME
    try:
        table = json.loads(path.read_bytes())
        active = table["active"]
        manifest = Manifest(
            None if active is None else Space(**active), table["fps"], tuple(table["roots"]), table["format"]
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryDamaged(f"{path} is damaged ({error!r}); `ivsearch repair` writes it anew") from error
    if manifest.format > FORMAT:
        raise LibraryTooNew(
            f"{path} has format {manifest.format}, this ivsearch knows up to {FORMAT}: upgrade ivsearch"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    replace_file(folder / NAME, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
