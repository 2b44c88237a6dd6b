"""Runs and agents."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False, unique=True),
        sa.Column("request_id", sa.Text, nullable=False, unique=True),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("create_time", sa.Float, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("end_time", sa.Float),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("parameters_sha256", sa.Text, nullable=False),
        sa.Column("settled", sa.Boolean, nullable=False),
        sa.Column("rounds_done", sa.Integer, nullable=False),
        sa.Column("loss", sa.Float),
        sa.Column("bytes_down", sa.Integer, nullable=False),
        sa.Column("bytes_up", sa.Integer, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column("diverged", sa.Integer, nullable=False),
    )
    op.create_index("ix_runs_settled", "runs", ["settled"])
    op.create_table(
        "agents",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("capabilities", sa.Text, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
    )
