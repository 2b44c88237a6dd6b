"""What agents were sent to start from; NULL, as in older rows, is everything."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("updates", sa.Column("start_bytes", sa.Integer, nullable=True))
    op.add_column("snapshots", sa.Column("bytes_down", sa.Integer, nullable=True))
