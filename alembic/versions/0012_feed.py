"""The event feed.

Revision ID: 0012
Revises: 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, UUID

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "feed_events",
        sa.Column("id", UUID(as_uuid=False), nullable=False),
        sa.Column("written", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("position", sa.BigInteger),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("account_id", UUID(as_uuid=False), nullable=False),
        sa.Column("profile_id", UUID(as_uuid=False)),
        sa.Column("account_external_id", sa.String(255)),
        sa.Column("profile_external_id", sa.String(255)),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feed_events"),
        sa.UniqueConstraint("position", name="uq_feed_events_position"),
    )
    op.create_index("ix_feed_events_account_id", "feed_events", ["account_id"])
    op.create_index("ix_feed_events_written_at", "feed_events", ["written_at"])
    op.create_index(
        "ix_feed_events_unnumbered", "feed_events", ["written"], postgresql_where=sa.text("position IS NULL")
    )
    op.create_table(
        "feed_state",
        sa.Column("only_row", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("last_position", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("removed_until", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("only_row", name="pk_feed_state"),
        sa.CheckConstraint("only_row", name="ck_feed_state_one_row"),
    )
    op.execute("INSERT INTO feed_state DEFAULT VALUES")


def downgrade() -> None:
    op.drop_table("feed_state")
    op.drop_table("feed_events")
