"""Running sessions and days, whose end the event feed tells.

Revision ID: 0014
Revises: 0013
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "feed_open_sessions",
        sa.Column("session_id", UUID(as_uuid=False), nullable=False),
        sa.Column("profile_id", UUID(as_uuid=False), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_feed_open_sessions"),
    )
    op.create_index("ix_feed_open_sessions_profile_id", "feed_open_sessions", ["profile_id"])
    op.create_table(
        "feed_open_days",
        sa.Column("profile_id", UUID(as_uuid=False), nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("ends_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("profile_id", "day", name="pk_feed_open_days"),
    )
    op.create_index("ix_feed_open_days_ends_ms", "feed_open_days", ["ends_ms"])


def downgrade() -> None:
    op.drop_table("feed_open_days")
    op.drop_table("feed_open_sessions")
