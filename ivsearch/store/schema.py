"""Bringing a database to the current schema, with the Alembic migrations that travel with the package."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from ivsearch.errors import LibraryTooNew
from ivsearch.store.engine import Connections

NEWEST = "0003"
"""The revision that the tables of this version have: the last of the migrations."""


def migrations_folder() -> Path:
    """Inside the installed package, else beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def upgrade(reader: Connections, writer: Connections) -> None:
    """Creates the tables or migrates them to the newest schema, in one transaction.

    Raises LibraryTooNew when the database was made by a newer ivsearch.
    """
    with reader.begin() as connection:
        if current_revision(connection) == NEWEST:
            return  # without waiting for a writer
    # Not above: it takes a tenth of a second, and is needed once in the life of a library.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    with writer.begin() as connection:
        at = current_revision(connection)
        if at == NEWEST:
            return
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if at is not None and at not in known:
            raise LibraryTooNew(
                f"the catalog has schema {at}, which this ivsearch does not know: it was written by a newer one. "
                "Upgrade ivsearch, or name another --library"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current_revision(connection: sa.Connection) -> str | None:
    """As Alembic notes it; None in an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision
