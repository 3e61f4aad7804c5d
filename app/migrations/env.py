"""Alembic's entry point. Only `python -m seawall_service.migrate` runs it, with its own connection."""

from alembic import context
from sqlalchemy import Connection

SCHEMA = "app"

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table_schema=SCHEMA,
    # Each migration commits by itself, so a run that is killed continues where it stopped.
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
