"""Which version an update started from and which it is applied to, when rounds overlap."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("version", "base_version"):
        op.add_column("updates", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    # Until now rounds did not overlap: each started from its own version and made the next one.
    op.execute("UPDATE updates SET version = round, base_version = round")
    op.add_column("snapshots", sa.Column("missing", sa.Text, nullable=False, server_default="[]"))
