"""manifest.json: the format version of a library, its active Space, its encoders and how its videos are sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
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
    Space was loaded, by the Space's key, the latest last. ``previous`` is the Space that was active before, to go back
    to; ``dropping`` are the keys of Spaces whose dropping has begun and not ended. ``library_id`` is in the
    Catalog of the library, too; ``catalog`` is its URL without a password, empty where it is a file in the folder.
    ``index_kind`` and ``index_budget_bytes`` are what its vector indexes were last asked to be; empty and 0: as suits
    them."""

    active: Space | None = None
    fps: float | None = None
    roots: tuple[str, ...] = ()
    encoders: Mapping[str, EncoderSource] = field(default_factory=dict)
    previous: Space | None = None
    dropping: tuple[str, ...] = ()
    library_id: str = ""
    catalog: str = ""
    index_kind: str = ""
    index_budget_bytes: int = 0
    format: int = FORMAT

    def switched(self, space: Space) -> Manifest:
        """With ``space`` as the active one, and the one that was so far to go back to."""
        return self if space == self.active else replace(self, active=space, previous=self.active)

    def without(self, key: str) -> Manifest:
        """With a Space of that key forgotten, but for its being dropped."""
        encoders = {each: source for each, source in self.encoders.items() if each != key}
        previous = None if self.previous and self.previous.key == key else self.previous
        return replace(self, encoders=encoders, previous=previous, dropping=tuple(sorted({*self.dropping, key})))

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


def manifest_of(folder: Path) -> Manifest:
    """As ``read_manifest``; one that says nothing where there is no library yet."""
    return read_manifest(folder) or Manifest()


def check_manifest(folder: Path) -> Iterator[str]:
    """What is wrong with the manifest and its copy. Raises LibraryTooNew."""
    for path in (folder / NAME, folder / COPY):
        try:
            # Libraries of versions that sealed nothing have no copy.
            if _read(path) is None and (path.name == NAME or b'"checksum"' in (folder / NAME).read_bytes()):
                yield f"{path} is missing; `ivsearch repair` writes it anew"
        except LibraryDamaged as error:
            yield str(error)


def unfinished_drops(folder: Path) -> Iterator[str]:
    """Spaces whose dropping was stopped half-way, in words."""
    for key in manifest_of(folder).dropping:
        yield f"the space {key} is dropped only in part; `ivsearch spaces drop {key}` ends it"


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
        active, previous = table["active"], table.get("previous")
        manifest = Manifest(
            active=None if active is None else Space(**active),
            fps=table["fps"],
            roots=tuple(table["roots"]),
            # Libraries made before there were encoders with weights do not have it.
            encoders={key: EncoderSource(**source) for key, source in table.get("encoders", {}).items()},
            # Libraries made before Spaces could be switched by hand do not have these.
            previous=None if previous is None else Space(**previous),
            dropping=tuple(table.get("dropping", ())),
            # Nor those of before a catalog could be elsewhere.
            library_id=str(table.get("library_id", "")),
            catalog=str(table.get("catalog", "")),
            # Nor those of before a kind of index was remembered here.
            index_kind=str(table.get("index_kind", "")),
            index_budget_bytes=int(table.get("index_budget_bytes", 0)),
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
