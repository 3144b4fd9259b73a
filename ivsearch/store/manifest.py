"""manifest.json: the format version of a library, its active Space, its encoders and how its videos are sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ivsearch.domain import Space
from ivsearch.errors import LibraryDamaged, LibraryTooNew
from ivsearch.store.files import replace_file, sealed, set_aside, unsealed

FORMAT = 1
NAME = "manifest.json"
COPY = "manifest.copy.json"
"""The same once more: weights and folders that were named are written down nowhere else."""


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
    """Of the manifest, or where that is gone or damaged, of its copy. None when there is no library. Raises
    LibraryDamaged when neither can be read, LibraryTooNew when a newer ivsearch wrote it."""
    try:
        return _read(folder / NAME) or _read_copy(folder)
    except LibraryDamaged:
        if copy := _read_copy(folder):
            return copy
        raise


def check_manifest(folder: Path) -> Iterator[str]:
    """What is wrong with the manifest and its copy. Raises LibraryTooNew."""
    for path in (folder / NAME, folder / COPY):
        try:
            # Libraries of versions that sealed nothing have no copy.
            if _read(path) is None and (path.name == NAME or b'"checksum"' in (folder / NAME).read_bytes()):
                yield f"{path} is missing; `ivsearch repair` writes it anew"
        except LibraryDamaged as error:
            yield str(error)


def write_manifest(folder: Path, manifest: Manifest) -> list[Path]:
    """The copy first: whatever stops us, one of the two is whole. What is damaged is set aside; returns where to."""
    aside = []
    for path in (folder / COPY, folder / NAME):
        try:
            _read(path)
        except LibraryDamaged:
            aside.append(set_aside(path))
        replace_file(path, sealed(asdict(manifest)))
    return aside


def _read_copy(folder: Path) -> Manifest | None:
    try:
        return _read(folder / COPY)
    except LibraryDamaged:
        return None


def _read(path: Path) -> Manifest | None:
    try:
        table = unsealed(path.read_bytes())
        active = table["active"]
        manifest = Manifest(
            active=None if active is None else Space(**active),
            fps=table["fps"],
            roots=tuple(table["roots"]),
            # Libraries made before there were encoders with weights do not have it.
            encoders={key: EncoderSource(**source) for key, source in table.get("encoders", {}).items()},
            format=int(table["format"]),
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
