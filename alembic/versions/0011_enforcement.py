"""Enforcement by profile. Without one, the mode of the account's market holds.

Revision ID: 0011
Revises: 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0008"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("profiles", sa.Column("enforcement", sa.String(10)))


def downgrade() -> None:
    op.drop_column("profiles", "enforcement")
