"""PostgreSQL fails, is cut off, locked, full, overloaded, or migrated."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.counters import cold
from app.domain.policy import DayTerms
from app.errors import DatabaseUnavailable
from app.lab.chaos.deployment import ChaosDeployment
from app.lab.chaos.proxy import NetworkFault
from app.postgres_store import usage as usage_module
from app.postgres_store.compatibility import MIGRATIONS
from app.postgres_store.engine import create_engine
from app.postgres_store.migrate import alembic_config
from app.postgres_store.partitions import make_partitions
from app.postgres_store.usage import PostgresUsage
from app.reconciling.service import DifferenceKind
from app.redis_store.keys import Keys
from tests.faults.disks import tiny_disk
from tests.faults.households import Home
from tests.faults.record import PATIENT, Trial
from tests.faults.services import worker_metric

Begin = Callable[..., Trial]
FLUSH_LAG_SECONDS = 3.0
"""Two flush intervals with the settings of the test deployment."""
SOON_SECONDS = 15.0


@pytest.mark.faults
def test_stopped_at_once(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(20, "PostgreSQL stopped at once, away for 60 s") as watching:
        deployment.stop_postgres()
        watching.endure(60)
        deployment.postgres.start()
        assert deployment.eventually(
            lambda: deployment.oldest_unflushed_seconds() < FLUSH_LAG_SECONDS, seconds=SOON_SECONDS
        )
    watching.expect_exact()
    watching.expect_answers("200")


def test_connections_are_cut(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(21, "connections to PostgreSQL cut every second") as watching:
        for _ in range(3):
            deployment.cut_postgres()
            watching.endure(1)
    watching.expect_exact()
    watching.expect_answers("200")


@pytest.mark.faults
@pytest.mark.parametrize(
    "weather", [NetworkFault.BLACK_HOLE, NetworkFault.RESET, NetworkFault.REPLIES_LOST, NetworkFault.SLICED]
)
def test_the_network_to_postgres(deployment: ChaosDeployment, trial: Begin, weather: NetworkFault) -> None:
    with trial(21, f"network to PostgreSQL: {weather.value} for 3 s") as watching:
        deployment.to_postgres.weather = weather
        watching.endure(3)
        deployment.to_postgres.weather = NetworkFault.FAIR
        watching.until_flushed()
    watching.expect_exact()
    watching.expect_answers("200")


@pytest.mark.faults
def test_a_poison_row(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(24, "a row that violates a constraint") as watching:
        poisoned = watching.clients.profile_ids[0]
        deployment.sql(
            "ALTER TABLE viewing_time_balances ADD CONSTRAINT poison"
            f" CHECK (profile_id <> '{poisoned}' OR used_ms + educational_ms < 1000) NOT VALID"
        )
        assert deployment.eventually(lambda: deployment.sql("SELECT count(*) FROM parked_rows") != "0", seconds=30)
        assert [
            each.profile_id for each in deployment.findings().differences if each.kind is DifferenceKind.DEAD_LETTERS
        ] == [poisoned]
        assert deployment.eventually(lambda: worker_metric(deployment, "hourglass_parked_rows_total") > 0, seconds=30)
        deployment.sql("ALTER TABLE viewing_time_balances DROP CONSTRAINT poison")
        deployment.sql("DELETE FROM parked_rows")
    # Counters are absolute: once the cause is gone, the child's next flush carries everything.
    watching.expect_exact()
    watching.expect_answers("200")


@pytest.mark.faults
def test_a_locked_row(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(22, "a row locked for 30 s", size=40) as watching:
        buckets = Keys(deployment.settings.buckets)
        [locked, *others] = watching.clients.profile_ids
        elsewhere = [child for child in others if buckets.bucket(child) != buckets.bucket(locked)]
        assert deployment.eventually(lambda: deployment.sql(_counted([locked], at_least_ms=0)) == "1", seconds=30)
        holder = deployment.background.run(asyncpg.connect(deployment.postgres.url))
        deployment.background.run(holder.execute("BEGIN"))
        deployment.background.run(
            holder.execute("SELECT * FROM viewing_time_balances WHERE profile_id = $1 FOR UPDATE", UUID(locked))
        )
        watching.endure(30)
        assert deployment.sql(_counted(elsewhere, at_least_ms=8000)) == str(len(elsewhere)), "others were held up"
        deployment.background.run(holder.close())
    watching.expect_exact()
    watching.expect_answers("200")


def _counted(children: Sequence[str], *, at_least_ms: int) -> str:
    ids = ", ".join(f"'{child}'" for child in children)
    return (
        "SELECT count(*) FROM viewing_time_balances"  # noqa: S608  our own ids
        f" WHERE profile_id IN ({ids})"
        f" AND used_ms + educational_ms + overrun_ms >= {at_least_ms}"
    )


@pytest.mark.faults
def test_its_disk_is_full(deployment: ChaosDeployment, trial: Begin) -> None:
    """Where the rows of balances and sessions lie there is no room; the log of writes lies elsewhere."""
    with ExitStack() as ending:
        folder = ending.enter_context(tiny_disk(deployment.folder / "tiny", megabytes=2))
        shutil.chown(folder, user=deployment.postgres.cluster.owner())
        deployment.sql(f"CREATE TABLESPACE tiny LOCATION '{folder}'")
        partitions = deployment.sql(
            "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'viewing_sessions'::regclass"
        ).splitlines()
        for partition in partitions:
            deployment.sql(f"ALTER TABLE {partition} SET TABLESPACE tiny")
        ballast = folder / "ballast"
        with suppress(OSError):
            ballast.write_bytes(bytes(4 * 2**20))
        with trial(25, "PostgreSQL's disk full for 8 s", size=400, interval_seconds=2.0) as watching:
            watching.endure(6)
            assert deployment.findings().waiting > 0, "it had room after all"
            ballast.unlink()
            watching.until_flushed()
        for partition in partitions:
            deployment.sql(f"ALTER TABLE {partition} SET TABLESPACE pg_default")
        deployment.sql("DROP TABLESPACE tiny")
    watching.expect_exact()
    watching.expect_answers("200")


@pytest.mark.faults
def test_a_pool_of_one_and_fifty_reports(deployment: ChaosDeployment, trial: Begin) -> None:
    deployment.stop_deployment()
    deployment.start_deployment(settings={"database_pool": 1, **PATIENT})
    home = Home.found(deployment)

    def report(number: int) -> int:
        path = "weekly-report" if number % 2 else f"profiles/{home.child}/history"
        return home.call("GET", f"/parental-controls/{path}", headers=home.parent).status_code

    with trial(26, "pool of 1 and 50 reports at once") as watching, ThreadPoolExecutor(50) as threads:
        statuses = set(threads.map(report, range(50)))
    deployment.stop_deployment()
    watching.expect_exact()
    watching.expect_answers("200")
    assert statuses <= {200, 429, 503}


@pytest.mark.faults
def test_migrations_under_load(deployment: ChaosDeployment, trial: Begin) -> None:
    config = alembic_config(deployment.postgres.url)
    own = Path(__file__).parent / "migrations"
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{MIGRATIONS / 'versions'}\n{own}")
    with trial(27, "migration up and down, 3 times") as watching:
        for _ in range(3):
            command.upgrade(config, "more")
            command.downgrade(config, "-1")
    watching.expect_exact()
    watching.expect_answers("200")


# --- two writers


DAY = DayTerms(20_717, 1_789_948_800_000, 1_790_035_200_000, 7_200_000, 7_200_000)
ROWS = 3000
ROUNDS = 10
MAX_BURSTS = 20


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, pool_size=4, timeout_seconds=20)
    await make_partitions(engine, at_ms=DAY.starts_ms)
    yield engine
    await engine.dispose()


async def _deadlocks_of_two_writers(engine: AsyncEngine) -> int:
    """Both write the same children again and again, each in an order of its own."""
    children = [str(uuid4()) for _ in range(ROWS)]

    async def write(order: Sequence[str]) -> None:
        usage = PostgresUsage(engine, lambda: DAY.starts_ms)
        for number in range(ROUNDS):
            counters = cold(terms=DAY, policy_version=1, at_ms=DAY.starts_ms + number)
            with suppress(DatabaseUnavailable):
                await usage.upsert([(child, counters) for child in order])

    await write(children[:1])
    before = await _deadlocks(engine)
    await asyncio.gather(write(children), write(children[::-1]))
    return await _deadlocks(engine) - before


async def _deadlocks(engine: AsyncEngine) -> int:
    """As counted once those who counted them have gone."""
    await engine.dispose()
    while True:
        async with engine.connect() as database:
            others = await database.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if others.scalar_one():
                continue
            rows = await database.exec_driver_sql(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
            return int(rows.scalar_one())


async def test_two_sorted_writers_never_deadlock(engine: AsyncEngine) -> None:
    assert await _deadlocks_of_two_writers(engine) == 0


async def test_unsorted_writers_would(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant, in which each connection has an order of its own: what keeps the test above quiet is the sorting."""
    in_order = "ORDER BY n.profile_id, n.day"
    assert in_order in usage_module._BALANCES
    statement = usage_module._BALANCES.replace(in_order, "ORDER BY md5(n.profile_id::text || pg_backend_pid())")
    monkeypatch.setattr(usage_module, "_BALANCES", statement)
    bursts = [await _deadlocks_of_two_writers(engine)]
    while not any(bursts) and len(bursts) < MAX_BURSTS:
        bursts.append(await _deadlocks_of_two_writers(engine))
    assert any(bursts)
