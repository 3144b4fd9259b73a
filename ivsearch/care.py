"""Looking after a library on disk: what is wrong with it, mending it, forgetting files."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path

import numpy as np

from ivsearch.clips import middle_frame, span_of
from ivsearch.domain import Filters, MediaId, Removed, Space
from ivsearch.errors import LibraryDamaged
from ivsearch.spaces import filling_command, unknown_vectors
from ivsearch.store import forgetting
from ivsearch.store.catalog import Catalog, ClipStamp
from ivsearch.store.checks import DANGLING, UNLISTED
from ivsearch.store.compaction import Compacted
from ivsearch.store.compaction import compact as compact_space
from ivsearch.store.coverage import clip_starts
from ivsearch.store.files import set_aside, set_aside_copy
from ivsearch.store.generation import COPY, CURRENT, check_generation, mend_tables
from ivsearch.store.index_writer import WISHES, Wishes
from ivsearch.store.lock import is_held, writer_lock
from ivsearch.store.manifest import NAME as MANIFEST
from ivsearch.store.manifest import (
    Manifest,
    check_manifest,
    manifest_of,
    read_manifest,
    unfinished_drops,
    write_manifest,
)
from ivsearch.store.ownership import claim, open_catalog
from ivsearch.store.reencoding_state import reencoding_lock
from ivsearch.store.refresh import save_index
from ivsearch.store.salvage import renew
from ivsearch.store.soundness import unsound_media
from ivsearch.store.text_soundness import ADVICE as TEXT_ADVICE
from ivsearch.store.text_soundness import NOUNS as TEXT_NOUNS
from ivsearch.store.text_soundness import forget_unsound, lost_texts, unsound_texts
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.turns import writers_turn
from ivsearch.store.vector_index import VectorIndex
from ivsearch.store.vector_store import VectorStore, glance
from ivsearch.store.visual_tokens import NAME as VISUAL_TOKENS
from ivsearch.store.visual_tokens import drop_damaged
from ivsearch.store.wal import keep_damaged, log_of

RUN = "`ivsearch repair`, then `ivsearch index`"
TAKE_UP = "`ivsearch index` fills it again from the vectors, without encoding anything"


def remove(folder: Path, catalog: Catalog, paths: Sequence[Path], wishes: Wishes = WISHES) -> list[Removed]:
    """Forgets files, or everything below folders (``paths`` absolute). The files themselves are not touched. Indexes
    are brought up to date by ``wishes``."""
    with writers_turn(folder, catalog):
        gone = catalog.paths_below(paths)
        unread = [each.path for each in catalog.skipped() if any(each.path.is_relative_to(path) for path in paths)]
        forgetting.end(folder, catalog)
        forgetting.note(folder, [*(row.media_id for row in gone), *catalog.pathless_media()])
        forgotten = catalog.remove_paths([*(row.path for row in gone), *unread])
        forgetting.end(folder, catalog, forgotten)
        manifest = manifest_of(folder)
        roots = tuple(root for root in manifest.roots if not any(Path(root).is_relative_to(path) for path in paths))
        write_manifest(folder, dataclasses.replace(manifest, roots=roots))
        for space in catalog.spaces():
            save_index(folder, catalog, space, wishes)
    return [Removed(row.path, row.media_id) for row in gone]


def compact(folder: Path, catalog: Catalog, tell: Callable[[str], None]) -> list[Compacted]:
    """Frees the room of vectors that nothing needs, Space by Space. Vectors without a row that the next ``index`` may
    take up are kept: of Media that the Catalog knows or that have thumbnails, which forgotten ones have not."""
    thumbs = Thumbs(folder / "thumbs")
    with writers_turn(folder, catalog):
        forgetting.end(folder, catalog)

        def is_of_use(media_id: MediaId) -> bool:
            return thumbs.has(media_id) or bool(catalog.media([media_id]))

        spaces = catalog.spaces()
        return [compact_space(VectorStore(folder / "vectors", space), catalog, is_of_use, tell) for space in spaces]


def verify(folder: Path, catalog_url: str | Path) -> Iterator[str]:
    """Reads everything there is and yields what is wrong, in words; nothing when all is well."""
    try:
        bad_manifest = list(check_manifest(folder))
        yield from bad_manifest
        if not bad_manifest and list(unfinished_drops(folder)) and not is_held(folder):
            # Once more: it may have ended since.
            yield from unfinished_drops(folder)
        # First: whoever opens the catalog has SQLite forget what is damaged in the log.
        yield from _verify_log(catalog_url)
        catalog = open_catalog(folder, catalog_url)
    except LibraryDamaged as error:
        yield str(error)
        return
    with closing(catalog):
        told: list[str] = []
        try:
            for complaint in catalog.complaints():
                told.append(complaint)
                yield complaint
            if not told:
                yield from _text_complaints(catalog)
            for key in () if bad_manifest else unknown_vectors(folder, catalog):
                yield f"the catalog knows nothing of the vectors of {key}; {_taking_up(folder, key)}"
            for space in catalog.spaces():
                for unsound in unsound_media(catalog, VectorStore(folder / "vectors", space)):
                    yield f"{unsound.file}: {unsound.reason}{'' if RUN in unsound.reason else f'; run {RUN}'}"
                yield from _verify_index(folder, catalog, space)
            for path in _damaged_thumbs(folder, catalog):
                yield f"{path} is damaged; `ivsearch repair` draws it again"
        except LibraryDamaged as error:
            if str(error) not in told:
                yield str(error)


def _text_complaints(catalog: Catalog) -> Iterator[str]:
    for unsound in unsound_texts(catalog):
        paths = catalog.media_paths([unsound.media_id]).get(unsound.media_id)
        yield f"{paths[0] if paths else f'media {unsound.media_id}'}: {unsound.reason}; run {RUN}"
    for kind, media_ids in lost_texts(catalog).items():
        yield f"{len(media_ids)} files: their {TEXT_NOUNS[kind]} were lost; {TEXT_ADVICE[kind]} reads them again"


def _verify_log(catalog_url: str | Path) -> Iterator[str]:
    if isinstance(catalog_url, Path) and (kept := keep_damaged(log := log_of(catalog_url))):
        yield (
            f"{log} is damaged: the last {kept[0]} commits in it cannot be read; it is kept as {kept[1]}, and "
            "`ivsearch index` takes up again what they held"
        )


def _taking_up(folder: Path, key: str) -> str:
    """What makes rows of the vectors of a Space again: `index` does so for the active one alone."""
    manifest = manifest_of(folder)
    source = manifest.encoders.get(key)
    if source is None or manifest.active is None or manifest.active.key == key:
        return TAKE_UP
    command = f"{filling_command(source, folder)} --no-switch"
    return f"after `ivsearch index`, `{command}` fills it again; `ivsearch spaces drop {key}` frees them instead"


def _damaged_thumbs(folder: Path, catalog: Catalog) -> Iterator[Path]:
    thumbs = Thumbs(folder / "thumbs")
    for media_id, _ in clip_starts(catalog):
        yield from thumbs.damaged(media_id)


def _verify_index(folder: Path, catalog: Catalog, space: Space) -> Iterator[str]:
    before = _state_of_index(folder, catalog, space)
    complaint = _index_complaint(folder, catalog, space)
    # A writer who has come meanwhile has taken files away or changed what they should hold.
    if complaint and before == _state_of_index(folder, catalog, space) and space in catalog.spaces():
        yield f"{complaint}; `ivsearch repair` builds it anew"


def _state_of_index(folder: Path, catalog: Catalog, space: Space) -> tuple[list[bytes], ClipStamp]:
    tables = []
    for name in (COPY, CURRENT):
        with suppress(FileNotFoundError):
            tables.append((folder / "index" / space.key / name).read_bytes())
    return tables, catalog.clip_stamp(space)


def _index_complaint(folder: Path, catalog: Catalog, space: Space) -> str:
    if complaint := check_generation(folder / "index" / space.key):
        return complaint
    index, stamp = VectorIndex.load(folder / "index", space)
    # One that is behind the catalog is no fault: it is caught up by whoever searches.
    if stamp != catalog.clip_stamp(space):
        return ""
    wanted = catalog.matching_clips(space, Filters())
    same = np.array_equal(np.sort(index.clip_ids()), wanted)
    return "" if same else f"the index of {space.key} does not hold the clips it says"


def repair(folder: Path, catalog_url: str | Path, wishes: Wishes = WISHES) -> Iterator[str]:
    """Mends what ``verify`` finds, from what is durable, and yields what was done. Nothing is deleted: damaged files
    are set aside. The next ``index`` brings back the rest: rows that were lost from the vectors, without decoding or
    encoding, and vectors that were lost from the files.

    Nothing else of this process may have the catalog open. One that is no file (``catalog_url`` a text) is never set
    aside.
    """
    # Held to the end: one that began meanwhile would go on in what is set aside.
    with reencoding_lock(folder), writer_lock(folder):
        bad_manifest = any(check_manifest(folder))
        log = log_of(catalog_url) if isinstance(catalog_url, Path) else None
        if log and (kept := keep_damaged(log)):
            # A copy: what stands before the damaged place is still needed.
            yield f"set aside a copy of {log}, {kept[1]}; run `ivsearch index` to take up again what it held"
        if isinstance(catalog_url, Path) and _is_broken(catalog_url):
            yield from _mend_rows(catalog_url)
        if isinstance(catalog_url, Path) and _is_broken(catalog_url):
            yield from _renew(catalog_url)
        with closing(open_catalog(folder, catalog_url)) as catalog, catalog.only_writer():
            yield from _mend_texts(catalog)
            spaces = catalog.spaces()
            if bad_manifest:
                yield from _repair_manifest(folder, catalog)
            for space in spaces:
                yield from _repair_space(folder, catalog, space, wishes)
            yield from _repair_thumbs(folder, catalog)
        if dropped := drop_damaged(folder / VISUAL_TOKENS):
            yield f"threw away {dropped} damaged notes of what a chat model saw; it looks again when asked"


def _is_broken(catalog_file: Path) -> bool:
    try:
        with closing(Catalog(catalog_file)) as catalog:
            return any(catalog.complaints())
    except LibraryDamaged:
        return True


def _mend_rows(catalog_file: Path) -> Iterator[str]:
    """Where single rows and indexes are all that is wrong, what was read in the media need not be read again."""
    try:
        with closing(Catalog(catalog_file)) as catalog:
            if all(DANGLING in each or UNLISTED in each for each in catalog.complaints()):
                yield f"set aside a copy of {catalog_file}, {set_aside_copy(catalog_file)}"
                dropped = catalog.drop_dangling()
                yield f"deleted {dropped} rows that pointed at missing ones; `ivsearch index` fills gaps"
    except LibraryDamaged:
        return  # it is set aside then


def _renew(catalog_file: Path) -> Iterator[str]:
    renewed = renew(catalog_file)
    for path in renewed.aside:
        yield f"set aside {path}; {TAKE_UP}"
    if renewed.n_paths or renewed.n_lines:
        yield f"kept {renewed.n_paths} files and {renewed.n_lines} lines of words in them, which could still be read"
    if renewed.lacks_readings:
        yield (
            "which words on screen or speech were read can be told in part only: run `ivsearch index` with --ocr or "
            "--speech again if you have used them; it reads what is missing"
        )


def _mend_texts(catalog: Catalog) -> Iterator[str]:
    unsound = list(unsound_texts(catalog))
    forget_unsound(catalog, unsound)
    for kind, of_kind in groupby(sorted(unsound, key=lambda each: each.kind), key=lambda each: each.kind):
        n = len({each.media_id for each in of_kind})
        noun = TEXT_NOUNS.get(kind, "words in text files beside them")
        advice = TEXT_ADVICE.get(kind, "`ivsearch index`")
        yield f"{n} files: forgot their {noun}, some of which were lost; {advice} reads them again"


def _repair_manifest(folder: Path, catalog: Catalog) -> Iterator[str]:
    """From its copy, or where that is no better, from what the Catalog tells."""
    try:
        manifest = read_manifest(folder)
    except LibraryDamaged:
        manifest = None
    for path in write_manifest(folder, manifest or _manifest_from(catalog)):
        yield f"set aside {path}"
    claim(folder, catalog)
    yield f"wrote {folder / MANIFEST} anew" + (
        "" if manifest else "; name your folders (and --encoder, --weights) at the next `ivsearch index`"
    )


def _manifest_from(catalog: Catalog) -> Manifest:
    for space in catalog.spaces():
        for encoding in catalog.encodings_after(space, "", 1).values():
            rate = re.match(r"fps=(\S+)", encoding.sampling)
            return Manifest(active=space, fps=float(rate[1]) if rate else None)
    return Manifest()


def _repair_space(folder: Path, catalog: Catalog, space: Space, wishes: Wishes) -> Iterator[str]:
    unsound = list(unsound_media(catalog, VectorStore(folder / "vectors", space)))
    if unsound:
        catalog.drop_encodings(space, [each.media_id for each in unsound])
        yield f"forgot the damaged vectors of {len(unsound)} media; `ivsearch index` makes them anew"
    if mend_tables(folder / "index" / space.key):
        yield f"wrote the table of the index of {space.key} anew, from its copy"
    broken = list(_verify_index(folder, catalog, space))
    for path in (folder / "index" / space.key).glob("*") if broken else ():
        if not path.name.endswith(".tmp") and ".damaged" not in path.name:
            set_aside(path)
    save_index(folder, catalog, space, wishes)
    if broken:
        yield f"built the index of {space.key} anew"


def _left_thumbs(folder: Path, catalog: Catalog) -> set[MediaId]:
    """Media with thumbnails that no row and no record knows. Where there is a record, `index` may take it up: with its
    thumbnails it need not decode the file again."""
    left = Thumbs(folder / "thumbs").media()
    left.difference_update(catalog.media(sorted(left)))
    for path in sorted((folder / "vectors").glob("*/*.seg")) if left else ():
        left.difference_update(found.media_id for found in glance(path))
    return left


def _repair_thumbs(folder: Path, catalog: Catalog) -> Iterator[str]:
    """Draws damaged ones again from their files; where there is none any more, only the picture is lost."""
    from ivsearch.clip_thumbs import draw  # reads media: not needed by anything else here

    forgetting.end(folder, catalog)
    if left := _left_thumbs(folder, catalog):
        Thumbs(folder / "thumbs").forget(left)
        yield f"deleted the thumbnails of {len(left)} media that are not in the library any more"
    damaged: dict[MediaId, set[Path]] = {}
    for path in _damaged_thumbs(folder, catalog):
        damaged.setdefault(path.parent.name, set()).add(path)
        yield f"set aside {set_aside(path)}"
    thumbs = Thumbs(folder / "thumbs")
    for space in catalog.spaces() if damaged else ():
        vectors = VectorStore(folder / "vectors", space)
        for media_id, encoding in catalog.encodings(space, sorted(damaged)).items():
            clips = catalog.clips_of(space, [media_id])
            wanted = [clip for clip in clips if thumbs.path(media_id, clip.start_s) in damaged[media_id]]
            paths = [path for path in catalog.media_paths([media_id]).get(media_id, []) if path.is_file()]
            if wanted and paths:
                pts_s = vectors.read(encoding.record).pts_s
                draw(thumbs, paths[0], wanted, [float(pts_s[middle_frame(span_of(clip))]) for clip in wanted])
