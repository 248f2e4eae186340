"""What Alembic runs to migrate: `database.upgrade` hands over the connection, whose transaction it uses."""

from __future__ import annotations

from alembic import context

from server.decisions.tables import metadata


def migrate() -> None:
    """Runs the migrations that the command asked for."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


if __name__ == "env_py":  # Alembic's name for this file; whoever else imports it has no connection
    migrate()
