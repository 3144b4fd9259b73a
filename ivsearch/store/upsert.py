"""Rows that may be there already: SQLite and PostgreSQL say it alike, SQLAlchemy for each apart."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def upsert(connection: sa.Connection, table: sa.Table) -> sa.sql.Insert:
    """Replaces all but the key of rows that are there."""
    row = insert(connection, table)
    keys = [column.name for column in table.primary_key]
    others = {column.name: row.excluded[column.name] for column in table.c if column.name not in keys}
    return row.on_conflict_do_update(index_elements=keys, set_=others)
