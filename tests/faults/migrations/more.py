"""An example of an expanding migration of a later release: one more column."""

import sqlalchemy as sa
from alembic import op

from app.postgres_store.migrate import head

revision = "more"
down_revision = head()
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '1s'")
    op.add_column("viewing_time_balances", sa.Column("more", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '1s'")
    op.drop_column("viewing_time_balances", "more")
