"""Changes of clips are counted and removals logged, so that an index is caught up without comparing everything; whose
library the catalog is; indexes for counting large tables, and one for paths below a folder.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "clip_version",
        sa.Column("space_key", sa.String(128), nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("last_id", BIG, nullable=False),
        sa.Column("trimmed", BIG, nullable=False),
        sa.PrimaryKeyConstraint("space_key", name="pk_clip_version"),
    )
    # What was removed before is not known: version 1 is the first whose log is whole.
    op.execute(
        """INSERT INTO clip_version (space_key, version, last_id, trimmed)
        SELECT space.space_key, 1, COALESCE((SELECT max(clip_id) FROM clip), 0), 1 FROM space"""
    )
    op.create_table(
        "clip_removed",
        sa.Column("space_key", sa.String(128), nullable=False),
        sa.Column("version", BIG, nullable=False, autoincrement=False),
        sa.Column("clip_id", BIG, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("space_key", "version", "clip_id", name="pk_clip_removed"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "loose_media",
        sa.Column("media_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("media_id", name="pk_loose_media"),
        sa.ForeignKeyConstraint(["media_id"], ["media.media_id"], name="fk_loose_media_media_id", ondelete="CASCADE"),
    )
    op.execute(
        """INSERT INTO loose_media (media_id) SELECT media_id FROM media
        WHERE NOT EXISTS (SELECT 1 FROM path WHERE path.media_id = media.media_id)"""
    )
    op.add_column("identity", sa.Column("library_id", sa.String(32)))
    op.create_index("ix_media_kind", "media", ["kind", "duration_s", "size_bytes"])
    op.create_index("ix_encoding_space_key", "encoding", ["space_key", "n_frames", "n_samples"])
    if op.get_bind().dialect.name == "postgresql":
        # Paths are compared by their bytes, which the primary key does not sort by there.
        op.execute('CREATE INDEX ix_path_bytes ON path (path COLLATE "C", media_id)')
