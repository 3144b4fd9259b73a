"""The Catalog's tables (SQLAlchemy Core). ``migrations/`` builds the same; a test compares the two."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

# SQLite only counts up by itself on a column that is called INTEGER.
BIG = BigInteger().with_variant(Integer, "sqlite")
LARGEST = 2**63 - 1
"""What such a column holds at most; databases refuse to be asked for more."""

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A file name that is not valid UTF-8 reaches Python with lone surrogates (U+DC80…U+DCFF), a message or a subtitle may
# have others, or a NUL: none of them is stored as text by every database. They are kept as private-use characters of
# plane 16, which no file system uses.
_TO_PRIVATE = {code: 0x100000 + code for code in (0, *range(0xD800, 0xE000))}
_FROM_PRIVATE = {private: code for code, private in _TO_PRIVATE.items()}


class PathText(TypeDecorator[str]):
    """A path, or any text of others, readable whatever is in it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.translate(_TO_PRIVATE)

    def process_result_value(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else value.translate(_FROM_PRIVATE)


media = Table(
    "media",
    METADATA,
    Column("media_id", String(32), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("duration_s", Float(53), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("codec", String(64), nullable=False),
    Column("size_bytes", BIG, nullable=False),
    Column("fps", Float(53)),
    Column("recorded_at_s", Float(53)),
    Column("warnings", PathText, nullable=False),
)

# What totals are made of, so that a million rows are counted without reading the rows.
Index("ix_media_kind", media.c.kind, media.c.duration_s, media.c.size_bytes)

path = Table(
    "path",
    METADATA,
    Column("path", PathText, primary_key=True),
    Column("media_id", ForeignKey("media.media_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("size_bytes", BIG, nullable=False),
    Column("mtime_ns", BIG, nullable=False),
)

space = Table(
    "space",
    METADATA,
    Column("space_key", String(128), primary_key=True),
    Column("encoder", String(128), nullable=False),
    Column("revision", String(128), nullable=False),
    Column("dim", Integer, nullable=False),
)

encoding = Table(
    "encoding",
    METADATA,
    Column("media_id", ForeignKey("media.media_id", ondelete="CASCADE"), primary_key=True),
    Column("space_key", ForeignKey("space.space_key", ondelete="CASCADE"), primary_key=True),
    Column("sampling", String(64), nullable=False),
    Column("segment", String(64), nullable=False),
    Column("offset_bytes", BIG, nullable=False),
    Column("size_bytes", BIG, nullable=False),
    Column("n_samples", Integer, nullable=False),
    Column("n_frames", Integer, nullable=False),
    Column("n_clips", Integer, nullable=False),
)

Index("ix_encoding_space_key", encoding.c.space_key, encoding.c.n_frames, encoding.c.n_samples)

clip = Table(
    "clip",
    METADATA,
    Column("clip_id", BIG, primary_key=True, autoincrement=True),
    Column("space_key", ForeignKey("space.space_key", ondelete="CASCADE"), nullable=False),
    Column("media_id", ForeignKey("media.media_id", ondelete="CASCADE"), nullable=False),
    Column("start_s", Float(53), nullable=False),
    Column("end_s", Float(53), nullable=False),
    Column("first_frame", Integer, nullable=False),
    Column("n_frames", Integer, nullable=False),
    # Ids are never used twice: an old vector index can then never point at a new clip.
    sqlite_autoincrement=True,
)
Index("ix_clip_space_key_clip_id", clip.c.space_key, clip.c.clip_id)
Index("ix_clip_media_id_space_key", clip.c.media_id, clip.c.space_key)

# How often the set of Clips of a Space has changed. No foreign key: a Space that is dropped and added again goes on
# counting, so an index of its first life is never taken for one of its second.
clip_version = Table(
    "clip_version",
    METADATA,
    Column("space_key", String(128), primary_key=True),
    Column("version", BIG, nullable=False),
    Column("last_id", BIG, nullable=False),
    # Removals up to this version are not in the log any more.
    Column("trimmed", BIG, nullable=False),
)

# Which Clips went with which version, until the saved index knows.
clip_removed = Table(
    "clip_removed",
    METADATA,
    Column("space_key", String(128), primary_key=True),
    Column("version", BIG, primary_key=True, autoincrement=False),
    Column("clip_id", BIG, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# Media that lost a path to another content: gone at the end of a run, unless some path has come to hold them.
loose_media = Table(
    "loose_media",
    METADATA,
    Column("media_id", ForeignKey("media.media_id", ondelete="CASCADE"), primary_key=True),
)

# One row: tells this catalog from one that was made anew, whose ids start at 1 again, and whose it is.
identity = Table(
    "identity",
    METADATA,
    Column("catalog_id", String(32), primary_key=True),
    Column("library_id", String(32)),
)

skipped = Table(
    "skipped",
    METADATA,
    Column("path", PathText, primary_key=True),
    Column("reason", PathText, nullable=False),
)

# A run of lines that one file, stream or reader gave for a Media. ``origin``: the file beside it; empty when the text
# is inside the Media. ``stream``: which of its streams, -1 for none.
text_track = Table(
    "text_track",
    METADATA,
    Column("track_id", BIG, primary_key=True, autoincrement=True),
    Column("media_id", ForeignKey("media.media_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("source", String(16), nullable=False),
    Column("language", String(32), nullable=False),
    Column("origin", PathText, nullable=False),
    Column("stream", Integer, nullable=False),
    Column("size_bytes", BIG, nullable=False),
    Column("mtime_ns", BIG, nullable=False),
    Column("n_lines", Integer, nullable=False),
    Column("n_tokens", BIG, nullable=False),
    sqlite_autoincrement=True,
)

# ``tokens``: what the line is found by, with spaces between. SQLite has the virtual table ``text_index`` over it,
# PostgreSQL an index of its own kind: both made by the migration, for neither can be said here.
text_line = Table(
    "text_line",
    METADATA,
    Column("line_id", BIG, primary_key=True, autoincrement=True),
    Column("track_id", ForeignKey("text_track.track_id", ondelete="CASCADE"), nullable=False),
    Column("start_s", Float(53), nullable=False),
    Column("end_s", Float(53), nullable=False),
    Column("text", PathText, nullable=False),
    Column("tokens", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_text_line_track_id", text_line.c.track_id, text_line.c.start_s)

# Media that were looked into for text, and how: what was read the same way before is not read again.
text_reading = Table(
    "text_reading",
    METADATA,
    Column("media_id", ForeignKey("media.media_id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("reading", Text, nullable=False),
)

FOUND_BY = ("text_index", "text_terms", "ix_text_line_tokens", "ix_path_bytes")
"""Names of what only one of the databases has, made by the migrations; SQLite's own tables of it begin with them."""
