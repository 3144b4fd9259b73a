"""manifest.json: the format version of a library, its active Space, its encoders and how its videos are sampled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged, LibraryTooNew
from ivsearch.store.files import replace_file

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """How the encoder of a Space is loaded again: ``name`` as typed, with its variant; ``weights``, an absolute folder
    or a hub id, and ``preprocess``, each empty for the encoder's own."""

    name: str
    weights: str = ""
    preprocess: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """``active`` is the Space that searches use, ``fps`` the sampling rate the library was made with, ``roots`` the
    files and folders that were indexed and are looked at again when none is named, ``encoders`` how the encoder of each
    Space was loaded, by the Space's key, the latest last."""

    active: Space | None = None
    fps: float | None = None
    roots: tuple[str, ...] = ()
    encoders: Mapping[str, EncoderSource] = field(default_factory=dict)
    format: int = FORMAT

    def source_of(self, name: str) -> EncoderSource | None:
        """How encoder ``name`` was loaded: for the active Space if that is its, else the latest time."""
        active = self.encoders.get(self.active.key) if self.active else None
        named = [source for source in (*self.encoders.values(), active) if source and source.name == name]
        return named[-1] if named else None


def read_manifest(folder: Path) -> Manifest | None:
    """None when there is no library. Raises LibraryDamaged when it is unreadable, LibraryTooNew when it is newer."""
    path = folder / NAME
    try:
        table = json.loads(path.read_bytes())
        active = table["active"]
        manifest = Manifest(
            active=None if active is None else Space(**active),
            fps=table["fps"],
            roots=tuple(table["roots"]),
            # Libraries made before there were encoders with weights do not have it.
            encoders={key: EncoderSource(**source) for key, source in table.get("encoders", {}).items()},
            format=table["format"],
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LibraryDamaged(f"{path} is damaged ({error!r}); `ivsearch repair` writes it anew") from error
    if manifest.format > FORMAT:
        raise LibraryTooNew(
            f"{path} has format {manifest.format}, this ivsearch knows up to {FORMAT}: upgrade ivsearch"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    replace_file(folder / NAME, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
