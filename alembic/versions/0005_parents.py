"""Reserved attempts of PINs and passwords, and the covered time of a grant.

The zone of a child is the zone of its config. Profiles with another zone are updated.

Revision ID: 0005
Revises: 0004
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("lockouts", sa.Column("reserved_ms", JSONB, nullable=False, server_default="{}"))
    op.add_column("time_grants", sa.Column("covered_ms", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("""
        UPDATE profiles p SET timezone = c.timezone
          FROM viewing_time_configs c WHERE c.profile_id = p.id AND p.timezone <> c.timezone
    """)


def downgrade() -> None:
    op.drop_column("time_grants", "covered_ms")
    op.drop_column("lockouts", "reserved_ms")
