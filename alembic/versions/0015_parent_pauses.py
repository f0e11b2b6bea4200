"""Pauses by parents: until when nothing of a child plays.

Revision ID: 0015
Revises: 0014
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("profiles", sa.Column("paused_at", sa.DateTime(timezone=True)))
    op.add_column("profiles", sa.Column("paused_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("profiles", "paused_until")
    op.drop_column("profiles", "paused_at")
