"""Encoding all that a library holds with another encoder, beside the Space that searches use meanwhile.

Media that the new Space lacks are decoded at the same times as for the old one, so both have the same frames: how
frames are chosen (rate and gate) is noted with every Encoding, and the encoder has no part in it. The writer's lock is
held for each commit only, so `ivsearch index` gets its turn; what it adds is encoded, too, before this ends. Done means
committed, as ever: whatever stops the run, the next one goes on from there.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby
from pathlib import Path

from ivsearch.clips import cut
from ivsearch.domain import Ingested, MediaId, Outcome, Skipped
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import LibraryBusy, LibraryError, MediaError, UsageError
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.pool import Job
from ivsearch.pipeline import Done, Failed, Options, Pipeline, Progress, encoded_rows
from ivsearch.spaces import check_not_dropping, switch
from ivsearch.store.catalog import Catalog, Encoded, Encoding, PathRow
from ivsearch.store.coverage import count_media, encoded_media, samplings, unencoded
from ivsearch.store.index_writer import WISHES, Wishes
from ivsearch.store.manifest import EncoderSource, Manifest, manifest_of, write_manifest
from ivsearch.store.orphans import Orphans
from ivsearch.store.record_bytes import Facts
from ivsearch.store.reencoding_state import ReencodingState, Stage, Unread, reencoding_lock, write_state
from ivsearch.store.refresh import save_index
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.turns import the_only_writer
from ivsearch.store.vector_store import VectorStore

# As in ingest: finished Media are committed together, but none waits longer than this.
COMMIT_MEDIA = 64
COMMIT_S = 2.0
# Media asked of the Catalog at a time; between two portions the decoders start afresh, which takes a second.
PORTION = 5000
# How often it looks whether another writer has ended.
LOOK_S = 0.2


class Reencoding:
    """One run, in this process. Iterate ``run()`` to drive it.

    ``load`` gives the encoder, when the run has begun. ``switches``: when every Media is in the new Space, searches
    are made to use it. Its index is built by ``wishes``.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        source: EncoderSource,
        load: Callable[[], Encoder],
        options: Callable[[Encoder], Options],
        *,
        switches: bool = True,
        wishes: Wishes = WISHES,
        on_progress: Callable[[ReencodingState], None] = lambda state: None,
    ) -> None:
        self._folder = folder
        self._catalog = catalog
        self._source = source
        self._load = load
        self._options = options
        self._switches = switches
        self._wishes = wishes
        self._on_progress = on_progress
        self._thumbs = Thumbs(folder / "thumbs")
        self._unread: dict[MediaId, Unread] = {}
        self._complete: list[Done] = []
        self._began_s, self._frames_before = time.monotonic(), 0
        self._events: list[Ingested | Skipped] = []

    def run(self) -> Iterator[Ingested | Skipped]:
        """Yields what was encoded, and the files of Media that could not be: those keep their old vectors, and the new
        Space does not become the active one by itself.

        Raises LibraryBusy when another re-encoding is under way, OSError when the disk is full; what was committed
        before stays.
        """
        with reencoding_lock(self._folder):
            self._state = ReencodingState(os.getpid(), self._source.name, started_s=time.time())
            try:
                self._note(Stage.LOADING)
                yield from self._run()
            except BaseException as error:
                stopped = isinstance(error, (KeyboardInterrupt, GeneratorExit))
                with suppress(OSError):  # a full disk must not hide what filled it
                    self._note(Stage.STOPPED if stopped else Stage.FAILED, "" if stopped else _words(error))
                raise
            self._note(Stage.DONE)

    def _run(self) -> Iterator[Ingested | Skipped]:
        manifest = self._manifest()
        if not manifest.active or not count_media(self._catalog):
            raise UsageError("this library holds no media to encode again: ivsearch index FOLDER --encoder NAME")
        self._encoder = self._load()
        self._space = self._encoder.space
        self._like = manifest.active
        self._vectors = VectorStore(self._folder / "vectors", self._space)
        self._orphans = Orphans(
            self._vectors,
            lambda: [encoding.record for encoding in self._catalog.encodings(self._space).values()],
        )
        self._base = self._options(self._encoder)
        # Before it is there: whoever wants to drop it looks here.
        self._state = dataclasses.replace(self._state, space=self._space.key)
        self._note(Stage.LOADING)
        with self._turn():
            self._begin(self._manifest())
        self._count()
        while True:
            yield from self._pass()
            if self._end():
                return

    def _manifest(self) -> Manifest:
        return manifest_of(self._folder)

    def _begin(self, manifest: Manifest) -> None:
        check_not_dropping(manifest, self._space.key)
        self._catalog.add_space(self._space)
        others = {key: source for key, source in manifest.encoders.items() if key != self._space.key}
        encoders = {**others, self._space.key: self._source}
        if encoders != manifest.encoders:
            write_manifest(self._folder, dataclasses.replace(manifest, encoders=encoders))

    # ---- encoding ----

    def _pass(self) -> Iterator[Ingested | Skipped]:
        """Encodes all that is missing now."""
        after = ""
        while media_ids := unencoded(self._catalog, self._space, self._like, after, PORTION):
            after = media_ids[-1]
            wanted = [media_id for media_id in media_ids if media_id not in self._unread]
            sampled = samplings(self._catalog, wanted, self._like)
            wanted.sort(key=lambda media_id: sampled.get(media_id, self._base.sampling))
            for sampling, group in groupby(wanted, key=lambda each: sampled.get(each, self._base.sampling)):
                yield from self._encode(list(group), self._base.sampled_as(sampling))

    def _encode(self, media_ids: Sequence[MediaId], options: Options) -> Iterator[Ingested | Skipped]:
        media_ids = self._adopt(media_ids, options)
        yield from self._drain()
        pipeline = Pipeline(self._encoder, options, Progress())
        self._began_s, self._frames_before = time.monotonic(), self._state.frames_done
        committed_s = self._began_s
        for results in pipeline.run(self._jobs(media_ids)):
            self._take(results)
            if len(self._complete) >= COMMIT_MEDIA or time.monotonic() - committed_s > COMMIT_S:
                self._take(pipeline.hurry())
                self._commit(options)
                self._note(Stage.ENCODING)
                committed_s = time.monotonic()
            yield from self._drain()
        self._commit(options)
        self._note(Stage.ENCODING)
        yield from self._drain()

    def _adopt(self, media_ids: Sequence[MediaId], options: Options) -> list[MediaId]:
        """Takes up vectors that are there without a row, as `index` does for its own; returns the Media without."""
        adopted: dict[MediaId, Encoded] = {}
        paths = self._catalog.media_paths(media_ids)
        for media_id in media_ids:
            has_thumbs = media_id in paths and self._thumbs.has(media_id)
            orphan = self._orphans.find(media_id, options.sampling) if has_thumbs else None
            if orphan is None or orphan[1].facts is None:
                continue
            (record, contents), media = orphan, orphan[1].facts.media
            spans = tuple(cut(contents.frames, media.duration_s, options.cutting))
            if self._thumbs.has_all(media_id, [span.start_s for span in spans]):
                sizes = len(contents.frames.sample_pts_s), len(contents.frames.kept), len(spans)
                adopted[media_id] = Encoded(media, (), Encoding(media_id, options.sampling, record, *sizes), spans)
        if adopted:
            with self._turn():
                adopted = self._there_still(adopted)
                rows = list(adopted.values())
                self._catalog.add(self._space, rows)
            self._events += [_ingested(paths[each.media.media_id][0], each) for each in rows]
            self._count()
        return [media_id for media_id in media_ids if media_id not in adopted]

    def _there_still(self, adopted: Mapping[MediaId, Encoded]) -> dict[MediaId, Encoded]:
        """What was forgotten or compacted while nobody had the library for writing is left out, or where it is now."""
        there: dict[MediaId, Encoded] = {}
        for media_id, media in self._catalog.media(list(adopted)).items():
            encoding = adopted[media_id].encoding
            if place := self._vectors.place_of(encoding.record):
                encoding = dataclasses.replace(encoding, record=place)
                there[media_id] = dataclasses.replace(adopted[media_id], media=media, encoding=encoding)
        return there

    def _jobs(self, media_ids: Sequence[MediaId]) -> Iterator[Job]:
        rows = self._catalog.path_rows(media_ids)
        for media_id in media_ids:
            reasons = []
            for row in rows.get(media_id, ()):
                reason = self._why_not(row)
                if not reason:
                    yield Job(row.path, media_id)
                    break
                reasons.append((row.path, reason))
            else:
                if reasons:  # without any path it has just been forgotten
                    self._give_up(media_id, *reasons[0])

    def _why_not(self, row: PathRow) -> str:
        """Why the file does not hold what it held when it was indexed; empty when it does."""
        try:
            facts = row.path.stat()
            if (facts.st_size, facts.st_mtime_ns) == (row.size_bytes, row.mtime_ns):
                return ""
            same = fingerprint(row.path, strict=self._base.strict_hash) == row.media_id
        except FileNotFoundError:
            return "is not there (moved, deleted, or its disk is not mounted)"
        except (OSError, MediaError) as error:
            return str(error)
        return "" if same else "holds something else now"

    def _take(self, results: Sequence[Done | Failed]) -> None:
        for result in results:
            if isinstance(result, Done):
                self._complete.append(result)
            else:
                self._give_up(result.job.media_id, result.job.path, result.reason)

    def _give_up(self, media_id: MediaId, path: Path, reason: str) -> None:
        self._unread[media_id] = Unread(media_id, str(path), reason)
        self._events.append(Skipped(path, reason))

    def _drain(self) -> Iterator[Ingested | Skipped]:
        events, self._events = self._events, []
        yield from events

    def _commit(self, options: Options) -> None:
        complete, self._complete = self._complete, []
        if not complete:
            return
        with self._turn():
            if self._space not in self._catalog.spaces():
                raise LibraryError(
                    f"the space {self._space.key} was dropped while it was being added to: to have it all the same, "
                    "run the same command again"
                )
            known = self._catalog.media([done.job.media_id for done in complete])
            # Media that were forgotten while they were encoded must not come back.
            complete = [done for done in complete if done.job.media_id in known]
            if not complete:
                return
            records = self._vectors.append(
                [(done.job.media_id, done.frames) for done in complete],
                [Facts(done.media, options.sampling) for done in complete],
            )
            encoded = [
                dataclasses.replace(
                    encoded_rows(done, record, (), self._thumbs, options), media=known[done.job.media_id]
                )
                for done, record in zip(complete, records, strict=True)
            ]
            self._catalog.add(self._space, encoded)
        self._events += [_ingested(done.job.path, rows) for done, rows in zip(complete, encoded, strict=True)]
        frames = sum(rows.encoding.n_frames for rows in encoded)
        self._state = dataclasses.replace(
            self._state,
            media_done=self._state.media_done + len(encoded),
            frames_done=self._state.frames_done + frames,
        )

    # ---- the end ----

    def _end(self) -> bool:
        """Switches when nothing is missing; False when Media have come that are to be encoded first."""
        self._note(Stage.INDEXING)
        with self._turn():
            missing = self._missing()
            if any(media_id not in self._unread for media_id in missing):
                self._count()
                return False
            self._unread = {media_id: self._unread[media_id] for media_id in missing}
            if self._switches and not missing:
                switch(self._folder, self._catalog, self._manifest(), self._space, self._wishes)
            else:
                save_index(self._folder, self._catalog, self._space, self._wishes)
        self._count()
        return True

    def _missing(self) -> list[MediaId]:
        missing: list[MediaId] = []
        while some := unencoded(self._catalog, self._space, self._like, missing[-1] if missing else "", PORTION):
            missing += some
        return missing

    # ---- taking turns, and saying how far it is ----

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Holds the library for writing, however long it takes to get it."""
        stage = self._state.stage
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(the_only_writer(self._folder, self._catalog))
                    break
                except LibraryBusy:
                    if self._state.stage is not Stage.WAITING:
                        self._note(Stage.WAITING)
                    time.sleep(LOOK_S)
            self._state = dataclasses.replace(self._state, stage=stage)
            yield

    def _count(self) -> None:
        """Looks anew how much there is to do."""
        total = count_media(self._catalog)
        self._state = dataclasses.replace(
            self._state,
            media_done=encoded_media(self._catalog).get(self._space.key, 0),
            media_total=total,
            frames_done=self._catalog.totals(self._space).frames,
            frames_total=self._catalog.totals(self._like).frames,
        )
        self._note(Stage.ENCODING)

    def _note(self, stage: Stage, error: str = "") -> None:
        frames = self._state.frames_done - self._frames_before
        self._state = dataclasses.replace(
            self._state,
            stage=stage,
            error=error,
            updated_s=time.time(),
            frames_per_s=frames / max(time.monotonic() - self._began_s, 1e-3),
            unread=tuple(self._unread.values()),
        )
        write_state(self._folder, self._state)
        self._on_progress(self._state)


def _ingested(path: Path, rows: Encoded) -> Ingested:
    encoding = rows.encoding
    return Ingested(path, rows.media, Outcome.INDEXED, encoding.n_samples, encoding.n_frames, encoding.n_clips)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
