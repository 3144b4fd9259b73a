"""The Catalog's nouns, and how they become rows of its tables and come back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from ivsearch.clips import Span
from ivsearch.domain import Clip, Media, MediaId, MediaKind, Space
from ivsearch.errors import LibraryDamaged

Noun = TypeVar("Noun")

# Databases limit the number of parameters of a statement; SQLite's own limit was 999 for long.
MAX_PARAMETERS = 900


@dataclass(frozen=True, slots=True)
class PathRow:
    """A path that holds a Media, as it was when last looked at."""

    path: Path
    media_id: MediaId
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Record:
    """Where the VectorStore keeps the FrameVectors of a Media."""

    segment: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """A Media encoded in a Space. ``sampling`` says how its frames were chosen."""

    media_id: MediaId
    sampling: str
    record: Record
    n_samples: int
    n_frames: int
    n_clips: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """All the rows one newly encoded Media brings; committed together or not at all."""

    media: Media
    paths: tuple[PathRow, ...]
    encoding: Encoding
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a Library holds."""

    media: int
    videos: int
    images: int
    paths: int
    duration_s: float
    size_bytes: int
    frames: int
    samples: int
    clips: int
    skipped: int


def _of_row(make: Callable[[sa.Row], Noun]) -> Callable[[sa.Row], Noun]:
    """Says of values that make no sense that the Catalog is damaged: SQLite hands out what a flipped bit made."""

    @wraps(make)
    def checked(row: sa.Row) -> Noun:
        try:
            return make(row)
        except (TypeError, ValueError, OverflowError) as error:
            raise LibraryDamaged(
                f"the catalog holds a row that makes no sense ({error}); `ivsearch repair` sets it aside"
            ) from error

    return checked


def parts(values: Sequence) -> Iterator[Sequence]:
    """As many at a time as a statement takes."""
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]


def path_row(path: PathRow) -> dict:
    return {"path": str(path.path), "media_id": path.media_id, "size_bytes": path.size_bytes, "mtime_ns": path.mtime_ns}


@_of_row
def path_of(row: sa.Row) -> PathRow:
    return PathRow(Path(row.path), row.media_id, int(row.size_bytes), int(row.mtime_ns))


def media_row(media: Media) -> dict:
    return {
        "media_id": media.media_id,
        "kind": media.kind.value,
        "duration_s": media.duration_s,
        "width": media.width,
        "height": media.height,
        "codec": media.codec,
        "size_bytes": media.size_bytes,
        "fps": media.fps,
        "recorded_at_s": media.recorded_at.timestamp() if media.recorded_at else None,
        "warnings": json.dumps(media.warnings, ensure_ascii=False),
    }


@_of_row
def media_of(row: sa.Row) -> Media:
    return Media(
        media_id=row.media_id,
        kind=MediaKind(row.kind),
        duration_s=float(row.duration_s),
        width=int(row.width),
        height=int(row.height),
        codec=row.codec,
        size_bytes=int(row.size_bytes),
        fps=None if row.fps is None else float(row.fps),
        recorded_at=None if row.recorded_at_s is None else datetime.fromtimestamp(row.recorded_at_s, UTC),
        warnings=tuple(json.loads(row.warnings)),
    )


def encoding_row(space: Space, encoding: Encoding) -> dict:
    return {
        "media_id": encoding.media_id,
        "space_key": space.key,
        "sampling": encoding.sampling,
        "segment": encoding.record.segment,
        "offset_bytes": encoding.record.offset_bytes,
        "size_bytes": encoding.record.size_bytes,
        "n_samples": encoding.n_samples,
        "n_frames": encoding.n_frames,
        "n_clips": encoding.n_clips,
    }


@_of_row
def encoding_of(row: sa.Row) -> Encoding:
    record = Record(row.segment, int(row.offset_bytes), int(row.size_bytes))
    return Encoding(row.media_id, row.sampling, record, int(row.n_samples), int(row.n_frames), int(row.n_clips))


def clip_row(space: Space, media_id: MediaId, span: Span) -> dict:
    return {
        "space_key": space.key,
        "media_id": media_id,
        "start_s": span.start_s,
        "end_s": span.end_s,
        "first_frame": span.first_frame,
        "n_frames": span.n_frames,
    }


@_of_row
def clip_of(row: sa.Row) -> Clip:
    start_s, end_s = float(row.start_s), float(row.end_s)
    return Clip(row.clip_id, row.media_id, start_s, end_s, int(row.first_frame), int(row.n_frames))
