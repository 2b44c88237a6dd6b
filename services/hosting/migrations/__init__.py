"""Alembic's environment, shared by the services' migrations."""
