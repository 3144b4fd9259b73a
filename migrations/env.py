"""Runs migrations on the connection that the Catalog hands over (``config.attributes["connection"]``)."""

from alembic import context

from ivsearch.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
