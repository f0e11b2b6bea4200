"""Accounts and profiles by the platform's own ids; accounts without e-mail address and password.

The indexes are built concurrently: nobody waits for them, however many accounts there are.

Revision ID: 0008
Revises: 0007
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NO_PASSWORD = "$2b$12$C6UzMDM.H6dfI/f/IKcEe." + "." * 31  # a hash that no password has


def upgrade() -> None:
    op.alter_column("accounts", "email", existing_type=sa.String(320), nullable=True)
    op.alter_column("accounts", "password_hash", existing_type=sa.Text(), nullable=True)
    op.add_column("accounts", sa.Column("external_id", sa.String(255)))
    op.add_column("accounts", sa.Column("market", sa.String(50)))
    op.add_column("profiles", sa.Column("external_id", sa.String(255)))
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_accounts_external_id")  # of a run that was interrupted
        op.execute("CREATE UNIQUE INDEX CONCURRENTLY ix_accounts_external_id ON accounts (external_id)")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_profiles_account_id_external_id")
        op.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY ix_profiles_account_id_external_id ON profiles (account_id, external_id)"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_profiles_external_uuid")
        op.execute(
            "CREATE UNIQUE INDEX CONCURRENTLY ix_profiles_external_uuid ON profiles (external_id)"
            " WHERE external_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
        )


def downgrade() -> None:
    op.drop_index("ix_profiles_external_uuid", "profiles")
    op.drop_index("ix_profiles_account_id_external_id", "profiles")
    op.drop_index("ix_accounts_external_id", "accounts")
    op.drop_column("profiles", "external_id")
    op.drop_column("accounts", "market")
    op.drop_column("accounts", "external_id")
    op.execute(f"""
        UPDATE accounts SET email = COALESCE(email, id || '@platform.invalid'),
                            password_hash = COALESCE(password_hash, '{_NO_PASSWORD}')
         WHERE email IS NULL OR password_hash IS NULL
    """)  # noqa: S608  the hash is a constant of this file
    op.alter_column("accounts", "password_hash", existing_type=sa.Text(), nullable=False)
    op.alter_column("accounts", "email", existing_type=sa.String(320), nullable=False)
