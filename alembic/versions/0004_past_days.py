"""Columns that judge past days, and offline playback as sessions.

This migration only adds columns. Unknown values of older rows stay NULL: their exemption comes from the next config,
and older offline playback is not listed in history.

Revision ID: 0004
Revises: 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("viewing_time_config_history", sa.Column("educational_exempt", sa.Boolean(), nullable=True))
    op.add_column("viewing_time_balances", sa.Column("penalty_ms", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("offline_batches", sa.Column("penalty_ms", sa.BigInteger(), server_default="0", nullable=False))
    for column in (
        sa.Column("session_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("device_id", sa.String(length=100), nullable=True),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("is_educational", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("educational_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("overrun_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_settled", sa.Boolean(), server_default="false", nullable=False),
    ):
        op.add_column("offline_intervals", column)
    # Only the configs in force still know their exemption.
    op.execute("""
        UPDATE viewing_time_config_history h
           SET educational_exempt = c.educational_exempt
          FROM viewing_time_configs c
         WHERE c.profile_id = h.profile_id AND c.version = h.version
    """)
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_offline_intervals_profile_id_starts_ms"),
            "offline_intervals",
            ["profile_id", "starts_ms"],
            unique=False,
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_index(op.f("ix_offline_intervals_profile_id_starts_ms"), table_name="offline_intervals")
    for name in (
        "is_settled", "overrun_ms", "educational_ms", "is_educational", "day", "device_id", "session_id",
    ):  # fmt: skip
        op.drop_column("offline_intervals", name)
    op.drop_column("offline_batches", "penalty_ms")
    op.drop_column("viewing_time_balances", "penalty_ms")
    op.drop_column("viewing_time_config_history", "educational_exempt")
