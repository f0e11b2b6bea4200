"""The older platform's design, rebuilt: every heartbeat reads and writes PostgreSQL.

A FastAPI route with pydantic models. Each heartbeat looks up the profile, the settings, the title and the session,
upserts the day's usage with a fixed amount, and reads it again for the answer. Its tables are in a separate schema;
profiles, settings and titles come from the service's tables.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.auth.tokens import Principal
from app.clock import now_ms
from app.errors import Unauthenticated
from app.postgres_store.engine import create_engine
from app.settings.settings import Settings
from app.wiring.external_identity import tokens_of

POOL = 10
BEAT_MINUTES = 0.5
WEEKEND = 5

_LOCK = text("SELECT pg_advisory_xact_lock(4711)")
_SCHEMA = (
    text("CREATE SCHEMA IF NOT EXISTS bench_direct"),
    text("""
        CREATE TABLE IF NOT EXISTS bench_direct.sessions (
            id uuid PRIMARY KEY, profile_id uuid NOT NULL, title_id varchar(64) NOT NULL,
            device_id varchar(100) NOT NULL, device_type varchar(10) NOT NULL, started_at timestamptz NOT NULL,
            last_beat_at timestamptz NOT NULL, ended_at timestamptz)
    """),
    text("""
        CREATE TABLE IF NOT EXISTS bench_direct.usage (
            profile_id uuid NOT NULL, day date NOT NULL, used_minutes double precision NOT NULL,
            educational_minutes double precision NOT NULL, PRIMARY KEY (profile_id, day))
    """),
    text("TRUNCATE bench_direct.sessions, bench_direct.usage"),
)
_PROFILE = text("SELECT id, account_id, is_kids, timezone FROM profiles WHERE id = :id")
_CONFIG = text("SELECT * FROM viewing_time_configs WHERE profile_id = :id")
_TITLE = text("SELECT * FROM titles WHERE id = :id")
_SESSION = text("SELECT * FROM bench_direct.sessions WHERE id = :id")
_OPEN = text("""
    INSERT INTO bench_direct.sessions (id, profile_id, title_id, device_id, device_type, started_at, last_beat_at)
    VALUES (:id, :profile_id, :title_id, :device_id, :device_type, :at, :at) ON CONFLICT (id) DO NOTHING
""")
_TOUCH = text("UPDATE bench_direct.sessions SET last_beat_at = :at WHERE id = :id")
_END = text("UPDATE bench_direct.sessions SET ended_at = :at WHERE id = :id RETURNING started_at")
_COUNT = text("""
    INSERT INTO bench_direct.usage AS u (profile_id, day, used_minutes, educational_minutes)
    VALUES (:id, :day, :used, :educational)
        ON CONFLICT (profile_id, day) DO UPDATE
       SET used_minutes = u.used_minutes + excluded.used_minutes,
           educational_minutes = u.educational_minutes + excluded.educational_minutes
""")
_USAGE = text("SELECT * FROM bench_direct.usage WHERE profile_id = :id AND day = :day")


class Beat(BaseModel):
    profile_id: str
    title_id: str
    device_id: str = Field(max_length=100)
    device_type: str = "web"
    session_id: str | None = None
    is_paused: bool = False
    watched_seconds: float | None = None


class Answer(BaseModel):
    session_id: str
    enforcement: str
    remaining_minutes: float | None
    used_minutes: float
    is_educational: bool


class Ended(BaseModel):
    session_id: str
    total_seconds: float
    ended_at: datetime


def create_app(settings: Settings) -> FastAPI:
    """The baseline on the database of the settings."""
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=POOL, timeout_seconds=30)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    tokens = tokens_of(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as database:
            await database.execute(_LOCK)
            for statement in _SCHEMA:
                await database.execute(statement)
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

    @app.post("/api/v1/viewing-time/heartbeat")
    async def heartbeat(beat: Beat, caller: Caller, database: Database) -> Answer:
        at = datetime.fromtimestamp(now_ms() / 1000, UTC)
        profile = await _one(database, _PROFILE, id=beat.profile_id)
        if profile is None or str(profile["account_id"]) != caller.account_id:
            raise HTTPException(403)
        config = await _one(database, _CONFIG, id=beat.profile_id)
        title = await _one(database, _TITLE, id=beat.title_id)
        if config is None or title is None:
            raise HTTPException(404)
        session_id = await _session(database, beat, at)
        is_exempt = title["is_educational"] and config["educational_exempt"]
        minutes = 0.0 if beat.is_paused else BEAT_MINUTES
        amounts = {"used": 0.0 if is_exempt else minutes, "educational": minutes if is_exempt else 0.0}
        await database.execute(_COUNT, {"id": beat.profile_id, "day": at.date(), **amounts})
        await database.commit()
        return await _decision(database, beat, config, session_id, at.date(), is_educational=title["is_educational"])

    @app.post("/api/v1/viewing-time/session/{session_id}/end")
    async def end(session_id: str, _: Caller, database: Database, request: Request) -> Ended:
        await request.body()
        at = datetime.fromtimestamp(now_ms() / 1000, UTC)
        ended = (await database.execute(_END, {"id": session_id, "at": at})).mappings().first()
        await database.commit()
        total_seconds = (at - ended["started_at"]).total_seconds() if ended else 0.0
        return Ended(session_id=session_id, total_seconds=total_seconds, ended_at=at)

    return app


async def _session(database: AsyncSession, beat: Beat, at: datetime) -> str:
    session_id = beat.session_id or str(uuid4())
    if await _one(database, _SESSION, id=session_id) is None:
        values = beat.model_dump(include={"profile_id", "title_id", "device_id", "device_type"})
        await database.execute(_OPEN, {"id": session_id, "at": at, **values})
    else:
        await database.execute(_TOUCH, {"id": session_id, "at": at})
    return session_id


async def _decision(
    database: AsyncSession, beat: Beat, config: dict[str, Any], session_id: str, day: date, *, is_educational: bool
) -> Answer:
    usage = await _one(database, _USAGE, id=beat.profile_id, day=day)
    used_minutes = usage["used_minutes"] if usage else 0.0
    limit = config["weekend_limit_minutes" if day.weekday() >= WEEKEND else "weekday_limit_minutes"]
    remaining = None if limit is None else max(0.0, limit - used_minutes)
    return Answer(
        session_id=session_id,
        enforcement="blocked" if remaining == 0 and not is_educational else "allowed",
        remaining_minutes=remaining,
        used_minutes=used_minutes,
        is_educational=is_educational,
    )


async def _one(database: AsyncSession, statement: Any, **values: object) -> dict[str, Any] | None:  # noqa: ANN401
    found = (await database.execute(statement, values)).mappings().first()
    return None if found is None else dict(found)
