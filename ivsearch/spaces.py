"""The Spaces of a library side by side: what each holds, switching between them, going back, dropping one.

Which one searches use is said by the manifest alone, so a switch is the renaming of one small file.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Space
from ivsearch.errors import LibraryBusy, UsageError
from ivsearch.store.catalog import Catalog
from ivsearch.store.coverage import clip_starts, count_media, encoded_media
from ivsearch.store.files import bytes_below
from ivsearch.store.index_writer import WISHES, Wishes
from ivsearch.store.manifest import EncoderSource, Manifest, manifest_of, write_manifest
from ivsearch.store.reencoding_state import read_state
from ivsearch.store.refresh import save_index
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.turns import writers_turn


@dataclass(frozen=True, slots=True)
class SpaceState:
    """A Space and how much of the Library is in it. ``key`` is its folder's name; ``space`` is None when it is being
    dropped and its rows are gone. ``source`` is None when nothing remembers how its encoder was loaded."""

    key: str
    space: Space | None
    source: EncoderSource | None
    is_active: bool
    is_previous: bool
    is_dropping: bool
    media_encoded: int
    media_total: int
    vector_bytes: int
    index_bytes: int

    @property
    def is_complete(self) -> bool:
        return self.media_encoded == self.media_total and not self.is_dropping

    @property
    def percent(self) -> float:
        return 100.0 * self.media_encoded / self.media_total if self.media_total else 100.0


def list_spaces(folder: Path, catalog: Catalog, manifest: Manifest, unknown: Sequence[str] = ()) -> list[SpaceState]:
    """Every Space, the active one first, then as they were added. ``unknown``: keys of more, without rows."""
    known = {space.key: space for space in catalog.spaces()}
    encoded, total = encoded_media(catalog), count_media(catalog)
    order = {key: place for place, key in enumerate(manifest.encoders)}
    states = [
        SpaceState(
            key=key,
            space=known.get(key),
            source=manifest.encoders.get(key),
            is_active=manifest.active is not None and manifest.active.key == key,
            is_previous=manifest.previous is not None and manifest.previous.key == key,
            is_dropping=key in manifest.dropping,
            media_encoded=encoded.get(key, 0),
            media_total=total,
            vector_bytes=bytes_below(folder / "vectors" / key),
            index_bytes=bytes_below(folder / "index" / key),
        )
        for key in {*known, *manifest.dropping, *unknown}
    ]
    return sorted(states, key=lambda state: (not state.is_active, order.get(state.key, len(order)), state.key))


def unknown_vectors(folder: Path, catalog: Catalog) -> list[str]:
    """Keys of Spaces that have vectors and no row: the Catalog was lost and begun anew."""
    # Rows come before vectors, and go before them: asked in this order, a Space that comes or goes is no fault.
    there = sorted({path.parent.name for path in (folder / "vectors").glob("*/*.seg")})
    known = {space.key for space in catalog.spaces()}
    known |= {*manifest_of(folder).dropping}  # last: what is dropped is in it until its files are gone
    return [key for key in there if key not in known and any((folder / "vectors" / key).glob("*.seg"))]


def droppable(folder: Path, catalog: Catalog, manifest: Manifest) -> list[SpaceState]:
    """Every Space, and those whose vectors the Catalog knows nothing of."""
    return list_spaces(folder, catalog, manifest, unknown_vectors(folder, catalog))


def find_space(states: list[SpaceState], wanted: str) -> SpaceState:
    """By key, its beginning, or the encoder's name as typed or as it calls itself. Raises UsageError."""
    for fits in (
        lambda state: wanted == state.key,
        lambda state: wanted in _names(state),
        lambda state: bool(wanted) and state.key.startswith(wanted),
    ):
        found = [state for state in states if fits(state)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{wanted!r} fits several spaces: say which: {', '.join(each.key for each in found)}")
    keys = ", ".join(state.key for state in states) or "none"
    raise UsageError(f"this library has no space {wanted!r}; it has: {keys}")


def use(folder: Path, catalog: Catalog, wanted: str, *, anyway: bool = False, wishes: Wishes = WISHES) -> Space:
    """Makes searches use a Space, from their next one on. The one used so far stays, to go ``back`` to.

    Its index is brought up to date first, by ``wishes``, so that the first search is as quick as any. Raises
    UsageError when it is not there, is being dropped, or lacks Media (unless ``anyway``).
    """
    with writers_turn(folder, catalog):
        return _use(folder, catalog, wanted, wishes, anyway=anyway)


def back(folder: Path, catalog: Catalog, wishes: Wishes = WISHES) -> Space:
    """Makes searches use the Space they used before the last switch. Raises UsageError when there is none, or when
    Media have come since that have no vectors there."""
    with writers_turn(folder, catalog):
        previous = manifest_of(folder).previous
        if previous is None:
            raise UsageError("no other space was used before: `ivsearch spaces` lists those there are")
        return _use(folder, catalog, previous.key, wishes, anyway=False)


def _use(folder: Path, catalog: Catalog, wanted: str, wishes: Wishes, *, anyway: bool) -> Space:
    manifest = manifest_of(folder)
    state = find_space(list_spaces(folder, catalog, manifest), wanted)
    check_not_dropping(manifest, state.key)
    assert state.space is not None  # only those being dropped have none
    missing = state.media_total - state.media_encoded
    if missing and not anyway:
        raise UsageError(
            f"{missing} of {state.media_total} media have no vectors in {state.key} and would not be found. "
            f"Add them: {adding_command(state, folder)}; or switch without them: "
            f"ivsearch spaces use {state.key} --anyway"
        )
    switch(folder, catalog, manifest, state.space, wishes)
    return state.space


def switch(folder: Path, catalog: Catalog, manifest: Manifest, space: Space, wishes: Wishes) -> None:
    """Saves the index of ``space`` and makes it the active one. Only for the one writer."""
    save_index(folder, catalog, space, wishes)
    if manifest.active != space:
        write_manifest(folder, manifest.switched(space))


def drop(folder: Path, catalog: Catalog, wanted: str) -> str:
    """Frees the vectors, the index and the rows of a Space; goes on with one that was stopped half-way. Returns its
    key. Raises UsageError for the active one, LibraryBusy for one that is being added to.

    The manifest notes it first, then the rows go in one transaction, then the files: whatever stops it, nothing
    points at a file that is gone, and ``verify`` says what is left to do.
    """
    with writers_turn(folder, catalog):
        manifest = manifest_of(folder)
        state = find_space(droppable(folder, catalog, manifest), wanted)
        if state.is_active:
            raise UsageError(
                f"{state.key} is what searches use: switch to another first (ivsearch spaces use KEY), then drop it"
            )
        job = read_state(folder)
        if job and job.is_running and job.space == state.key:
            raise LibraryBusy(
                f"{state.key} is being added to (process {job.pid}): stop that first with `ivsearch spaces stop`"
            )
        manifest = manifest.without(state.key)
        write_manifest(folder, manifest)
        if state.space is not None:
            catalog.drop_space(state.space)
        for place in ("vectors", "index"):
            if (folder / place / state.key).exists():
                shutil.rmtree(folder / place / state.key)
        thumbs = Thumbs(folder / "thumbs")
        for media_id, starts in clip_starts(catalog):
            thumbs.keep_starts(media_id, starts)
        left = tuple(key for key in manifest.dropping if key != state.key)
        write_manifest(folder, dataclasses.replace(manifest, dropping=left))
    return state.key


def check_not_dropping(manifest: Manifest, key: str) -> None:
    """Raises UsageError for a Space whose dropping has begun."""
    if key in manifest.dropping:
        raise UsageError(
            f"the space {key} is dropped only in part: end that first (ivsearch spaces drop {key}), then add it anew"
        )


def adding_command(state: SpaceState, folder: Path) -> str:
    """What to type so that the Space gets what it lacks."""
    return filling_command(state.source or EncoderSource(state.space.encoder if state.space else state.key), folder)


def filling_command(source: EncoderSource, folder: Path) -> str:
    """What to type so that the Space of that encoder gets what it lacks."""
    weights = f" --weights {source.weights}" if source.weights else ""
    preprocess = f" --preprocess {source.preprocess}" if source.preprocess else ""
    return f"ivsearch spaces add --encoder {source.name}{weights}{preprocess} --library {folder}"


def _names(state: SpaceState) -> set[str]:
    return {each for each in (state.source and state.source.name, state.space and state.space.encoder) if each}
