"""Text inside the footage: tracks, their lines, and what lines are found by.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "text_track",
        sa.Column("track_id", BIG, nullable=False, autoincrement=True),
        sa.Column("media_id", sa.String(32), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("language", sa.String(32), nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("mtime_ns", BIG, nullable=False),
        sa.Column("n_lines", sa.Integer, nullable=False),
        sa.Column("n_tokens", BIG, nullable=False),
        sa.PrimaryKeyConstraint("track_id", name="pk_text_track"),
        sa.ForeignKeyConstraint(["media_id"], ["media.media_id"], name="fk_text_track_media_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_text_track_media_id", "text_track", ["media_id"])
    op.create_table(
        "text_line",
        sa.Column("line_id", BIG, nullable=False, autoincrement=True),
        sa.Column("track_id", BIG, nullable=False),
        sa.Column("start_s", sa.Float(53), nullable=False),
        sa.Column("end_s", sa.Float(53), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tokens", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("line_id", name="pk_text_line"),
        sa.ForeignKeyConstraint(
            ["track_id"], ["text_track.track_id"], name="fk_text_line_track_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_text_line_track_id", "text_line", ["track_id", "start_s"])
    op.create_table(
        "text_reading",
        sa.Column("media_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reading", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("media_id", "kind", name="pk_text_reading"),
        sa.ForeignKeyConstraint(["media_id"], ["media.media_id"], name="fk_text_reading_media_id", ondelete="CASCADE"),
    )
    if op.get_bind().dialect.name == "sqlite":
        _index_in_sqlite()
    else:
        op.execute("CREATE INDEX ix_text_line_tokens ON text_line USING gin ((tokens::tsvector))")


def _index_in_sqlite() -> None:
    """FTS5 over ``tokens``, kept up by triggers, which also see what a cascade deletes.

    The tokens come ready, with spaces between: the tokenizer ``ascii`` cuts at nothing else, for all that is not
    ASCII counts as a letter to it.
    """
    op.execute(
        """CREATE VIRTUAL TABLE text_index USING fts5(
        tokens, content='text_line', content_rowid='line_id', tokenize='ascii')"""
    )
    op.execute("CREATE VIRTUAL TABLE text_terms USING fts5vocab('text_index', 'row')")
    op.execute(
        """CREATE TRIGGER text_line_added AFTER INSERT ON text_line BEGIN
        INSERT INTO text_index(rowid, tokens) VALUES (new.line_id, new.tokens); END"""
    )
    op.execute(
        """CREATE TRIGGER text_line_removed AFTER DELETE ON text_line BEGIN
        INSERT INTO text_index(text_index, rowid, tokens) VALUES ('delete', old.line_id, old.tokens); END"""
    )
