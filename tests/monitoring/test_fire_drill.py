"""A real Prometheus monitors the real service during faults: each alert fires, and clears after the repair.

The rules are those of deploy/monitoring with shorter durations. Every query of every dashboard returns data.
"""

import functools
import signal
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from redis import Redis

from app.embedded.valkey import Valkey
from scripts import monitoring
from tests.deployed import Deployed, free_port, is_good
from tests.monitoring.drill import (
    BUCKETS,
    DESCRIPTORS,
    POOL,
    PROMETHEUS,
    Prometheus,
    WatchingFamily,
    again_and_again,
    freeze,
    locked,
    prometheus_of,
    stand_still,
    too_many_connections,
)
from tests.servers import Databases, running_postgres, running_valkey
from tests.watchers import add_title

pytestmark = [
    pytest.mark.skipif(not PROMETHEUS.exists(), reason="Prometheus is not installed (package prometheus)"),
    pytest.mark.timeout(1200),
]
SERVICE = {
    "HOURGLASS_FLUSH_CYCLE_SECONDS": "0.2",
    "HOURGLASS_FLUSH_AGE_SECONDS": "0.5",
    "HOURGLASS_POLICY_SWEEP_SECONDS": "0.5",
    "HOURGLASS_POLICY_TTL_SECONDS": "1",
    "HOURGLASS_DATABASE_TIMEOUT_SECONDS": "1",
    "HOURGLASS_DATABASE_POOL": str(POOL),
    "HOURGLASS_REDIS_TIMEOUT_SECONDS": "5",  # standing still for a moment is slow, not away
    "HOURGLASS_TOKEN_REQUESTS_PER_MINUTE": "0",
    "HOURGLASS_ACCOUNT_REQUESTS_PER_MINUTE": "0",
    "HOURGLASS_ACCESS_LOG": "0",
    "HOURGLASS_BUCKETS": str(BUCKETS),
    "HOURGLASS_ACCURACY_SECONDS": "2",
    "HOURGLASS_EVENT_FEED": "true",
    "HOURGLASS_EVENT_PRIVATE_RECEIVERS": "true",
    "HOURGLASS_METRICS_DIR": "",
    "PROMETHEUS_MULTIPROC_DIR": "",
}


@dataclass
class Drill:
    """A service, what it stands on, and who watches it."""

    deployed: Deployed
    postgres: Databases
    database: str
    valkey: Valkey
    redis: Redis
    markets: Path
    ports: dict[str, int] = field(default_factory=lambda: {"api": free_port(), "worker": free_port()})
    tried: set[str] = field(default_factory=set)
    prometheus: Prometheus = field(init=False)

    def start_worker(self) -> None:
        self.deployed.hourglass("worker", "worker", HOURGLASS_WORKER_PORT=str(self.ports["worker"]))

    def start_api(self) -> str:
        port = self.ports["api"]
        api = (sys.executable, "-m", "app.cli", "api", "--workers", "1", "--port", str(port))
        self.deployed.start("api", "prlimit", f"--nofile={DESCRIPTORS}", *api)
        url = f"http://127.0.0.1:{port}"
        self.deployed.until(lambda: is_good(f"{url}/health/ready"), "the API is ready")
        return url

    def fire(self, *alerts: str) -> None:
        """Wait until each of the alerts has fired."""
        missing = set(alerts)

        def fired() -> bool:
            missing.difference_update(self.prometheus.firing())
            return not missing

        self.deployed.until(fired, f"fire, of {alerts}")
        self.tried.update(alerts)

    def clear(self, *alerts: str) -> None:
        """Wait until none of the alerts fires."""
        self.deployed.until(lambda: not set(alerts) & self.prometheus.firing(), f"clear: {alerts}")

    def sql(self, statement: str) -> str:
        return self.postgres.execute(statement, database=self.database)

    def write_markets(self, text: str) -> None:
        self.markets.write_text(text, encoding="utf-8")


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    with running_postgres() as postgres, running_valkey() as valkey:
        address = postgres.fresh()
        markets = tmp_path / "markets.toml"
        markets.write_text("[markets.no]\n", encoding="utf-8")
        variables = {
            "DATABASE_URL": address,
            "REDIS_URL": valkey.url,
            "HOURGLASS_MARKETS_FILE": str(markets),
            **SERVICE,
        }
        redis = Redis.from_url(valkey.url)
        with Deployed(tmp_path, variables) as deployed:
            made = Drill(deployed, postgres, urllib.parse.urlsplit(address).path.strip("/"), valkey, redis, markets)
            made.start_worker()
            add_title(made.start_api(), deployed.token("service"))
            made.prometheus = prometheus_of(deployed, **made.ports)
            yield made
        redis.close()


