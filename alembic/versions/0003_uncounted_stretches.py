"""Uncounted stretches of sessions, and the number of abandoned sessions.

The flush uses new row types. The old types stay for workers of the previous version.

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "viewing_sessions",
        sa.Column("uncounted_ms", postgresql.ARRAY(sa.BigInteger()), nullable=False, server_default="{}"),
    )
    op.add_column("viewing_sessions", sa.Column("lease_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column(
        "viewing_time_balances", sa.Column("abandoned_sessions", sa.Integer(), nullable=False, server_default="0")
    )
    op.execute("""
        CREATE TYPE flushed_balance_v2 AS (
            profile_id uuid, day integer, starts_ms bigint, ends_ms bigint, limit_ms bigint, allowance_ms bigint,
            used_ms bigint, educational_ms bigint, overrun_ms bigint, abandoned_sessions integer, version bigint
        )
    """)
    op.execute("""
        CREATE TYPE flushed_session_v2 AS (
            id uuid, day integer, started_ms bigint, profile_id uuid, title_id text, is_educational boolean,
            device_id text, device_type text, session_started_ms bigint, last_beat_ms bigint, has_ended boolean,
            paused_since_ms bigint, watched_ms bigint, used_ms bigint, educational_ms bigint, overrun_ms bigint,
            earlier_ms bigint, lease_ms bigint, uncounted_ms bigint[], version bigint
        )
    """)


def downgrade() -> None:
    op.execute("DROP TYPE flushed_session_v2")
    op.execute("DROP TYPE flushed_balance_v2")
    op.drop_column("viewing_time_balances", "abandoned_sessions")
    op.drop_column("viewing_sessions", "lease_ms")
    op.drop_column("viewing_sessions", "uncounted_ms")
