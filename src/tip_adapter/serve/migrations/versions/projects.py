"""The first tables: projects, their classes, photos and changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "projects",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("encoder", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(200), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
    )
    op.create_table(
        "classes",
        *_of_a_project(),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("is_none", sa.Boolean, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
    )
    op.create_table(
        "photos",
        *_of_a_project(),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("origin", sa.String(20), nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("added", sa.Float, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("class_id", sa.String(36)),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("vector", sa.LargeBinary),
        sa.Column("thumbnail", sa.LargeBinary),
        sa.Column("content", sa.LargeBinary),
    )
    op.create_table(
        "changes",
        *_of_a_project(),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
    )


def _of_a_project() -> list[sa.schema.SchemaItem]:
    project = sa.Column("project_id", sa.String(36), primary_key=True)
    return [project, sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE")]