def _falsify_a_balance(drill: Drill, family: WatchingFamily) -> None:
    """PostgreSQL says that a child has watched an hour more."""
    balance = f"SELECT used_ms FROM viewing_time_balances WHERE profile_id = '{family.children[1]}'"  # noqa: S608  ours
    drill.deployed.until(lambda: drill.sql(balance), "the child is flushed")
    drill.sql(f"UPDATE viewing_time_balances SET used_ms = used_ms + 3600000 WHERE profile_id = '{family.children[1]}'")  # noqa: S608  ours
    drill.fire("HourglassDecisionsWrong")


def _redis_loses_everything(drill: Drill) -> None:
    """It is recovered from PostgreSQL, with the falsified balance, so that both agree again."""
    drill.clear("HourglassRedisRegressed")
    drill.redis.flushall()
    drill.fire("HourglassRedisRegressed")
    drill.clear("HourglassRedisRegressed", "HourglassDecisionsWrong")


def _nobody_accepts_webhooks(drill: Drill) -> None:
    drill.clear("HourglassWebhookDeadLetters")
    url = f"http://127.0.0.1:{drill.ports['api']}/api/v1/platform/webhooks"
    with httpx.Client(headers={"Authorization": f"Bearer {drill.deployed.token('service')}"}) as service:
        made = service.post(url, json={"url": f"http://127.0.0.1:{free_port()}/"}).raise_for_status().json()
        waiting = "SELECT count(*) FROM webhook_deliveries WHERE attempts > 0"
        drill.deployed.until(lambda: drill.sql(waiting) != "0", "an event was tried")
        drill.sql("UPDATE webhook_deliveries SET first_at = first_at - INTERVAL '4 days', next_at = now()")
        drill.fire("HourglassWebhookDeadLetters")
        service.delete(f"{url}/{made['id']}").raise_for_status()
    drill.clear("HourglassWebhookDeadLetters")


def _dashboards_have_data(drill: Drill) -> None:
    def is_answered(query: str) -> bool:
        return bool(drill.prometheus.query(query.replace(monitoring.RATE, "5s")))

    for dashboard in monitoring.dashboards():
        for panel in dashboard.panels:
            for query in panel.queries.values():
                drill.deployed.until(functools.partial(is_answered, query), f"{panel.title}: {query}")


def _clients_are_too_many_or_hostile(drill: Drill, family: WatchingFamily) -> None:
    drill.clear("HourglassConnectionsRefused", "HourglassLockoutStorm")
    with again_and_again(family.guess, pause_seconds=0.1):
        drill.fire("HourglassLockoutStorm")
    with too_many_connections(drill.ports["api"]):
        drill.fire("HourglassConnectionsRefused")
    drill.clear("HourglassConnectionsRefused", "HourglassLockoutStorm")


def _files_are_wrong(drill: Drill) -> None:
    drill.clear("HourglassMarketsFileRefused")
    drill.write_markets("[markets.no]\nreset_hour = 99\n")
    drill.fire("HourglassMarketsFileRefused")
    drill.write_markets("[markets.no]\nreset_hour = 4\n")
    drill.clear("HourglassMarketsFileRefused")


