"""The table of fine-tuned heads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "fine_tunings",
        sa.Column("project_id", sa.String(36), primary_key=True),
        sa.Column("job", sa.JSON, nullable=False),
        sa.Column("arrays", sa.LargeBinary),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE"),
    )
