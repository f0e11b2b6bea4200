"""Record which code may run on this schema.

One row names the oldest revision whose code still works on the schema. ``alembic/env.py`` writes it after each
migration, from the mark ``compatible_from`` of that migration, or else from the last mark before it. A migration that
only expands has no mark. A contracting migration names the first revision whose code does not need the removed object.

Revision ID: 0006
Revises: 0005
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None
compatible_from: str | None = "0002"


def upgrade() -> None:
    op.create_table(
        "schema_compatibility",
        sa.Column("only_row", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("compatible_from", sa.String(length=32), nullable=False),
        sa.CheckConstraint("only_row", name=op.f("ck_schema_compatibility_one_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_schema_compatibility")),
    )


def downgrade() -> None:
    op.drop_table("schema_compatibility")
