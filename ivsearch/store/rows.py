"""The Catalog's nouns, and how they become rows of its tables and come back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from ivsearch.clips import Span
from ivsearch.domain import Clip, Media, MediaId, MediaKind, Space

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


def parts(values: Sequence) -> Iterator[Sequence]:
    """As many at a time as a statement takes."""
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]


def path_row(path: PathRow) -> dict:
    return {"path": str(path.path), "media_id": path.media_id, "size_bytes": path.size_bytes, "mtime_ns": path.mtime_ns}


def path_of(row: sa.Row) -> PathRow:
    return PathRow(Path(row.path), row.media_id, row.size_bytes, row.mtime_ns)


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


def media_of(row: sa.Row) -> Media:
    return Media(
        media_id=row.media_id,
        kind=MediaKind(row.kind),
        duration_s=row.duration_s,
        width=row.width,
        height=row.height,
        codec=row.codec,
        size_bytes=row.size_bytes,
        fps=row.fps,
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


def encoding_of(row: sa.Row) -> Encoding:
    record = Record(row.segment, row.offset_bytes, row.size_bytes)
    return Encoding(row.media_id, row.sampling, record, row.n_samples, row.n_frames, row.n_clips)


def clip_row(space: Space, media_id: MediaId, span: Span) -> dict:
    return {
        "space_key": space.key,
        "media_id": media_id,
        "start_s": span.start_s,
        "end_s": span.end_s,
        "first_frame": span.first_frame,
        "n_frames": span.n_frames,
    }


def clip_of(row: sa.Row) -> Clip:
    return Clip(row.clip_id, row.media_id, row.start_s, row.end_s, row.first_frame, row.n_frames)
