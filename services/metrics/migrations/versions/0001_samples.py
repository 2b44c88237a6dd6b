"""Series, their samples, and the batches that were stored."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "name", "source", "unit"),
    )
    op.create_table(
        "samples",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), nullable=False),
        sa.Column("round", sa.Integer, nullable=True),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
    )
    op.create_index("samples_by_series", "samples", ["series_id", "round", "time_ns", "value"])
    op.create_table(
        "batches",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("stored_ns", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
