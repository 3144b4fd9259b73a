"""ingest: paths → Ingested | Skipped | Removed. Media, encode and store joined; the act behind ``ivsearch index``.

``scan → fingerprint → decode, gate (worker processes) → encode_frames (batches across files) → cut → append → commit``
A file whose vectors are stored without a row (the Catalog was lost, or mended) is cut and committed at once.

Vectors are written and fsynced first, the Catalog commits last, and only the commit means done: whatever stops the
run, the next one goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ivsearch.clips import Span, cut
from ivsearch.domain import Ingested, Media, MediaId, Outcome, Removed, Skipped, TextRead, TextRemoved
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import MediaError
from ivsearch.media.fingerprint import fingerprint
from ivsearch.media.pool import Job
from ivsearch.media.scan import Found, scan
from ivsearch.pipeline import Done, Failed, Options, Pipeline, Progress, Result, encoded_rows
from ivsearch.store.catalog import Catalog, Encoded, Encoding, PathRow, Record
from ivsearch.store.files import set_aside
from ivsearch.store.orphans import Orphans
from ivsearch.store.record_bytes import Contents, Facts
from ivsearch.store.thumbs import Thumbs
from ivsearch.store.vector_store import VectorStore

IngestEvent = Ingested | Skipped | Removed | TextRead | TextRemoved

# A commit costs two fsyncs: finished Media are committed together, but none waits longer than this.
COMMIT_MEDIA = 64
COMMIT_S = 2.0


class Ingest:
    """One run over ``roots``. Iterate ``run()`` to drive it; stop (or Ctrl-C) and what is committed stays."""

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        catalog: Catalog,
        vectors: VectorStore,
        thumbs: Thumbs,
        encoder: Encoder,
        options: Options,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        note_forgetting: Callable[[Sequence[MediaId]], None] = lambda media_ids: None,
    ) -> None:
        """``note_forgetting`` is told which Media may be forgotten, before they are."""
        self.progress = Progress()
        self._note_forgetting = note_forgetting
        self._roots = [Path(root).absolute() for root in roots]
        self._catalog = catalog
        self._vectors = vectors
        self._thumbs = thumbs
        self._encoder = encoder
        self._options = options
        self._on_progress = on_progress
        self._events: deque[IngestEvent] = deque()
        self._files: dict[MediaId, list[Found]] = {}  # of Media on their way
        self._complete: list[Done] = []
        self._adopted: list[tuple[Record, Contents, tuple[Span, ...]]] = []
        self._links: list[PathRow] = []
        self._skipped: dict[Path, Skipped] = {}
        self._replaced: set[Path] = set()
        self.forgotten: list[MediaId] = []  # Media that are gone when the run has ended
        self._committed_at = time.monotonic()

    def run(self) -> Iterator[IngestEvent]:
        space = self._encoder.space
        self._known = {row.path: row for row in self._catalog.paths_below(self._roots)}
        self._looked_up = {row.media_id for row in self._known.values()}
        self._encodings = self._catalog.encodings(space, sorted(self._looked_up))
        self._media = self._catalog.media(list(self._encodings))
        self._orphans = Orphans(
            self._vectors, lambda: [encoding.record for encoding in self._catalog.encodings(space).values()]
        )
        found = self._scan()
        yield from self._drain()
        pipeline = Pipeline(self._encoder, self._options, self.progress, self._on_progress)
        for results in pipeline.run(self._jobs(found)):
            self._take(results)
            if self._is_time():
                self._take(pipeline.hurry())
                self._commit()
            yield from self._drain()
        self._commit()
        self._remove_gone(found)
        yield from self._drain()

    def _drain(self) -> Iterator[IngestEvent]:
        while self._events:
            yield self._events.popleft()

    # ---- which files need work ----

    def _scan(self) -> list[Found]:
        found = []
        for each in scan(self._roots):
            if isinstance(each, Skipped):
                if not (each.path in self._known and _is_gone(each.path)):  # that will be a Removed
                    self._skip(each)
            else:
                found.append(each)
        self.progress.files_total = len(found)
        self.progress.bytes_total = sum(each.size_bytes for each in found)
        self._on_progress(self.progress)
        return found

    def _jobs(self, found: Sequence[Found]) -> Iterator[Job]:
        """Jobs for what has to be decoded; everything else is settled on the way."""
        for each in found:
            row = self._known.get(each.path)
            if row and self._is_current(row.media_id) and _same_file(row, each):
                self._settle(each, row.media_id, Outcome.UNCHANGED)
                continue
            try:
                media_id = fingerprint(each.path, strict=self._options.strict_hash)
            except (OSError, MediaError) as error:
                self._fail(each, str(error))
                continue
            if self._is_current(media_id):
                self._links.append(_path_row(each, media_id))
                same = row is not None and row.media_id == media_id
                self._settle(each, media_id, Outcome.UNCHANGED if same else Outcome.LINKED)
            elif media_id in self._files:
                self._files[media_id].append(each)
            else:
                self._files[media_id] = [each]
                if not self._adopt(media_id):
                    yield Job(each.path, media_id)

    def _adopt(self, media_id: MediaId) -> bool:
        """Takes up vectors that are there without a row. A Media that lacks a thumbnail is decoded again, for it."""
        # Segments are walked for nothing where a Media is new, as most are.
        orphan = self._orphans.find(media_id, self._options.sampling) if self._thumbs.has(media_id) else None
        if orphan is None:
            return False
        record, contents = orphan
        assert contents.facts is not None  # others are no Orphans
        spans = tuple(cut(contents.frames, contents.facts.media.duration_s, self._options.cutting))
        for path in self._thumbs.damaged(media_id):
            set_aside(path)
        if not self._thumbs.has_all(media_id, [span.start_s for span in spans]):
            return False
        self._adopted.append((record, contents, spans))
        if self._is_time():
            self._commit()
        return True

    def _is_current(self, media_id: MediaId) -> bool:
        if media_id not in self._looked_up:
            # It may be known from elsewhere in the library.
            self._looked_up.add(media_id)
            self._encodings |= self._catalog.encodings(self._encoder.space, [media_id])
            self._media |= self._catalog.media([media_id])
        encoding = self._encodings.get(media_id)
        return encoding is not None and encoding.sampling == self._options.sampling

    def _settle(self, found: Found, media_id: MediaId, outcome: Outcome) -> None:
        self._done(found)
        if time.monotonic() - self._committed_at > COMMIT_S:
            self._commit()
        self._events.append(_ingested(found, self._media[media_id], self._encodings[media_id], outcome))

    # ---- what comes out of the pipeline ----

    def _take(self, results: Sequence[Result]) -> None:
        for result in results:
            if isinstance(result, Done):
                self._complete.append(result)
            else:
                self._give_up(result)

    def _give_up(self, failed: Failed) -> None:
        """The file cannot be decoded or encoded, and neither can its copies."""
        path, media_id = failed.job.path, failed.job.media_id
        for file in self._files.pop(media_id):
            same = f"holds the same as {path}, which could not be read: {failed.reason}"
            self._fail(file, failed.reason if file.path == path else same)
            row = self._known.get(file.path)
            if row is not None and row.media_id != media_id:
                self._replaced.add(file.path)

    def _is_time(self) -> bool:
        waiting = len(self._complete) + len(self._adopted)
        return waiting >= COMMIT_MEDIA or time.monotonic() - self._committed_at > COMMIT_S

    # ---- what is durable ----

    def _commit(self) -> None:
        started = time.perf_counter()
        self._committed_at = time.monotonic()
        self._catalog.link(self._links)
        self._links = []
        complete, self._complete = self._complete, []
        adopted, self._adopted = self._adopted, []
        encoded = [self._adopted_rows(*each) for each in adopted]
        if complete:
            records = self._vectors.append(
                [(done.job.media_id, done.frames) for done in complete],
                [Facts(done.media, self._options.sampling) for done in complete],
            )
            encoded += [self._encoded(done, record) for done, record in zip(complete, records, strict=True)]
        if encoded:
            self._catalog.add(self._encoder.space, encoded)
            for each in encoded:
                self._report(each)
        self.progress.store_s += time.perf_counter() - started
        self._on_progress(self.progress)

    def _encoded(self, done: Done, record: Record) -> Encoded:
        return encoded_rows(done, record, self._path_rows(done.job.media_id), self._thumbs, self._options)

    def _adopted_rows(self, record: Record, contents: Contents, spans: tuple[Span, ...]) -> Encoded:
        assert contents.facts is not None
        media, frames, sampling = contents.facts.media, contents.frames, contents.facts.sampling
        sizes = len(frames.sample_pts_s), len(frames.kept), len(spans)
        return Encoded(
            media, self._path_rows(media.media_id), Encoding(media.media_id, sampling, record, *sizes), spans
        )

    def _path_rows(self, media_id: MediaId) -> tuple[PathRow, ...]:
        return tuple(_path_row(file, media_id) for file in self._files[media_id])

    def _report(self, encoded: Encoded) -> None:
        media, encoding = encoded.media, encoded.encoding
        self._media[media.media_id], self._encodings[media.media_id] = media, encoding
        self.progress.media_s += media.duration_s
        self.progress.samples += encoding.n_samples
        outcome = Outcome.INDEXED
        for file in self._files.pop(media.media_id):
            self._done(file)
            self._events.append(_ingested(file, media, encoding, outcome))
            outcome = Outcome.LINKED

    # ---- what is not there, or no good ----

    def _fail(self, found: Found, reason: str) -> None:
        self._done(found)
        self._skip(Skipped(found.path, reason))

    def _skip(self, skipped: Skipped) -> None:
        self._skipped[skipped.path] = skipped
        self._events.append(skipped)

    def _done(self, found: Found) -> None:
        self.progress.files_done += 1
        self.progress.bytes_done += found.size_bytes

    def _remove_gone(self, found: Sequence[Found]) -> None:
        """Forgets paths that are gone or hold something unreadable now, and Media that no path holds any more."""
        here = {each.path for each in found}
        gone = self._really_gone([path for path in self._known if path not in here and _is_gone(path)])
        paths = [*gone, *self._replaced]
        self._note_forgetting([*(self._known[path].media_id for path in paths), *self._catalog.pathless_media()])
        self.forgotten = self._catalog.remove_paths(paths)
        here |= set(self._skipped)
        self._catalog.forget_skipped(
            each.path
            for each in self._catalog.skipped()
            if each.path not in here and any(each.path.is_relative_to(root) for root in self._roots)
        )
        self._catalog.note_skipped(list(self._skipped.values()))
        self._events.extend(Removed(path, self._known[path].media_id) for path in gone)

    def gone_roots(self) -> list[Path]:
        """Files that were named once, are not there any more and need not be looked for again."""
        return [root for root in self._roots if root in self._known and _is_gone(root)]

    def _really_gone(self, missing: Sequence[Path]) -> list[Path]:
        """Those of the files that are not there which are really gone: a disk that is not mounted looks like an empty
        folder, and must not empty the library."""
        gone = [path for path in missing if path in self._roots]
        missing_in: dict[Path, list[Path]] = {}
        for path in missing:
            if path not in self._roots:
                folder = next(parent for parent in path.parents if parent.is_dir())
                missing_in.setdefault(folder, []).append(path)
        for folder, paths in missing_in.items():
            if not any(folder.is_relative_to(root) for root in self._roots):
                continue  # a root is missing as a whole
            if any(folder.iterdir()):
                gone += paths
                continue
            self._skip(
                Skipped(
                    folder,
                    f"is empty, although {len(paths)} indexed files were in it: is a disk not mounted? They are kept; "
                    f"to forget them: ivsearch rm {folder}",
                )
            )
        return sorted(gone)


def _is_gone(path: Path) -> bool:
    """Whether it is certain that nothing is there: a folder without permission or a network error is no proof."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _same_file(row: PathRow, found: Found) -> bool:
    return (row.size_bytes, row.mtime_ns) == (found.size_bytes, found.mtime_ns)


def _path_row(found: Found, media_id: MediaId) -> PathRow:
    return PathRow(found.path, media_id, found.size_bytes, found.mtime_ns)


def _ingested(found: Found, media: Media, encoding: Encoding, outcome: Outcome) -> Ingested:
    return Ingested(found.path, media, outcome, encoding.n_samples, encoding.n_frames, encoding.n_clips)
