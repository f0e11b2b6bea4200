"""Receivers of webhooks.

Revision ID: 0018
Revises: 0017
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, UUID

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "webhook_receivers",
        sa.Column("id", UUID(as_uuid=False), nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("kinds", ARRAY(sa.String(50))),
        sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
        sa.Column("sealed_previous", sa.LargeBinary),
        sa.Column("previous_until", sa.DateTime(timezone=True)),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("disabled_reason", sa.String(50)),
        sa.Column("failing_since", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_receivers"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("receiver_id", UUID(as_uuid=False), nullable=False),
        sa.Column("event_id", UUID(as_uuid=False), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dead_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.String(50)),
        sa.PrimaryKeyConstraint("receiver_id", "event_id", name="pk_webhook_deliveries"),
        sa.ForeignKeyConstraint(
            ["receiver_id"], ["webhook_receivers.id"], ondelete="CASCADE", name="fk_webhook_deliveries_receiver_id"
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["feed_events.id"], ondelete="CASCADE", name="fk_webhook_deliveries_event_id"
        ),
    )
    op.create_index("ix_webhook_deliveries_event_id", "webhook_deliveries", ["event_id"])


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
    op.drop_table("webhook_receivers")
