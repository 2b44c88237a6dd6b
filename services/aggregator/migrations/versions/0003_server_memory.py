"""What a strategy's rule remembers from round to round, beside the model it belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("snapshots", sa.Column("memory", sa.LargeBinary, nullable=True))
