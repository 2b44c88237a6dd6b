"""What Alembic runs for every service's migrations: on the connection that `_upgrade` gives it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
