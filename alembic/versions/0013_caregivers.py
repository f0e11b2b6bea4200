"""Devices of caregivers: a role, and how many minutes they may grant a day.

Revision ID: 0013
Revises: 0012
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("devices", sa.Column("role", sa.String(10), nullable=False, server_default="parent"))
    op.add_column("devices", sa.Column("daily_grant_minutes", sa.SmallInteger))


def downgrade() -> None:
    op.drop_column("devices", "daily_grant_minutes")
    op.drop_column("devices", "role")
