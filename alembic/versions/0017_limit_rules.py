"""Rules of limits: limits by day of the week, holidays. NULL for settings that use none.

Revision ID: 0017
Revises: 0016
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TABLES = ("viewing_time_configs", "viewing_time_config_history")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("rules", JSONB()))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "rules")
