"""What breaks and the finishing of titles need of a day, in balances and in flushed rows.

Revision ID: 0019
Revises: 0018
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_COLUMNS = ("unbroken_ms", "played_until_ms", "borrowed_ms", "owed_ms", "finish_until_ms")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column(
            "viewing_time_balances", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
        )
    # A type of its own, so that processes of the release before can still flush.
    op.execute(
        """
        CREATE TYPE flushed_balance_v3 AS (
            profile_id uuid, day int, starts_ms bigint, ends_ms bigint, limit_ms bigint, allowance_ms bigint,
            used_ms bigint, educational_ms bigint, overrun_ms bigint, abandoned_sessions int, unbroken_ms bigint,
            played_until_ms bigint, borrowed_ms bigint, owed_ms bigint, finish_until_ms bigint, version bigint
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TYPE flushed_balance_v3")
    for name in _COLUMNS:
        op.drop_column("viewing_time_balances", name)
