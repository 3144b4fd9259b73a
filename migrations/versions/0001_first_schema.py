"""The first schema: media, their paths, spaces, encodings, clips, skipped files.

Revision: 0001
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "media",
        sa.Column("media_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("duration_s", sa.Float(53), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("codec", sa.String(64), nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("fps", sa.Float(53)),
        sa.Column("recorded_at_s", sa.Float(53)),
        sa.Column("warnings", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("media_id", name="pk_media"),
    )
    op.create_table(
        "path",
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("media_id", sa.String(32), nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("mtime_ns", BIG, nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_path"),
        sa.ForeignKeyConstraint(["media_id"], ["media.media_id"], name="fk_path_media_id", ondelete="CASCADE"),
    )
    op.create_index("ix_path_media_id", "path", ["media_id"])
    op.create_table(
        "space",
        sa.Column("space_key", sa.String(128), nullable=False),
        sa.Column("encoder", sa.String(128), nullable=False),
        sa.Column("revision", sa.String(128), nullable=False),
        sa.Column("dim", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("space_key", name="pk_space"),
    )
    op.create_table(
        "encoding",
        sa.Column("media_id", sa.String(32), nullable=False),
        sa.Column("space_key", sa.String(128), nullable=False),
        sa.Column("sampling", sa.String(64), nullable=False),
        sa.Column("segment", sa.String(64), nullable=False),
        sa.Column("offset_bytes", BIG, nullable=False),
        sa.Column("size_bytes", BIG, nullable=False),
        sa.Column("n_samples", sa.Integer, nullable=False),
        sa.Column("n_frames", sa.Integer, nullable=False),
        sa.Column("n_clips", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("media_id", "space_key", name="pk_encoding"),
        sa.ForeignKeyConstraint(["media_id"], ["media.media_id"], name="fk_encoding_media_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["space_key"], ["space.space_key"], name="fk_encoding_space_key", ondelete="CASCADE"),
    )
    op.create_table(
        "clip",
        sa.Column("clip_id", BIG, nullable=False, autoincrement=True),
        sa.Column("space_key", sa.String(128), nullable=False),
        sa.Column("media_id", sa.String(32), nullable=False),
        sa.Column("start_s", sa.Float(53), nullable=False),
        sa.Column("end_s", sa.Float(53), nullable=False),
        sa.Column("first_frame", sa.Integer, nullable=False),
        sa.Column("n_frames", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("clip_id", name="pk_clip"),
        sa.ForeignKeyConstraint(["space_key"], ["space.space_key"], name="fk_clip_space_key", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["media_id"], ["media.media_id"], name="fk_clip_media_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_clip_media_id_space_key", "clip", ["media_id", "space_key"])
    op.create_index("ix_clip_space_key_clip_id", "clip", ["space_key", "clip_id"])
    identity = op.create_table(
        "identity",
        sa.Column("catalog_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("catalog_id", name="pk_identity"),
    )
    op.bulk_insert(identity, [{"catalog_id": uuid4().hex}])
    op.create_table(
        "skipped",
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_skipped"),
    )
