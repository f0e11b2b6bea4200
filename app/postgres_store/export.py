"""What PostgreSQL keeps about profiles and accounts, read page by page.

No export holds a connection, or the whole in memory.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Executable, Select, literal, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import ProfileAccessDenied, Unauthenticated
from app.postgres_store.access import connection, is_uuid
from app.postgres_store.profile_tables import ACCOUNT_KINDS, KINDS, ProfileTable
from app.postgres_store.tables import accounts, profiles, titles

_PAGE = 250
_WEEKLY_REPORTS = "weekly_reports"
_SECRETS = frozenset({"password_hash", "pin_hash"})
_REPORTS = text("""
SELECT w.week_ending, w.as_of, c.child AS report
  FROM weekly_reports w, jsonb_array_elements(w.report -> 'children') AS c(child)
 WHERE w.account_id = :account_id AND c.child ->> 'profile_id' = :profile_id
 ORDER BY w.week_ending
""")

Row = Mapping[str, Any]


class PostgresExport:
    """Every call may raise DatabaseUnavailable."""

    kinds = (*KINDS, _WEEKLY_REPORTS)
    account_kinds = tuple(ACCOUNT_KINDS)

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def profile(self, account_id: str, profile_id: str) -> Row:
        """The profile itself. Raises ProfileAccessDenied."""
        if not (is_uuid(account_id) and is_uuid(profile_id)):
            raise ProfileAccessDenied
        mine = (profiles.c.id == profile_id) & (profiles.c.account_id == account_id)
        async with connection(self._engine) as database:
            row = (await database.execute(select(profiles).where(mine))).mappings().one_or_none()
        if row is None:
            raise ProfileAccessDenied
        return dict(row)

    async def pages(self, kind: str, account_id: str, profile_id: str) -> AsyncIterator[Sequence[Row]]:
        """All rows of a kind, a page at a time; none for a kind of which there are none."""
        if kind == _WEEKLY_REPORTS:
            values = {"account_id": account_id, "profile_id": profile_id}
            if reports := await self._read(_REPORTS, values):
                yield reports
            return
        async for page in self._pages_of(KINDS[kind], "profile_id", profile_id):
            yield page

    async def account(self, account_id: str) -> Row:
        """The account itself, without the hashes of its secrets. Raises Unauthenticated."""
        if not is_uuid(account_id):
            raise Unauthenticated
        columns = [column for column in accounts.c if column.name not in _SECRETS]
        wanted = select(*columns, accounts.c.pin_hash.is_not(None).label("has_pin")).where(accounts.c.id == account_id)
        async with connection(self._engine) as database:
            row = (await database.execute(wanted)).mappings().one_or_none()
        if row is None:
            raise Unauthenticated
        return dict(row)

    async def profile_ids(self, account_id: str) -> list[str]:
        """The profiles of an account, oldest first."""
        mine = select(profiles.c.id).where(profiles.c.account_id == account_id)
        async with connection(self._engine) as database:
            return list((await database.execute(mine.order_by(profiles.c.created_at, profiles.c.id))).scalars())

    async def account_pages(self, kind: str, account_id: str) -> AsyncIterator[Sequence[Row]]:
        """All rows of a kind that the account has, a page at a time."""
        async for page in self._pages_of(ACCOUNT_KINDS[kind], "account_id", account_id):
            yield page

    async def _pages_of(self, kind: ProfileTable, owner: str, owner_id: str) -> AsyncIterator[Sequence[Row]]:
        last: Row | None = None
        while page := await self._read(_page(kind, owner, owner_id, last)):
            yield [{name: value for name, value in row.items() if name != owner} for row in page]
            last = page[-1]

    async def _read(self, statement: Executable, values: Row | None = None) -> list[Row]:
        async with connection(self._engine) as database:
            return [dict(row) for row in (await database.execute(statement, values)).mappings()]


def _page(kind: ProfileTable, owner: str, owner_id: str, last: Row | None) -> Select[Any]:
    """The rows of an owner that follow one, with the names of titles beside their ids."""
    table = kind.table
    key = [table.c[name] for name in kind.key]
    rows: Select[Any] = select(*table.c)
    if "title_id" in table.c:
        rows = select(*table.c, titles.c.name.label("title_name")).outerjoin_from(
            table, titles, titles.c.id == table.c.title_id
        )
    rows = rows.where(table.c[owner] == owner_id).order_by(*key).limit(_PAGE)
    if last is None:
        return rows
    return rows.where(tuple_(*key) > tuple_(*(literal(last[column.name], column.type) for column in key)))
