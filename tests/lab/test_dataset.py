"""The dataset of the report benchmark, and its baseline."""

from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from app.auth.tokens import Role
from app.clock import now_ms
from app.domain.markets import Markets
from app.lab.bench import dataset as past
from app.lab.bench.baselines import n_plus_one
from app.lab.bench.dataset import CHILDREN_AN_ACCOUNT, DAYS, SESSION_DAYS, SESSIONS_A_DAY, Dataset
from app.lab.bench.parts.reports import ids_of
from app.postgres_store.engine import create_engine
from app.postgres_store.migrate import upgrade
from app.postgres_store.reports import PostgresReports
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.reports.weekly import WeeklyReports
from app.wiring.external_identity import tokens_of
from tests.builders import settings_for
from tests.servers import Databases, running_postgres

CHILDREN = 24
WHOLE_FAMILIES = 20


@pytest.fixture(scope="module")
def server() -> Iterator[Databases]:
    """Of its own: the past is a copy of the one database named ``hourglass``."""
    with running_postgres() as started:
        upgrade(started.url)
        yield started


@pytest.fixture(scope="module")
def made(server: Databases, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("past")
    advanced: list[float] = []
    made = past.prepare(folder, server, CHILDREN, viewers=0, advance=advanced.append)
    assert sum(advanced) >= past.rows_of(WHOLE_FAMILIES)
    assert past.prepare(folder, server, CHILDREN, viewers=0, advance=_never) == made
    return made


def _never(_: float) -> None:
    raise AssertionError("what is there was made again")


def test_every_child_has_a_year_of_days_and_three_months_of_sessions(server: Databases, made: Dataset) -> None:
    def count(what: str) -> list[int]:
        return [int(number) for number in server.execute(f"SELECT {what}", database=past.NAME).split("|")]

    assert (made.children, made.accounts) == (WHOLE_FAMILIES, WHOLE_FAMILIES // CHILDREN_AN_ACCOUNT)
    per_child = "count(*), count(DISTINCT profile_id), min(n), max(n) FROM (SELECT profile_id, count(*) AS n FROM"
    assert count(f"{per_child} viewing_time_balances GROUP BY 1) x") == [20, 20, DAYS, DAYS]
    sessions = SESSION_DAYS * SESSIONS_A_DAY
    assert count(f"{per_child} viewing_sessions GROUP BY 1) x") == [20, 20, sessions, sessions]
    gaps = """
        count(*) FROM viewing_time_balances a JOIN viewing_time_balances b USING (profile_id)
         WHERE b.day = a.day + 1 AND b.starts_ms <> a.ends_ms
    """
    assert count(gaps) == [0]
    outside = """
        count(*) FROM viewing_sessions s JOIN viewing_time_balances b USING (profile_id, day)
         WHERE s.session_started_ms < b.starts_ms OR s.session_started_ms >= b.ends_ms
    """
    assert count(outside) == [0]
    [grants] = count("count(*) FROM time_grants")
    assert 0 < grants < WHOLE_FAMILIES * SESSION_DAYS / 5


async def test_the_baseline_answers_like_the_service(made: Dataset) -> None:
    """Two queries for each child add up to the same week, so that both do the same work."""
    settings = settings_for(database_url=made.url, redis_url="redis://nowhere")
    engine = create_engine(made.url, pool_size=1, timeout_seconds=30)
    weekly = WeeklyReports(PostgresReports(engine, markets=Markets()), PostgresWeeklyReports(engine))
    [account_id] = await ids_of(made, "family", [1])
    app = n_plus_one.create_app(settings)
    token = tokens_of(settings).issue(account_id=account_id, role=Role.PARENT, at_s=now_ms() // 1000, life_seconds=3600)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://baseline") as client,
    ):
        answer = await client.get(
            "/api/v1/parental-controls/weekly-report", headers={"Authorization": f"Bearer {token}"}
        )
    theirs = answer.json()
    last = datetime.fromisoformat(theirs["week_end"]).date()
    ours = await weekly.report(account_id=account_id, week_ending=last, at_ms=now_ms() + 2 * 86_400_000)
    assert len(theirs["profiles"]) == CHILDREN_AN_ACCOUNT
    for their, our in zip(theirs["profiles"], ours.children, strict=True):
        assert their["profile_id"] == our.profile_id
        assert their["total_seconds"] == our.total_ms / 1000
        assert [day["counted_seconds"] for day in their["daily"]] == [day.counted_ms / 1000 for day in our.days]
    await engine.dispose()
