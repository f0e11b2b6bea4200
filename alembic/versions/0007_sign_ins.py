"""Sign-ins that can be ended, titles that leave the catalogue, and admins in the audit log.

Revision ID: 0007
Revises: 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("id", UUID(as_uuid=False), nullable=False),
        sa.Column("account_id", UUID(as_uuid=False), nullable=False),
        sa.Column("device_name", sa.String(length=100)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_sign_ins_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_ins")),
    )
    for column in ("account_id", "expires_at", "ended_at"):
        op.create_index(op.f(f"ix_sign_ins_{column}"), "sign_ins", [column])
    op.add_column("accounts", sa.Column("sign_ins_ended_at", sa.DateTime(timezone=True)))
    op.add_column("titles", sa.Column("removed_at", sa.DateTime(timezone=True)))
    op.alter_column("audit_log", "account_id", existing_type=UUID(as_uuid=False), nullable=True)
    op.alter_column("audit_log", "actor", existing_type=sa.String(length=100), type_=sa.String(length=300))
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_titles_removed_at"),
            "titles",
            ["removed_at"],
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.execute("DELETE FROM audit_log WHERE account_id IS NULL")
    op.execute("UPDATE audit_log SET actor = left(actor, 100) WHERE length(actor) > 100")
    op.alter_column("audit_log", "actor", existing_type=sa.String(length=300), type_=sa.String(length=100))
    op.alter_column("audit_log", "account_id", existing_type=UUID(as_uuid=False), nullable=False)
    op.drop_index(op.f("ix_titles_removed_at"), "titles")
    op.drop_column("titles", "removed_at")
    op.drop_column("accounts", "sign_ins_ended_at")
    op.drop_table("sign_ins")
