"""Bringing a database to the current schema, with the Alembic migrations that travel with the package."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ivsearch.errors import LibraryTooNew
from ivsearch.store.engine import Connections


def migrations_folder() -> Path:
    """Inside the installed package, else beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def upgrade(reader: Connections, writer: Connections) -> None:
    """Creates the tables or migrates them to the newest schema, in one transaction.

    Raises LibraryTooNew when the database was made by a newer ivsearch.
    """
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    with reader.begin() as connection:
        if current_revision(connection) == scripts.get_current_head():
            return  # without waiting for a writer
    with writer.begin() as connection:
        at = current_revision(connection)
        if at == scripts.get_current_head():
            return
        known = {script.revision for script in scripts.walk_revisions()}
        if at is not None and at not in known:
            raise LibraryTooNew(
                f"the catalog has schema {at}, which this ivsearch does not know: it was written by a newer one. "
                "Upgrade ivsearch, or name another --library"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current_revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
