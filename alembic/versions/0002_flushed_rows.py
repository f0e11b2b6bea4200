"""Types of the rows that a flush sends.

A statement takes all its rows as one array. The row types differ from the tables, which may get columns that a flush
does not write.

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.execute("""
        CREATE TYPE flushed_balance AS (
            profile_id uuid, day integer, starts_ms bigint, ends_ms bigint, limit_ms bigint, allowance_ms bigint,
            used_ms bigint, educational_ms bigint, overrun_ms bigint, version bigint
        )
    """)
    op.execute("""
        CREATE TYPE flushed_session AS (
            id uuid, day integer, started_ms bigint, profile_id uuid, title_id text, is_educational boolean,
            device_id text, device_type text, session_started_ms bigint, last_beat_ms bigint, has_ended boolean,
            paused_since_ms bigint, watched_ms bigint, used_ms bigint, educational_ms bigint, overrun_ms bigint,
            earlier_ms bigint, version bigint
        )
    """)


def downgrade() -> None:
    op.execute("DROP TYPE flushed_session")
    op.execute("DROP TYPE flushed_balance")
