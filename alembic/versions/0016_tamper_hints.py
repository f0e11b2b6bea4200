"""Hints of tampering, by viewing day and session.

Revision ID: 0016
Revises: 0015
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "tamper_hints",
        sa.Column("profile_id", UUID(as_uuid=False), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("session_id", UUID(as_uuid=False), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("device_id", sa.String(100), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name="fk_tamper_hints_profile_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("profile_id", "day", "session_id", "kind", name="pk_tamper_hints"),
    )
    op.create_index("ix_tamper_hints_noted_at", "tamper_hints", ["noted_at"])


def downgrade() -> None:
    op.drop_table("tamper_hints")
