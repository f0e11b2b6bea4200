"""The older platform's weekly report, rebuilt: two queries per child, and sums in Python.

Its objects load whole rows, its sessions load their titles, and it also loads the week before. It reads the service's
tables with the same indexes.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.tokens import Principal
from app.clock import now_ms
from app.errors import Unauthenticated
from app.postgres_store.engine import create_engine
from app.settings.settings import Settings
from app.wiring.external_identity import tokens_of

POOL = 10
WEEK = 7
TOP = 3

_PROFILES = text("SELECT * FROM profiles WHERE account_id = :account_id AND is_kids ORDER BY created_at, id")
_BALANCES = text("""
    SELECT * FROM viewing_time_balances WHERE profile_id = :id AND day BETWEEN :first AND :last ORDER BY day
""")
_SESSIONS = text("""
    SELECT s.*, t.name AS title_name FROM viewing_sessions s LEFT JOIN titles t ON t.id = s.title_id
     WHERE s.profile_id = :id AND s.started_at >= :since AND s.started_at < :until ORDER BY s.started_at
""")


class Day(BaseModel):
    date: date
    counted_seconds: float
    educational_seconds: float
    limit_minutes: int | None


class Title(BaseModel):
    title_id: str
    title_name: str | None
    total_seconds: float


class Child(BaseModel):
    profile_id: str
    profile_name: str
    daily: list[Day]
    total_seconds: float
    average_daily_seconds: float
    change_percent: float | None
    top_titles: list[Title]


class Report(BaseModel):
    week_start: date
    week_end: date
    profiles: list[Child]


def create_app(settings: Settings) -> FastAPI:
    """The baseline on the database of the settings."""
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=POOL, timeout_seconds=30)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    tokens = tokens_of(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    async def database() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    def caller(authorization: Annotated[str, Header()]) -> Principal:
        try:
            return tokens.verify(authorization.removeprefix("Bearer "), at_s=now_ms() // 1000)
        except Unauthenticated as error:
            raise HTTPException(401) from error

    app = FastAPI(lifespan=lifespan)
    Database = Annotated[AsyncSession, Depends(database)]  # noqa: N806  a type
    Caller = Annotated[Principal, Depends(caller)]  # noqa: N806  likewise

    @app.get("/api/v1/parental-controls/weekly-report")
    async def weekly_report(caller: Caller, database: Database) -> Report:
        last = datetime.fromtimestamp(now_ms() / 1000, UTC).date() - timedelta(days=1)
        profiles = await _all(database, _PROFILES, account_id=caller.account_id)
        children = [await _child(database, profile, last) for profile in profiles]
        return Report(week_start=last - timedelta(days=WEEK - 1), week_end=last, profiles=children)

    return app


async def _child(database: AsyncSession, profile: dict[str, Any], last: date) -> Child:
    first, before = last - timedelta(days=WEEK - 1), last - timedelta(days=2 * WEEK - 1)
    balances = await _all(database, _BALANCES, id=profile["id"], first=before, last=last)
    since, until = (datetime.combine(day, datetime.min.time(), UTC) for day in (first, last + timedelta(days=2)))
    sessions = await _all(database, _SESSIONS, id=profile["id"], since=since, until=until)
    week = [balance for balance in balances if balance["day"] >= first]
    total_ms, previous_ms = sum(map(_total_ms, week)), sum(map(_total_ms, balances)) - sum(map(_total_ms, week))
    titles: Counter[tuple[str, str | None]] = Counter()
    for session in sessions:
        titles[session["title_id"], session["title_name"]] += _total_ms(session)
    return Child(
        profile_id=str(profile["id"]),
        profile_name=profile["name"],
        daily=[
            Day(
                date=balance["day"],
                counted_seconds=balance["used_ms"] / 1000,
                educational_seconds=balance["educational_ms"] / 1000,
                limit_minutes=None if balance["limit_ms"] is None else balance["limit_ms"] // 60_000,
            )
            for balance in week
        ],
        total_seconds=total_ms / 1000,
        average_daily_seconds=total_ms / WEEK / 1000,
        change_percent=100 * (total_ms / previous_ms - 1) if previous_ms else None,
        top_titles=[
            Title(title_id=title_id, title_name=name, total_seconds=watched_ms / 1000)
            for (title_id, name), watched_ms in titles.most_common(TOP)
        ],
    )


def _total_ms(row: dict[str, Any]) -> int:
    return int(row["used_ms"] + row["educational_ms"] + row["overrun_ms"])


async def _all(database: AsyncSession, statement: Any, **values: object) -> list[dict[str, Any]]:  # noqa: ANN401
    return [dict(row) for row in (await database.execute(statement, values)).mappings()]
