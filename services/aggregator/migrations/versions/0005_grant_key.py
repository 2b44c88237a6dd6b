"""What the grants of a run's assignments are made with; runs from before need none."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    key = sa.Column("grant_key", sa.LargeBinary, nullable=False, server_default=sa.text("x''"))
    op.add_column("runs", key)
