"""Monthly partitions of usage, made ahead of time."""

from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.instants import utc
from app.postgres_store.access import transaction

_MONTHS_BACK = 2
_MONTHS_AHEAD = 3
# Balances are updated about once a minute while a child watches: room on each page keeps those updates off the index.
_STORAGE = {"viewing_time_balances": " WITH (fillfactor = 70)", "viewing_sessions": " WITH (fillfactor = 80)"}


async def make_partitions(
    engine: AsyncEngine, *, at_ms: int, months_back: int = _MONTHS_BACK, months_ahead: int = _MONTHS_AHEAD
) -> list[str]:
    """Make the missing partitions around an instant; answers their names. Raises DatabaseUnavailable."""
    made: list[str] = []
    async with transaction(engine) as database:
        for table, storage in _STORAGE.items():
            for offset in range(-months_back, months_ahead + 1):
                first, following = _month(at_ms, offset), _month(at_ms, offset + 1)
                name = f"{table}_{first:%Y_%m}"
                if not await _exists(database, name):
                    await database.execute(
                        text(
                            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} "
                            f"FOR VALUES FROM ('{first}') TO ('{following}'){storage}"
                        )
                    )
                    made.append(name)
    return made


async def _exists(database: AsyncConnection, name: str) -> bool:
    found = await database.execute(text("SELECT to_regclass(:name)"), {"name": name})
    return found.scalar_one() is not None


def _month(at_ms: int, offset: int) -> date:
    today = utc(at_ms).date()
    months = today.year * 12 + today.month - 1 + offset
    return date(months // 12, months % 12 + 1, 1)