def _processes_stand_still_or_end(drill: Drill) -> None:
    drill.clear("HourglassEventLoopBlocked", "HourglassWorkerStopped")
    with again_and_again(lambda: freeze(drill.deployed, "api")):
        drill.fire("HourglassEventLoopBlocked")
    drill.clear("HourglassEventLoopBlocked")
    drill.deployed.stop("worker", signal.SIGKILL)
    drill.fire("HourglassWorkerStopped")
    drill.start_worker()
    drill.clear("HourglassWorkerStopped")


def _redis_is_slow_unsafe_away_or_old(drill: Drill) -> None:
    slow = ("HourglassBeatsSlow", "HourglassDecisionsLate", "HourglassSettingsLate")
    drill.clear(*slow)
    with again_and_again(lambda: stand_still(drill.redis)):
        drill.fire(*slow)
    drill.clear(*slow)

    drill.clear("HourglassRedisUnsafe")
    drill.redis.config_set("maxmemory-policy", "volatile-lru")
    drill.fire("HourglassRedisUnsafe")
    drill.redis.config_set("maxmemory-policy", "noeviction")
    drill.clear("HourglassRedisUnsafe")

    drill.clear("HourglassRedisAway", "HourglassBeatsNotAnswered")
    drill.valkey.stop()
    drill.fire("HourglassRedisAway", "HourglassBeatsNotAnswered")
    drill.valkey.start()
    drill.clear("HourglassRedisAway", "HourglassBeatsNotAnswered")


def _postgresql_is_locked_busy_or_away(drill: Drill, family: WatchingFamily) -> None:
    poison = f"CHECK (profile_id <> '{family.children[2]}') NOT VALID"
    table = "ALTER TABLE viewing_time_balances"
    drill.clear("HourglassDeadLetters")
    drill.postgres.execute(f"{table} ADD CONSTRAINT drill {poison}", database=drill.database)
    drill.fire("HourglassDeadLetters")
    drill.postgres.execute(f"{table} DROP CONSTRAINT drill", database=drill.database)

    drill.clear("HourglassFlushBacklog", "HourglassFlushLate")
    with locked(drill.postgres, drill.database, "viewing_time_balances"):
        drill.fire("HourglassFlushBacklog", "HourglassFlushLate")
    drill.clear("HourglassFlushBacklog")

    drill.clear("HourglassPostgresqlPoolFull")
    with (
        locked(drill.postgres, drill.database, "profiles"),
        again_and_again(family.change_settings, at_once=6 * POOL),
    ):
        drill.fire("HourglassPostgresqlPoolFull")
    drill.clear("HourglassPostgresqlPoolFull")

    away = ("HourglassPostgresqlAway", "HourglassStalePolicies", "HourglassJobFailing", "HourglassJobOverdue")
    drill.clear(*away)
    drill.postgres.stop()
    family.forget_the_resting_child(drill.redis)
    with again_and_again(family.ask_for_the_resting_child, pause_seconds=0.1):
        drill.fire(*away)
    drill.postgres.start()
    drill.clear(*away, "HourglassDeadLetters", "HourglassFlushLate")


def test_each_alert_fires_and_clears_and_every_dashboard_has_data(drill: Drill) -> None:
    with WatchingFamily(f"http://127.0.0.1:{drill.ports['api']}") as family:
        for _ in range(6):
            family.guess()
        _falsify_a_balance(drill, family)
        _dashboards_have_data(drill)
        _nobody_accepts_webhooks(drill)
        _clients_are_too_many_or_hostile(drill, family)
        _files_are_wrong(drill)
        _processes_stand_still_or_end(drill)
        _redis_is_slow_unsafe_away_or_old(drill)
        _postgresql_is_locked_busy_or_away(drill, family)
        _redis_loses_everything(drill)
    drill.clear("HourglassApiDown")
    drill.deployed.stop("api")
    drill.fire("HourglassApiDown")
    drill.start_api()
    drill.clear("HourglassApiDown")
    assert drill.tried == set(monitoring.alert_names()), "each alert was seen firing and clearing"
